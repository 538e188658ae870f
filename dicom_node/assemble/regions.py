"""Ultrasound regions (PS3.3 C.8.5.5): where the tissue is in the image, and how large its pixels are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

SPATIAL_2D, TISSUE, CENTIMETERS = 1, 1, 3
BLACK = 0.015
"""Share of the highest gray level: above what lossy compression leaves of black."""


# Two tissue regions that share more than this of the smaller one are one picture.
SAME_PICTURE = 0.5


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle of pixels, ends included."""

    row: int
    column: int
    last_row: int
    last_column: int

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of an array (slice, row, column)."""
        rows = slice(self.row, self.last_row + 1)
        return np.s_[:, rows, self.column : self.last_column + 1]

    @property
    def size(self) -> int:
        return max(0, self.last_row - self.row + 1) * max(0, self.last_column - self.column + 1)

    def moved(self, rows: int, columns: int) -> "Box":
        return Box(
            self.row + rows, self.column + columns, self.last_row + rows, self.last_column + columns
        )

    def shared(self, other: "Box") -> "Box":
        """What is in both; its size may be 0."""
        return Box(
            max(self.row, other.row),
            max(self.column, other.column),
            min(self.last_row, other.last_row),
            min(self.last_column, other.last_column),
        )

    def inside(self, other: "Box") -> bool:
        return self.shared(other) == self


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What the regions of one instance say.

    spacings_mm  the different (row, column) spacings of its tissue regions: none, one, or a contradiction.
    pictures     its tissue regions, those that lie over one another as one.
    inside       bool (row, column): in a tissue region; all of the image when there is none.
    """

    spacings_mm: tuple[tuple[float, float], ...]
    pictures: tuple[Box, ...]
    inside: NDArray[np.bool_]


def calibrate(header: Dataset) -> Calibration:
    """Read the tissue regions: 2D, tissue, in centimeters. The first region often is none of them.

    Deltas may be negative (direction of the axis) and corners may lie beyond the image (they are clipped).
    """
    rows, columns = int(header.Rows), int(header.Columns)
    inside = np.zeros((rows, columns), np.bool_)
    spacings: set[tuple[float, float]] = set()
    pictures: list[Box] = []
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        if (region.get("RegionSpatialFormat"), region.get("RegionDataType")) != (
            SPATIAL_2D,
            TISSUE,
        ):
            continue
        first_column, last_column, first_row, last_row = (
            int(region[f"RegionLocation{corner}"].value)
            for corner in ("MinX0", "MaxX1", "MinY0", "MaxY1")
        )
        whole = Box(first_row, first_column, last_row, last_column)
        box = whole.shared(Box(0, 0, rows - 1, columns - 1))
        if box.size == 0:
            continue
        inside[box.slices[1:]] = True
        pictures = _joined(pictures, box)
        spacing = _spacing_mm(region)
        if spacing:
            spacings.add(spacing)
    known = inside if inside.any() else ~inside
    return Calibration(tuple(sorted(spacings)), tuple(sorted(pictures)), known)


def _joined(pictures: list[Box], box: Box) -> list[Box]:
    """Add a region: into the picture that it lies over, or as another picture."""
    apart = []
    for other in pictures:
        if box.shared(other).size > SAME_PICTURE * min(box.size, other.size):
            box = Box(
                min(box.row, other.row),
                min(box.column, other.column),
                max(box.last_row, other.last_row),
                max(box.last_column, other.last_column),
            )
        else:
            apart.append(other)
    return [*apart, box]


def beside_fan(
    gray: NDArray[np.float32], inside: NDArray[np.bool_], marked: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """What is black in all frames from the top of the tissue regions down: bool (row, column).

    A region is a box, the field of a convex probe a fan in it. Where the whole first row is black there may
    be gel on the skin, and nothing is told; nor of what is black below tissue, as that may be a shadow.
    What is ``marked`` (row, column) is writing beside the fan, as black as what it stands on.
    """
    brightest, region = gray.max(axis=0), np.asarray(inside.any(axis=0))
    quiet: NDArray[np.bool_] = (
        (brightest <= BLACK * brightest[region & ~marked].max(initial=0)) | ~region | marked
    )
    if quiet[np.flatnonzero(region)[0] // region.shape[1]].all():
        return np.zeros_like(quiet)
    return np.asarray(np.minimum.accumulate(quiet, axis=0))


def _spacing_mm(region: Dataset) -> tuple[float, float] | None:
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    column, row = (abs(float(region.get(f"PhysicalDelta{axis}") or 0)) * 10 for axis in "XY")
    known = units == (CENTIMETERS, CENTIMETERS) and 0 < row < np.inf and 0 < column < np.inf
    return (round(row, 9), round(column, 9)) if known else None
