"""frames: the frames of a SEG object, laid on the slices of the scan that it was drawn on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID

from dicom_node.study import Acquisition

LABEL_MAP = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage, which pydicom 3.0 does not know by name."""

PARALLEL = 0.999
"""Cosine of the angle between the normals of a mask's frame and a slice: 2.5 degrees."""

NEAR_STEPS = 0.5
"""A frame belongs to the nearest slice, which may be half a step away."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskFrame:
    """One segment of one frame.

    mask     bool (row, column).
    source   SOP Instance UID and frame number (None = single frame) that it was drawn on, or None.
    plane    (3, 3) in mm, columns: step of a row, step of a column, first pixel; None when it has no place.
    """

    number: int
    segment: int
    mask: NDArray[np.bool_]
    source: tuple[str, int | None] | None
    plane: NDArray[np.float64] | None
    frame_of_reference: str


@dataclass(frozen=True, slots=True, eq=False)
class ScanGrid:
    """The slices of a scan: their size, where they lie, and which source frame each one is.

    frame_of_reference  of ``affine``; "" when the source has no coordinates of its own.
    in_patient          whether they are the patient's; else of a volume alone (PS3.3 C.8.24.2, APEX).
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    frame_of_reference: str
    slices: Mapping[tuple[str, int | None], int]
    in_patient: bool = True


def read_grid(acquisition: Acquisition) -> ScanGrid:
    """The grid of an acquisition's first source. A declared orientation is not in any file, so not used."""
    source = acquisition.sources[0]
    headers = source.headers()
    slices: dict[tuple[str, int | None], int] = {}
    for position, frame in enumerate(source.frames):
        uid = str(headers[frame.instance].SOPInstanceUID)
        slices[uid, frame.number] = position
        if frame.number == 1:
            slices[uid, None] = position
    orientation = acquisition.scan.geometry.orientation
    own = orientation in ("measured", "unknown")
    reference = str(headers[0].get("FrameOfReferenceUID") or "") if own else ""
    scan = acquisition.scan
    return ScanGrid(scan.shape, scan.affine, reference, slices, orientation == "measured")


def read_frames(dataset: Dataset) -> list[MaskFrame]:
    """All frames of a SEG: binary, fractional (half and more is inside) or label map (PS3.3 A.51, A.92)."""
    pixels = dataset.pixel_array.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    frames = []
    for number, (group, values) in enumerate(
        zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True), start=1
    ):
        source = _source(dataset, group)
        plane = _plane(dataset, group)
        reference = str(dataset.get("FrameOfReferenceUID") or "")
        for segment, mask in _segments(dataset, group, values):
            frames.append(MaskFrame(number, segment, mask, source, plane, reference))
    return frames


def _segments(
    dataset: Dataset, group: Dataset, values: NDArray[np.generic]
) -> list[tuple[int, NDArray[np.bool_]]]:
    if dataset.SOPClassUID == LABEL_MAP:
        numbers = [int(item.SegmentNumber) for item in dataset.SegmentSequence]
        return [
            (number, values == number) for number in numbers if number and (values == number).any()
        ]
    number = int(_item(dataset, group, "SegmentIdentificationSequence").ReferencedSegmentNumber)
    highest = int(dataset.get("MaximumFractionalValue") or 1)
    return [(number, values.astype(np.int64) * 2 >= highest)] if values.any() else []


def _item(dataset: Dataset, group: Dataset, keyword: str) -> Dataset:
    """First item of a functional group: the frame's own, else the shared one, else an empty one."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for place in (group, *shared[:1]):
        items = place.get(keyword) or ()
        if items:
            return items[0]
    return Dataset()


def _source(dataset: Dataset, group: Dataset) -> tuple[str, int | None] | None:
    images = _item(dataset, group, "DerivationImageSequence").get("SourceImageSequence") or []
    if len(images) != 1:
        return None
    number = images[0].get("ReferencedFrameNumber")
    if hasattr(number, "__len__"):
        number = number[0] if len(number) == 1 else None
    return str(images[0].ReferencedSOPInstanceUID), None if number is None else int(number)


def _plane(dataset: Dataset, group: Dataset) -> NDArray[np.float64] | None:
    for sequence, kind in (("", "Patient"), ("Volume", "Volume")):
        position = _item(dataset, group, f"PlanePosition{sequence}Sequence")
        turn = _item(dataset, group, f"PlaneOrientation{sequence}Sequence")
        point = position.get(f"ImagePosition{kind}")
        directions = turn.get(f"ImageOrientation{kind}")
        spacing = _item(dataset, group, "PixelMeasuresSequence").get("PixelSpacing")
        if point and directions and spacing:
            along_row, along_column = np.array(directions, float).reshape(2, 3)
            return np.stack(
                [
                    along_column * float(spacing[0]),
                    along_row * float(spacing[1]),
                    np.array(point, float),
                ],
                1,
            )
    return None


def draw(frame: MaskFrame, grid: ScanGrid, onto: NDArray[np.bool_]) -> str:
    """Add a frame to the mask of its segment (slice, row, column); returns why it cannot be, or ""."""
    placed = frame.plane is not None and frame.frame_of_reference
    named = frame.source in grid.slices and frame.mask.shape == grid.shape[1:]
    # A mask on a volume without patient coordinates lies in the plane where viewers show the volume: what it
    # names is sure, where it lies is not.
    if (
        placed
        and grid.frame_of_reference == frame.frame_of_reference
        and (grid.in_patient or not named)
    ):
        return _draw_in_space(frame, grid, onto)
    if frame.source is None or frame.source not in grid.slices:
        return "it shares no frame of reference with its scan and names no source frame of it"
    if frame.mask.shape != grid.shape[1:]:
        return f"it is {frame.mask.shape} pixels, its scan {grid.shape[1:]}, and no coordinates relate them"
    onto[grid.slices[frame.source]] |= frame.mask
    return ""


def _draw_in_space(frame: MaskFrame, grid: ScanGrid, onto: NDArray[np.bool_]) -> str:
    """Nearest pixel of the frame for each pixel of the slice that lies nearest: flips and turns included."""
    assert frame.plane is not None
    row_step, column_step, first = frame.plane.T
    normal = np.cross(column_step, row_step)
    normal /= np.linalg.norm(normal)
    step = grid.affine[:3, 0]
    if abs(normal @ step) < PARALLEL * np.linalg.norm(step):
        return "its frames are not parallel to the slices of its scan"
    height = normal @ (first - grid.affine[:3, 3]) / (normal @ step)
    position = round(height)
    if abs(height - position) > NEAR_STEPS + 1e-6 or not 0 <= position < grid.shape[0]:
        return f"it lies {height:.1f} steps from the first slice, outside its scan"
    rows, columns = np.indices(grid.shape[1:])
    points = (
        grid.affine[:3, 0] * position
        + grid.affine[:3, 1] * rows[..., None]
        + grid.affine[:3, 2] * columns[..., None]
        + (grid.affine[:3, 3] - first)
    )
    places = [
        np.rint(points @ axis / (axis @ axis)).astype(int) for axis in (row_step, column_step)
    ]
    inside = np.logical_and.reduce(
        [(at >= 0) & (at < length) for at, length in zip(places, frame.mask.shape, strict=True)]
    )
    onto[position][inside] |= frame.mask[places[0][inside], places[1][inside]]
    return ""
