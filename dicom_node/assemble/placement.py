"""Where a stack lies: spacing, order of slices, affine, and where each of them was known from.

Order of evidence (measured, declared, assumed, unknown): the object before the site's declaration before a
placeholder. Placeholders are 1 mm, axial orientation and origin 0; they place an array and measure nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.assemble.concatenation import concatenation
from dicom_node.assemble.concatenation import order as order_of_parts
from dicom_node.assemble.grouping import Stack
from dicom_node.assemble.instances import Frame, NotNumbers
from dicom_node.assemble.regions import Box, Calibration, calibrate
from dicom_node.assemble.slices import Positions, numbered, read_positions, sort
from dicom_node.errors import Incomplete, UnsupportedPixels
from dicom_node.settings import Source as Declaration
from models.scan import Geometry, Provenance

PLACEHOLDER_MM = 1.0
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# Frame Time, its vector, and how fast to show them (PS3.3 C.7.6.5): a film has them, and a sweep may.
TIMES = ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate")
# Two statements of one spacing agree when they differ by less than rounding to three digits.
SAME_SPACING = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A stack sorted in space.

    inside     bool (slice, row, column): in the tissue region.
    pictures   the tissue regions that all frames have.
    frame_of_reference   UID of the coordinates of ``affine`` when they were measured, else "".
    notes      what a reader of the results should know about the geometry.
    """

    stack: Stack
    affine: NDArray[np.float64]
    geometry: Geometry
    inside: NDArray[np.bool_]
    pictures: tuple[Box, ...] = ()
    frame_of_reference: str = ""
    notes: tuple[str, ...] = ()


def place(study_uid: str, stack: Stack, declared: Declaration | None) -> Placed:
    """Sort the slices and find the affine (slice, row, column, 1) -> patient LPS millimeters.

    A stack without any in-plane spacing is placed too, with ``geometry.in_plane`` unknown: whether it can be
    analyzed at all is for the analysis to say. Raises Incomplete for a single frame or missing frames,
    GeometryUnknown for slices that are no regular parallel stack, UnsupportedPixels for frames of different
    size.
    """
    headers = [instance.header for instance in stack.instances]
    if len({(int(header.Rows), int(header.Columns)) for header in headers}) > 1:
        raise UnsupportedPixels(study_uid, "frames of different size in one series")
    parts = order_of_parts(study_uid, stack.frames) if concatenation(stack.instances[0]) else None
    if len(stack.frames) < 2:
        raise Incomplete(study_uid, "one frame; a volume needs at least two")
    declared = declared or Declaration()
    calibrations = {id(item): calibrate(item.header) for item in stack.instances}
    regions = {spacing for item in calibrations.values() for spacing in item.spacings_mm}
    spacing_mm, in_plane, notes = _in_plane(stack.frames, sorted(regions), declared)
    positions = read_positions(study_uid, stack.frames)
    if positions:
        order, step_mm = sort(study_uid, positions, min(spacing_mm))
    else:
        order = parts or numbered(study_uid, stack.frames)
        step_mm = declared.frame_spacing_mm
    if not step_mm and any(key in header for header in headers for key in TIMES):
        notes.append("frames follow one another in time: a film or a sweep is not declared")
    frames = tuple(stack.frames[index] for index in order)
    directions, orientation = _orientation(positions, declared)
    origin = np.zeros(3)
    if positions and orientation != "declared":
        origin = positions.points[order[0]]
    geometry = Geometry(in_plane, _step_provenance(positions, step_mm), orientation)
    return Placed(
        Stack(stack.kind, frames),
        _affine(directions, origin, (step_mm or PLACEHOLDER_MM, *spacing_mm)),
        geometry,
        np.stack([calibrations[id(frame.instance)].inside for frame in frames]),
        _common_pictures(study_uid, list(calibrations.values())),
        positions.frame_of_reference if positions else "",
        tuple(notes),
    )


def _common_pictures(study_uid: str, calibrations: Sequence[Calibration]) -> tuple[Box, ...]:
    kinds = {item.pictures for item in calibrations}
    if len(kinds) > 1 and max(map(len, kinds)) > 1:
        raise UnsupportedPixels(study_uid, "frames of one series show different tissue regions")
    return calibrations[0].pictures


def _in_plane(
    frames: Sequence[Frame], regions: list[tuple[float, float]], declared: Declaration
) -> tuple[tuple[float, float], Provenance, list[str]]:
    """Distance of rows and of columns, in mm, where it is from, and what was wrong with it."""
    notes: list[str] = []
    try:
        found = [frame.numbers("PixelMeasuresSequence", "PixelSpacing", 2) for frame in frames]
    except NotNumbers as error:
        found = []
        notes.append(f"{error} in the object and was not used")
    spacings = [(float(item[0]), float(item[1])) for item in found if item is not None]
    spacings = [item for item in dict.fromkeys(spacings) if min(item) > 0] + regions
    if spacings and np.allclose(spacings, spacings[0], rtol=SAME_SPACING, atol=0):
        return spacings[0], "measured", notes
    if spacings:
        notes.append("pixel spacings in the object contradict one another and were not used")
    if declared.pixel_spacing_mm:
        row_mm, column_mm = declared.pixel_spacing_mm
        return (row_mm, column_mm), "declared", notes
    return (PLACEHOLDER_MM, PLACEHOLDER_MM), "unknown", notes


def _orientation(
    positions: Positions | None, declared: Declaration
) -> tuple[NDArray[np.float64], Provenance]:
    """Directions of a row and of a column, (2, 3). Volume coordinates have no known place in the patient."""
    if positions and positions.in_patient:
        return positions.directions, "measured"
    if declared.orientation:
        directions = np.array(declared.orientation, np.float64).reshape(2, 3)
        return directions / np.linalg.norm(directions, axis=1, keepdims=True), "declared"
    if positions:
        return positions.directions, "unknown"
    return np.array(AXIAL).reshape(2, 3), "assumed"


def _step_provenance(positions: Positions | None, step_mm: float) -> Provenance:
    if positions:
        return "measured"
    return "declared" if step_mm else "assumed"


def _affine(
    directions: NDArray[np.float64], origin: NDArray[np.float64], spacing_mm: tuple[float, ...]
) -> NDArray[np.float64]:
    """PS3.3 C.7.6.2.1.1 with a third axis: the normal, row x column."""
    row, column = directions
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack((np.cross(row, column), column, row)) * spacing_mm
    affine[:3, 3] = origin
    return affine
