"""Where a report points to: lines and regions in the pixel coordinates of one source frame (PS3.3 C.18.6)."""

import math
from dataclasses import dataclass

import numpy as np
from highdicom.sr import (
    CoordinatesForMeasurement,
    GraphicTypeValues,
    ImageRegion,
    SourceImageForRegion,
)
from numpy.typing import NDArray

from dicom_node.errors import ReportError
from dicom_node.report.origin import Origin
from dicom_node.report.proxy import has_spacing
from dicom_node.report.references import known_class
from models.findings import Measurement

CENTER = 0.5
"""Pixel coordinates start at the corner of the first pixel, voxel coordinates at its center."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A graphic on one source frame; ``points`` float (point, (column, row))."""

    graphic: GraphicTypeValues
    points: NDArray[np.float64]
    image: SourceImageForRegion

    def as_region(self) -> ImageRegion:
        return ImageRegion(self.graphic, self.points, self.image)

    def as_coordinates(self) -> CoordinatesForMeasurement:
        return CoordinatesForMeasurement(self.graphic, self.points, self.image)


def image_of(origin: Origin, position: int) -> SourceImageForRegion:
    """Reference to the source frame of one slice; single-frame instances get no frame number."""
    header, frame = origin.frame(position)
    numbers = None if frame.number is None else [frame.number]
    return SourceImageForRegion(known_class(origin), str(header.SOPInstanceUID), numbers)


def draws_true(origin: Origin) -> bool:
    """Whether viewers draw pixel coordinates where they are.

    OHIF 3.13 multiplies columns by the row spacing where the image has Pixel Spacing, so a line would lie off
    its layer if pixels are not square. It is right where only ultrasound regions calibrate the image.
    """
    _, row_mm, column_mm = origin.acquisition.scan.spacing_mm
    square = math.isclose(row_mm, column_mm, rel_tol=1e-3)
    return square or not has_spacing(origin)


def caliper(origin: Origin, measurement: Measurement) -> tuple[Region, float] | None:
    """The drawn line of a measurement and its length in mm; None where the line leaves its slice.

    Points are kept half a pixel inside the image, as viewers subtract half a pixel. Raises ReportError when
    the measurement says another length than its line has.
    """
    if measurement.line is None or not origin.acquisition.scan.geometry.in_plane_known:
        return None
    (slice0, row0, column0), (slice1, row1, column1) = measurement.line
    position = round(slice0)
    if round(slice1) != position:
        return None
    _, rows, columns = origin.acquisition.scan.shape
    points = np.array([[column0, row0], [column1, row1]]) + CENTER
    points = np.clip(points, CENTER, np.array([columns, rows]) - CENTER)
    _, row_mm, column_mm = origin.acquisition.scan.spacing_mm
    length_mm = float(np.hypot(*((points[1] - points[0]) * (column_mm, row_mm))))
    if abs(length_mm - measurement.value) > 2 * max(row_mm, column_mm):
        raise ReportError(
            f"study {origin.study_uid}: {measurement.quantity.meaning} of segment {measurement.segment} is "
            f"{measurement.value:.2f} mm, but its line is {length_mm:.2f} mm long; no report was written"
        )
    return Region(GraphicTypeValues.POLYLINE, points, image_of(origin, position)), length_mm


def analyzed_region(origin: Origin) -> Region:
    """The outline of what was analyzed, as a closed line on the middle one of the segmented slices.

    One point more than the corners need: OHIF 3.13 takes a closed line of four corners below a group without
    a number for a rectangle drawn by hand, and then shows its area and brightest pixel as the measurement.
    """
    position = middle_slice(origin)
    valid = origin.acquisition.scan.valid[position]
    rows, columns = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        rows, columns = (np.arange(length) for length in valid.shape)
    top, bottom = rows[0] + CENTER, rows[-1] + CENTER
    left, right = columns[0] + CENTER, columns[-1] + CENTER
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    points = np.array([*corners, [left, (top + bottom) / 2], [left, top]], dtype=np.float64)
    return Region(GraphicTypeValues.POLYLINE, points, image_of(origin, position))


def center_of(region: Region) -> Region:
    """The middle of a region, as a point on the same frame."""
    middle = (region.points.min(axis=0) + region.points.max(axis=0)) / 2
    return Region(GraphicTypeValues.POINT, middle[None], region.image)


def middle_slice(origin: Origin) -> int:
    """The middle one of the slices that have a segment, else of all."""
    labelmap = origin.findings.segmentation.labelmap
    found = np.flatnonzero(labelmap.any(axis=(1, 2)))
    return int(found[len(found) // 2]) if found.size else labelmap.shape[0] // 2
