"""Between: what lies between two annotated slices of a sweep, drawn from their masks or generated.

``interpolate`` is shape-based interpolation (Raya and Udupa 1990): signed distances of the masks, linear from
slice to slice. ``Generator`` is in the spirit of InterSliceBoost (abstract only was read): a residual encoder
takes two annotated slices with their masks, a decoder makes the slice and mask midway from their features'
mean and difference. Sizes, losses and training here are our own.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 7
LABEL_STEP = 4.0
"""Log-odds that the mean of two masks adds to the generated one: where both agree, it is nearly sure."""


def interpolate(
    labels: NDArray[np.uint8], known: Sequence[int], spacing_mm: tuple[float, float]
) -> NDArray[np.uint8]:
    """Labels (slice, row, column) of every slice from the first to the last of ``known``; the rest stays 0.

    Only the ``known`` slices of ``labels`` are read. At a slice the class with the greatest signed distance
    wins, so a known slice keeps its labels.
    """
    found = np.zeros_like(labels)
    distances = {number: signed_distances(labels[number], spacing_mm) for number in known}
    for first, last in pairwise(known):
        for number in range(first, last + 1):
            share = (number - first) / (last - first)
            mixed = (1 - share) * distances[first] + share * distances[last]
            found[number] = mixed.argmax(0)
    return found


def signed_distances(
    labels: NDArray[np.uint8], spacing_mm: tuple[float, float]
) -> NDArray[np.float32]:
    """Millimeters to the border of each class, (class, row, column), above 0 inside."""
    farthest = float(np.hypot(*np.multiply(labels.shape, spacing_mm)))
    planes = []
    for label in range(CLASSES):
        mask = labels == label
        if mask.all() or not mask.any():
            planes.append(np.full(labels.shape, farthest if mask.all() else -farthest))
            continue
        inside = distance_transform_edt(mask, sampling=spacing_mm)
        planes.append(inside - distance_transform_edt(~mask, sampling=spacing_mm))
    return np.stack(planes).astype(np.float32)


class Residual(nn.Module):
    """Two convolutions beside a shortcut; halves the size with ``stride`` 2."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1)
        self.second = nn.Conv2d(after, after, 3, 1, 1)
        self.shortcut = nn.Conv2d(before, after, 1, stride)
        self.normal = nn.BatchNorm2d(after)

    def forward(self, image: Tensor) -> Tensor:
        inner = self.second(functional.relu(self.first(image)))
        return functional.relu(self.normal(inner + self.shortcut(image)))


class Generator(nn.Module):
    """The slice midway between two: gray levels (batch, 1, row, column) 0 to 1, and class scores.

    Takes two pairs of gray level and one-hot mask, each (batch, 8, row, column); their order does not matter.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [
                Residual(1 + CLASSES, width, 1),
                Residual(width, 2 * width, 2),
                Residual(2 * width, 2 * width, 2),
            ]
        )
        self.up = nn.ModuleList([Residual(8 * width, 2 * width, 1), Residual(4 * width, width, 1)])
        self.out = nn.Conv2d(width, 1 + CLASSES, 3, padding=1)

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        mean = (one + other) / 2
        fine, middle, coarse = self._levels(one, other)
        inner = self.up[0](torch.cat([functional.interpolate(coarse, scale_factor=2.0), middle], 1))
        inner = self.up[1](torch.cat([functional.interpolate(inner, scale_factor=2.0), fine], 1))
        change = self.out(inner)
        return mean[:, :1] + change[:, :1], LABEL_STEP * mean[:, 1:] + change[:, 1:]

    def _levels(self, one: Tensor, other: Tensor) -> list[Tensor]:
        """Mean and difference of both slices' features at full, half and quarter size."""
        levels = []
        for layer in self.down:
            one, other = layer(one), layer(other)
            levels.append(torch.cat([(one + other) / 2, (one - other).abs()], 1))
        return levels


def pair_of(gray: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Tensor:
    """Slices with their masks as the generator takes them: (slice, 8, row, column)."""
    image = torch.from_numpy(gray.astype(np.float32) / 255)[:, None]
    masks = functional.one_hot(torch.from_numpy(labels.astype(np.int64)), CLASSES).movedim(-1, 1)
    return torch.cat([image, masks.float()], 1)
