"""Square: the same scan and findings on pixels as high as wide, for viewers that know no others."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.findings import Attribution, Findings, Measurement, Voxel
from models.scan import Scan


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the new rows and columns lie in those of the scan, in voxel coordinates.

    Its upper and left edges stay; at the others up to four rows or columns lie outside the scan.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    spacing_mm: float


MULTIPLE = 4
"""Of rows and of columns: masks of one bit per pixel then fill whole pairs of bytes (``even_length``)."""


def square_grid(scan: Scan) -> Grid:
    """Pixels as small as the shorter side of the scan's own, from its upper left corner on."""
    _, row_mm, column_mm = scan.spacing_mm
    spacing_mm = min(row_mm, column_mm)

    def places(length: int, own_mm: float) -> NDArray[np.float64]:
        count = MULTIPLE * int(np.ceil((length * own_mm / spacing_mm - 1e-6) / MULTIPLE))
        return np.asarray((np.arange(count) + 0.5) * spacing_mm / own_mm - 0.5, np.float64)

    return Grid(places(scan.shape[1], row_mm), places(scan.shape[2], column_mm), spacing_mm)


def square_scan(scan: Scan, grid: Grid) -> Scan:
    """Gray levels are mixed of neighbors by distance; where other channels say nothing there is no mixing."""
    voxels = _nearest(scan.voxels, grid)
    voxels[0] = _mixed(scan.voxels[0], grid)
    affine = scan.affine.copy()
    first = np.array([0.0, grid.rows[0], grid.columns[0], 1.0])
    affine[:3, 3] = (scan.affine @ first)[:3]
    for axis in (1, 2):
        affine[:3, axis] *= grid.spacing_mm / scan.spacing_mm[axis]
    return replace(scan, voxels=voxels, valid=_nearest(scan.valid, grid), affine=affine)


def square_findings(findings: Findings, scan: Scan, grid: Grid) -> Findings:
    """Labels and maps of the nearest pixel, lines at the same place."""
    labelmap = _nearest(findings.segmentation.labelmap, grid)
    _, row_mm, column_mm = scan.spacing_mm

    def moved(point: Voxel) -> Voxel:
        position, row, column = point
        return (
            position,
            (row + 0.5) * row_mm / grid.spacing_mm - 0.5,
            (column + 0.5) * column_mm / grid.spacing_mm - 0.5,
        )

    def drawn(item: Measurement) -> Measurement:
        line = item.line and (moved(item.line[0]), moved(item.line[1]))
        return replace(item, line=line)

    def shown(item: Attribution) -> Attribution:
        return replace(item, map=_nearest(item.map, grid))

    return replace(
        findings,
        segmentation=replace(findings.segmentation, labelmap=labelmap),
        attributions=tuple(map(shown, findings.attributions)),
        measurements=tuple(map(drawn, findings.measurements)),
    )


def _nearest(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """(..., row, column) at the nearest voxels, 0 outside the scan."""
    for axis, places in ((-2, grid.rows), (-1, grid.columns)):
        at = np.floor(places + 0.5).astype(int)
        inside = at < array.shape[axis]
        array = np.take(array, np.where(inside, at, 0), axis=axis)
        array = array * (inside[:, None] if axis == -2 else inside)
    return array


def _mixed(array: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """(..., row, column) between the two nearest voxels of each axis."""
    for axis, places in ((-2, grid.rows), (-1, grid.columns)):
        last = array.shape[axis] - 1
        inside = np.clip(places, 0, last)
        low = np.minimum(np.floor(inside).astype(int), max(last - 1, 0))
        share = (inside - low).astype(np.float32)
        shape = [1] * array.ndim
        shape[axis] = share.size
        share = share.reshape(shape)
        high = np.take(array, np.minimum(low + 1, last), axis=axis)
        array = np.take(array, low, axis=axis) * (1 - share) + high * share
    return array
