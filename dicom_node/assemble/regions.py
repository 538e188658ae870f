"""Ultrasound regions (PS3.3 C.8.5.5): where the tissue is in the image, and how large its pixels are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

SPATIAL_2D, TISSUE, CENTIMETERS = 1, 1, 3
BLACK = 0.015
"""Share of the highest gray level: above what lossy compression leaves of black."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What the regions of one instance say.

    spacings_mm  the different (row, column) spacings of its tissue regions: none, one, or a contradiction.
    inside       bool (row, column): in a tissue region; all of the image when there is none.
    """

    spacings_mm: tuple[tuple[float, float], ...]
    inside: NDArray[np.bool_]


def calibrate(header: Dataset) -> Calibration:
    """Read the tissue regions: 2D, tissue, in centimeters. The first region often is none of them.

    Deltas may be negative (direction of the axis) and corners may lie beyond the image (they are clipped).
    """
    rows, columns = int(header.Rows), int(header.Columns)
    inside = np.zeros((rows, columns), np.bool_)
    spacings: set[tuple[float, float]] = set()
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
        box = np.s_[max(first_row, 0) : last_row + 1, max(first_column, 0) : last_column + 1]
        if inside[box].size == 0:
            continue
        inside[box] = True
        spacing = _spacing_mm(region)
        if spacing:
            spacings.add(spacing)
    return Calibration(tuple(sorted(spacings)), inside if inside.any() else ~inside)


def beside_fan(gray: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is black in all frames from the top of the tissue regions down: bool (row, column).

    A region is a box, the field of a convex probe a fan in it. Where the whole first row is black there may
    be gel on the skin, and nothing is told; nor of what is black below tissue, as that may be a shadow.
    """
    brightest, region = gray.max(axis=0), np.asarray(inside.any(axis=0))
    quiet: NDArray[np.bool_] = (brightest <= BLACK * brightest[region].max()) | ~region
    if quiet[np.flatnonzero(region)[0] // region.shape[1]].all():
        return np.zeros_like(quiet)
    return np.asarray(np.minimum.accumulate(quiet, axis=0))


def _spacing_mm(region: Dataset) -> tuple[float, float] | None:
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    column, row = (abs(float(region.get(f"PhysicalDelta{axis}") or 0)) * 10 for axis in "XY")
    known = units == (CENTIMETERS, CENTIMETERS) and 0 < row < np.inf and 0 < column < np.inf
    return (round(row, 9), round(column, 9)) if known else None
