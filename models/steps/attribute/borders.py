"""Masks that could as well be right: each border between two layers one voxel away from where it is."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.steps.attribute.game import contributions, open_game
from models.steps.attribute.parts import Excerpt, Question
from models.steps.grid import resample_labels

Labels = NDArray[np.uint8]
Floats = NDArray[np.float64]


def alternatives(question: Question, few: Excerpt, pooled: Tensor) -> Iterator[Floats]:
    """Totals (member, layer) under masks with moved borders; ``pooled`` are the features of the whole scan.

    How much the features change is taken from the slices of the excerpt, how much the thickness from volumes.
    """
    network, case = question.network, few.case
    layers = pooled.shape[1]
    grid = case.labels.shape[2], case.labels.shape[3]
    with torch.no_grad():
        before = network.pool(case.image, case.labels)
    for changed in moved_borders(few.labelmap):
        labels = torch.from_numpy(resample_labels(changed, grid))[None].to(case.labels.device)
        with torch.no_grad():
            moved = pooled + network.pool(case.image, labels) - before
        moved = torch.where(moved.isnan(), pooled, moved)  # a speed that was not measured here
        measured = case.measured.clone()
        factor = torch.from_numpy(growth(few.labelmap, changed, layers)).to(measured)
        measured[:, :layers] *= torch.where(factor > 0, factor, torch.ones_like(factor))
        yield contributions(open_game(network, moved, measured)).values.sum(2)


def moved_borders(labelmap: Labels) -> Iterator[Labels]:
    """Four labelmaps (slice, row, column): every other border of layers one row down, or up; then the rest.

    So each layer is a voxel thicker in some and a voxel thinner in others, at one of its borders at a time,
    and the labels stay a partition of the same tissue. Borders with the outside (label 0) stay. Moving both
    borders at once would be several times the error that was measured.
    """
    found = np.flatnonzero(np.bincount(labelmap.ravel(), minlength=1)[1:]) + 1
    for first in (0, 1):
        moves = np.zeros(int(labelmap.max(initial=0)) + 1, bool)
        moves[found[first::2]] = True  # the border below each of these layers
        upper, lower = labelmap[:, :-1], labelmap[:, 1:]
        border = (upper > 0) & (upper < lower) & moves[upper]
        for down in (True, False):
            result = labelmap.copy()
            if down:
                result[:, 1:][border] = upper[border]
            else:
                result[:, :-1][border] = lower[border]
            yield result


def growth(labels: Labels, changed: Labels, layers: int) -> Floats:
    """By what factor each layer's volume, and so its mean thickness, changed; NaN where there was none."""
    before, after = (
        np.bincount(item.ravel(), minlength=layers + 1)[1 : layers + 1]
        for item in (labels, changed)
    )
    return np.divide(after, before, out=np.full(layers, np.nan), where=before > 0)
