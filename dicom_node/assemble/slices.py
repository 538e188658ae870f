"""The order of slices: by measured position, else by number; and whether any is missing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.assemble.instances import Frame
from dicom_node.errors import GeometryUnknown, Incomplete

# Steps may differ by this share; a missing slice makes one twice as long.
STEP_TOLERANCE = 0.05
# Closer than a micrometer is no step of any probe.
SAME_PLACE_MM = 0.001
# Directions are written with few digits; a tenth of a degree tilts the far end of 100 mm by 0.2 mm.
DIRECTION_TOLERANCE = 2e-3
# Slices may drift sideways over the whole stack by this share of a pixel.
DRIFT_TOLERANCE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """First pixel of each frame (frame, 3) in mm, and the common directions of a row and a column (2, 3)."""

    points: NDArray[np.float64]
    directions: NDArray[np.float64]
    in_patient: bool
    frame_of_reference: str


def read_positions(study_uid: str, frames: Sequence[Frame]) -> Positions | None:
    """Patient coordinates if every frame has them, else volume coordinates, else None.

    Raises GeometryUnknown when frames are not parallel or lie in different frames of reference.
    """
    references = {str(frame.instance.header.get("FrameOfReferenceUID") or "") for frame in frames}
    if len(references) > 1:
        raise GeometryUnknown(
            study_uid, "frames of one series lie in different frames of reference"
        )
    reference = references.pop()
    if not reference:
        return None
    for name, group in (("Patient", "Plane{}Sequence"), ("Volume", "Plane{}VolumeSequence")):
        points = [f.numbers(group.format("Position"), f"ImagePosition{name}", 3) for f in frames]
        turns = [
            f.numbers(group.format("Orientation"), f"ImageOrientation{name}", 6) for f in frames
        ]
        known_points = [point for point in points if point is not None]
        known_turns = [turn for turn in turns if turn is not None]
        if len(known_points) == len(known_turns) == len(frames):
            directions = _directions(study_uid, np.array(known_turns))
            return Positions(np.array(known_points), directions, name == "Patient", reference)
    return None


def _directions(study_uid: str, turns: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.abs(turns - turns[0]).max() > DIRECTION_TOLERANCE:
        raise GeometryUnknown(study_uid, "the frames are not parallel to one another")
    row, column = turns.mean(axis=0).reshape(2, 3)
    lengths = np.linalg.norm((row, column), axis=1)
    if np.abs(lengths - 1).max() > DIRECTION_TOLERANCE or abs(row @ column) > DIRECTION_TOLERANCE:
        raise GeometryUnknown(study_uid, "image orientation is not two perpendicular unit vectors")
    return np.stack((row / lengths[0], column / lengths[1]))


def sort(study_uid: str, positions: Positions, pixel_mm: float) -> tuple[list[int], float]:
    """Frame indices along the normal (row x column), and the step in mm.

    Raises GeometryUnknown for one place, uneven steps or a sideways drift, Incomplete for a gap.
    """
    row, column = positions.directions
    normal = np.cross(row, column)
    heights = positions.points @ normal
    order = np.argsort(heights, kind="stable")
    if np.ptp(heights) < SAME_PLACE_MM:
        raise GeometryUnknown(
            study_uid, "all frames lie at one place: a film over time, not a sweep"
        )
    _check_gaps(study_uid, np.diff(heights[order]))
    points = positions.points[order]
    aside = (points - points[0]) - np.outer(heights[order] - heights[order[0]], normal)
    if np.linalg.norm(aside, axis=1).max() > DRIFT_TOLERANCE * pixel_mm:
        raise GeometryUnknown(study_uid, "the slices drift sideways: not a straight stack")
    return [int(index) for index in order], float(np.ptp(heights) / (len(order) - 1))


def _check_gaps(study_uid: str, gaps: NDArray[np.float64]) -> None:
    """The smallest gap is one step; all others must be the same, or whole steps where slices are missing."""
    step = gaps.min()
    if step < SAME_PLACE_MM:
        raise GeometryUnknown(study_uid, "two frames lie at the same place")
    steps = np.rint(gaps / step)
    missing = int(steps.sum()) - steps.size
    if missing and np.abs(gaps / step - steps).max() < STEP_TOLERANCE:
        after = int(np.argmax(steps)) + 1
        raise Incomplete(study_uid, f"{missing} missing between slices, most after slice {after}")
    if gaps.max() > (1 + STEP_TOLERANCE) * step:
        raise GeometryUnknown(
            study_uid, f"the slices are unevenly spaced, {step:.3f} to {gaps.max():.3f} mm"
        )


def numbered(study_uid: str, frames: Sequence[Frame]) -> list[int]:
    """Frame indices in the order of their numbers, for frames that have no position.

    Frames of one instance count by themselves, single frames by InstanceNumber (0020,0013). Raises Incomplete
    when a number is missing or comes twice.
    """
    if len({id(frame.instance) for frame in frames}) == 1:
        return list(range(len(frames)))
    values = [frame.instance.header.get("InstanceNumber") for frame in frames]
    if any(value in (None, "") for value in values):
        raise Incomplete(study_uid, "frames have neither position nor instance number, so no order")
    numbers = np.array([int(value) for value in values])
    order = np.argsort(numbers, kind="stable")
    gaps = np.diff(numbers[order])
    if gaps.min() == 0:
        raise Incomplete(study_uid, "two frames have the same instance number and no position")
    if gaps.max() != gaps.min():
        after = int(numbers[order][int(np.argmax(gaps))])
        raise Incomplete(study_uid, f"instances are missing after instance number {after}")
    return [int(index) for index in order]
