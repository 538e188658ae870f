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
    """Two labelmaps (slice, row, column): every other layer grown at its neighbors' cost, then the rest.

    So each layer is dilated in one and eroded in the other, by a voxel along the rows at each border it has
    with a layer, and the labels stay a partition of the same tissue. Borders with the outside (label 0) stay.
    """
    found = np.flatnonzero(np.bincount(labelmap.ravel(), minlength=1)[1:]) + 1
    for first in (0, 1):
        growing = np.zeros(int(labelmap.max(initial=0)) + 1, bool)
        growing[found[first::2]] = True
        yield _grown(labelmap, growing[labelmap])


def _grown(labelmap: Labels, grows: NDArray[np.bool_]) -> Labels:
    result = labelmap.copy()
    yields = (labelmap > 0) & ~grows
    downward = yields[:, 1:] & grows[:, :-1]
    result[:, 1:][downward] = labelmap[:, :-1][downward]
    upward = yields[:, :-1] & grows[:, 1:]
    result[:, :-1][upward] = labelmap[:, 1:][upward]
    return result


def growth(labels: Labels, changed: Labels, layers: int) -> Floats:
    """By what factor each layer's volume, and so its mean thickness, changed; NaN where there was none."""
    before, after = (
        np.bincount(item.ravel(), minlength=layers + 1)[1 : layers + 1]
        for item in (labels, changed)
    )
    return np.divide(after, before, out=np.full(layers, np.nan), where=before > 0)
