"""Laplace thickness (T4): length of the field lines between the two surfaces of a layer.

Jones 2000; the lengths by the upwind scheme of Yezzi and Prince 2003. For research: it solves two sparse
systems per layer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import cg

from models.steps.measure.columns import Columns, Ground, Plane

TOLERANCE_MM = 1e-4
MOST_SWEEPS = 2000
STEPS = tuple((axis, side) for axis in range(3) for side in (-1, 1))
INSIDE, UPPER, LOWER, UNKNOWN = 0, 1, 2, 3


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The voxels of a layer's complete columns, numbered, and what lies beside each of them.

    neighbor   (6, cell) number of the neighbor in the order of STEPS, the cell itself where there is none.
    kind       (6, cell) INSIDE, UPPER, LOWER (beyond that surface) or UNKNOWN.
    column     (cell,) flat index of the column.
    """

    neighbor: NDArray[np.intp]
    kind: NDArray[np.int8]
    column: NDArray[np.intp]
    spacing_mm: tuple[float, float, float]


def laplace_mm(ground: Ground, columns: Columns) -> Plane:
    """T4: mean over each complete column of the length of the field line through each voxel.

    The surfaces lie half a voxel outside the outermost centers; without that half a plate of ten voxels
    reads a tenth too thick. Field lines meet the edge of what was measured at right angles, which bends
    those of a tilted layer there.
    """
    plane = np.full(columns.complete.shape, np.nan)
    if not columns.complete.any():
        return plane
    cells = _cells(ground, columns)
    along = _directions(cells, _potential(cells))
    length = _lengths(cells, along, UPPER) + _lengths(cells, -along, LOWER)
    total = np.bincount(cells.column, length, plane.size)
    count = np.bincount(cells.column, minlength=plane.size)
    np.divide(total, count, out=plane.reshape(-1), where=count > 0)
    return plane


def _cells(ground: Ground, columns: Columns) -> _Cells:
    complete = columns.complete
    rows = ground.labelmap.shape[1]
    row = np.arange(rows)[None, :, None]
    region = np.full(ground.labelmap.shape, UNKNOWN, np.int8)
    region[complete[:, None] & (row < columns.top[:, None])] = UPPER
    region[complete[:, None] & (row > columns.bottom[:, None])] = LOWER
    at_edge = np.pad(region, 1, constant_values=UNKNOWN)
    if columns.at_probe.any():  # the skin begins in the first row: above lies the probe
        at_edge[1:-1, 0, 1:-1][columns.at_probe] = UPPER
    inner = complete[:, None] & (row >= columns.top[:, None]) & (row <= columns.bottom[:, None])
    at_edge[1:-1, 1:-1, 1:-1][inner] = INSIDE
    places = np.argwhere(inner) + 1
    numbers = np.full(at_edge.shape, -1, np.intp)
    numbers[tuple(places.T)] = np.arange(len(places))
    neighbor = np.empty((6, len(places)), np.intp)
    kind = np.empty((6, len(places)), np.int8)
    for index, (axis, side) in enumerate(STEPS):
        beside = places.copy()
        beside[:, axis] += side
        kind[index] = at_edge[tuple(beside.T)]
        neighbor[index] = np.where(
            kind[index] == INSIDE, numbers[tuple(beside.T)], np.arange(len(places))
        )
    if ground.spacing_mm[0] is None:  # each frame by itself
        kind[:2], neighbor[:2] = UNKNOWN, np.arange(len(places))
    flat = (places[:, 0] - 1) * complete.shape[1] + places[:, 2] - 1
    step, row_mm, column_mm = ground.spacing_mm
    return _Cells(neighbor, kind, flat, (step or 1.0, row_mm, column_mm))


def _potential(cells: _Cells) -> NDArray[np.float64]:
    """Solve Laplace's equation: 0 on the upper surface, 1 on the lower, no flux where nothing is known."""
    count = cells.column.size
    diagonal, right = np.zeros(count), np.zeros(count)
    own = np.arange(count)
    entries: list[csr_array] = []
    for index, (axis, _) in enumerate(STEPS):
        weight = cells.spacing_mm[axis] ** -2
        inside = cells.kind[index] == INSIDE
        # The surface lies half a voxel away: twice the gradient for the same difference.
        surface = (cells.kind[index] == UPPER) | (cells.kind[index] == LOWER)
        diagonal += weight * inside + 2 * weight * surface
        right += 2 * weight * (cells.kind[index] == LOWER)
        pairs = own[inside], cells.neighbor[index][inside]
        entries.append(coo_array((np.full(inside.sum(), -weight), pairs), (count, count)).tocsr())
    matrix = sum(entries, diags_array(diagonal).tocsr())
    found, _ = cg(matrix, right, rtol=1e-6, M=diags_array(1 / diagonal))
    return np.asarray(found)


def _directions(cells: _Cells, potential: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (3, cell) of the field, upper to lower surface."""
    gradient = np.zeros((3, potential.size))
    for axis in range(3):
        sides = []
        for index in (2 * axis, 2 * axis + 1):
            kind, beside = cells.kind[index], potential[cells.neighbor[index]]
            beside = np.where(kind == UPPER, -potential, beside)  # 0 on the surface, half way
            sides.append(np.where(kind == LOWER, 2 - potential, beside))
        gradient[axis] = (sides[1] - sides[0]) / (2 * cells.spacing_mm[axis])
    size = np.sqrt((gradient**2).sum(0))
    return np.asarray(gradient / np.maximum(size, 1e-12))


def _lengths(cells: _Cells, along: NDArray[np.float64], surface: int) -> NDArray[np.float64]:
    """Length of the field line from one surface to each voxel: N · ∇L = 1, upwind, L = -half a voxel outside.

    ``along`` points away from that surface.
    """
    weights = abs(along) / np.array(cells.spacing_mm)[:, None]
    upwind = [2 * axis + (along[axis] < 0) for axis in range(3)]
    own = np.arange(cells.column.size)
    kinds = [cells.kind[index, own] for index in upwind]
    beside = [cells.neighbor[index, own] for index in upwind]
    for axis in range(3):  # nothing can be learned from beyond an edge
        weights[axis] *= (kinds[axis] == INSIDE) | (kinds[axis] == surface)
    total = np.maximum(weights.sum(0), 1e-9)
    outside = sum(
        weights[axis]
        * np.where(kinds[axis] == surface, -abs(along[axis]) * cells.spacing_mm[axis] / 2, 0.0)
        for axis in range(3)
    )
    length = np.zeros(own.size)
    for _ in range(MOST_SWEEPS):
        inner = sum(
            weights[axis] * np.where(kinds[axis] == INSIDE, length[beside[axis]], 0.0)
            for axis in range(3)
        )
        after = (1 + outside + inner) / total
        change = float(abs(after - length).max())
        length = after
        if change < TOLERANCE_MM:
            break
    return length
