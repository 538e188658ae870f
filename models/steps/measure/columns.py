"""Columns: where a layer begins and ends in each column, and whether it is all there."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
"""One number per column: (slice, column), NaN where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What is measured on: labels and validity (slice, row, column), and how far apart voxels are.

    spacing_mm   (slice, row, column); slice is None when the distance of frames is not known, and the tilt
                 then is that within the image alone.
    skin         the label that the probe touches: it may begin in the first row of the image. 0: none may.
    alike        pairs of labels of one tissue, which swallow each other where what parts them is missing.
    found        the labels that have voxels, rising.
    """

    labelmap: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    spacing_mm: tuple[float | None, float, float]
    skin: int = 0
    alike: tuple[tuple[int, int], ...] = ()
    found: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        count = np.bincount(self.labelmap.ravel())
        object.__setattr__(self, "found", tuple(int(label) for label in np.flatnonzero(count)))

    def same_tissue(self, label: int, other: int) -> bool:
        return (label, other) in self.alike or (other, label) in self.alike


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One layer, column by column (slice, column): first and last row, and whether it is all there.

    A complete column holds the layer as one run between expected neighbors, inside the image. ``cut`` ends
    at the border of the image; ``at_probe`` begins in the first row under the probe, and counts as complete.
    """

    top: NDArray[np.intp]
    bottom: NDArray[np.intp]
    present: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    at_probe: NDArray[np.bool_]


def columns_of(ground: Ground, layer: int) -> Columns:
    """Where a layer begins and ends in each column; rows are meaningless where it is not present.

    Expected neighbors are the nearest layers that the scan has at all, 0 above the first and below the last.
    Where a neighbor has a gap, the next layer beyond it will do: a broken membrane leaves the fat on both
    sides whole. Not so where a layer of the same tissue is missing, which may be part of this one there.
    """
    mask = ground.labelmap == layer
    rows = mask.shape[1]
    count = mask.sum(1)
    present = count > 0
    top, bottom = mask.argmax(1), rows - 1 - mask[:, ::-1].argmax(1)
    above, below = _look(ground, top - 1), _look(ground, bottom + 1)
    shallower = [label for label in reversed(ground.found) if 0 < label < layer]
    deeper = [label for label in ground.found if label > layer]
    one_run = present & (count == bottom - top + 1)
    at_probe = np.zeros_like(present)
    if layer == ground.skin and not shallower:
        at_probe = one_run & (above < 0) & (top == probe_rows(ground))
    starts = _expected(ground, layer, above, shallower) | at_probe
    complete = one_run & starts & _expected(ground, layer, below, deeper)
    return Columns(top, bottom, present, complete, present & (below < 0), at_probe & complete)


def heights_mm(ground: Ground, columns: Columns) -> Plane:
    """T1: height of complete columns along the rows; its mean times the area is the volume."""
    return np.where(columns.complete, _heights(ground, columns), np.nan)


def visible_depth_mm(ground: Ground, columns: Columns) -> Plane:
    """Height along the rows of whatever the image shows of a layer that it cuts off."""
    return np.where(columns.present, _heights(ground, columns), np.nan)


def disordered(ground: Ground) -> NDArray[np.bool_]:
    """Columns (slice, column) whose layers do not come in rising order, each in one run."""
    label = ground.labelmap
    deepest = np.maximum.accumulate(label, axis=1)
    return np.asarray(((label > 0) & (label < deepest)).any(1))


def probe_rows(ground: Ground) -> NDArray[np.intp]:
    """First row of the image in each column that lies under the face of the probe, -1 in the others.

    The face is the longest stretch along which the upper border of the image falls or rises by at most 45
    degrees: that of a curved array does, the sides of its fan do not, nor a line of text on the image.
    """
    shown = np.asarray(ground.valid.any(1))
    first = np.where(shown, ground.valid.argmax(1), -1)
    steepest = max(1, math.ceil(ground.spacing_mm[2] / ground.spacing_mm[1]))
    result = np.full(first.shape, -1, np.intp)
    for index, line in enumerate(first):
        breaks = (abs(np.diff(line)) > steepest) | (np.diff(shown[index]) != 0)
        stretches = np.split(np.arange(line.size), np.flatnonzero(breaks) + 1)
        longest = max(stretches, key=lambda stretch: (shown[index, stretch[0]], stretch.size))
        result[index, longest] = line[longest]
    return result


def _heights(ground: Ground, columns: Columns) -> Plane:
    return np.asarray((columns.bottom - columns.top + 1) * ground.spacing_mm[1], np.float64)


def _expected(
    ground: Ground, layer: int, seen: NDArray[np.int16], others: list[int]
) -> NDArray[np.bool_]:
    """Whether the label seen next to a layer may be there; ``others`` from the nearest to the farthest."""
    if not others:
        return seen == 0
    fits = seen == others[0]
    skipped = np.ones_like(fits)
    for nearer, farther in pairwise(others):
        if ground.same_tissue(nearer, layer):
            break
        skipped &= ~(ground.labelmap == nearer).any(1)
        fits |= skipped & (seen == farther)
    return fits


def _look(ground: Ground, row: NDArray[np.intp]) -> NDArray[np.int16]:
    """Label of one voxel per column; -1 outside the image or its valid region."""
    rows = ground.labelmap.shape[1]
    inside = (row >= 0) & (row < rows)
    index = np.clip(row, 0, rows - 1)[:, None]
    label = np.take_along_axis(ground.labelmap, index, 1)[:, 0].astype(np.int16)
    valid = np.take_along_axis(ground.valid, index, 1)[:, 0]
    return np.where(inside & valid, label, np.int16(-1))
