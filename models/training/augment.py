"""Augment: batches of five neighboring slices, changed as other machines and operators would change them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.training.data import Sweep


class Draw:
    """Random numbers of one training run: single ones, and one per sample of a batch."""

    def __init__(self, seed: int) -> None:
        self.single = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        self.generator = torch.Generator().manual_seed(seed)

    def each(self, count: int, low: float, high: float) -> Tensor:
        """Uniform, shape (count, 1, 1, 1)."""
        return low + (high - low) * torch.rand((count, 1, 1, 1), generator=self.generator)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator)


def batch_of(
    sweeps: Sequence[Sweep], count: int, crop: tuple[int, int], neighbors: int, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Gray levels float32 (count, 2 x neighbors + 1, rows, columns) and labels int64 (count, rows, columns).

    One zoom per batch stands for another spacing or another body; samples are cropped and flipped singly.
    """
    zoom = draw.single.uniform((0.85, 0.75), (1.18, 1.3))
    size = tuple(round(side * factor) for side, factor in zip(crop, zoom, strict=True))
    grays, labels = [], []
    for _ in range(count):
        gray, label = _window(sweeps[int(draw.single.integers(len(sweeps)))], neighbors, draw)
        gray, label = _crop(gray, label, size, draw)
        grays.append(gray)
        labels.append(label)
    image = torch.from_numpy(np.stack(grays)).float()
    target = torch.from_numpy(np.stack(labels)).float()[:, None]
    image = functional.interpolate(image, crop, mode="bilinear", align_corners=False)
    target = functional.interpolate(target, crop, mode="nearest-exact")[:, 0].long()
    image = _appearance(image, draw)
    return _hide(image, target, draw)


def _window(
    sweep: Sweep, neighbors: int, draw: Draw
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A slice with its neighbors; the sweep's ends repeat, as when the network runs."""
    slices = len(sweep.gray)
    middle = int(draw.single.integers(slices))
    around = np.clip(np.arange(middle - neighbors, middle + neighbors + 1), 0, slices - 1)
    gray, label = sweep.gray[around], sweep.labels[middle]
    if draw.single.random() < 0.5:
        gray, label = gray[..., ::-1], label[..., ::-1]
    if draw.single.random() < 0.5:
        gray = gray[::-1]
    return gray, label


def _crop(
    gray: NDArray[np.uint8], label: NDArray[np.uint8], size: tuple[int, ...], draw: Draw
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A part of the wanted size; rows mostly start at the probe, what is missing is black and outside."""
    columns = label.shape[1]
    top = int(draw.single.integers(0, 30)) if draw.single.random() < 0.15 else 0
    left = int(draw.single.integers(0, max(columns - size[1], 0) + 1))
    gray, label = (part[..., top : top + size[0], left : left + size[1]] for part in (gray, label))
    missing = [(0, want - have) for want, have in zip(size, label.shape, strict=True)]
    return np.pad(gray, [(0, 0), *missing]), np.pad(label, missing)


def _appearance(image: Tensor, draw: Draw) -> Tensor:
    """Gray map, gain, blur and noise, drawn per sample."""
    count = image.shape[0]
    black = image == 0
    image = 255 * (image / 255).pow(torch.exp(draw.each(count, -0.3, 0.3)))
    image = image * draw.each(count, 0.8, 1.25) + draw.each(count, -20, 20)
    image = torch.where(draw.each(count, 0, 1) < 0.4, _blur(image, draw), image)
    strength = 20 * draw.each(count, 0, 1) ** 2 * (draw.each(count, 0, 1) < 0.5)
    image = (image + strength * draw.normal(image.shape)).clamp(0, 255)
    # In half of the samples black stays black, as outside a field; in the others gain has lifted it.
    return torch.where(black & (draw.each(count, 0, 1) < 0.5), torch.zeros(()), image)


def _blur(image: Tensor, draw: Draw) -> Tensor:
    """Gaussian blur of 0.3 to 1.2 pixels in both directions, per sample."""
    batch = image.shape[0]
    sigma = draw.each(batch, 0.3, 1.2).flatten()
    weight = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / sigma[:, None]) ** 2)
    weight = weight / weight.sum(1, keepdim=True)
    flat = image.transpose(0, 1)  # samples become groups, each with its own kernel
    for shape, padding in (((batch, 1, 7, 1), (0, 0, 3, 3)), ((batch, 1, 1, 7), (3, 3, 0, 0))):
        padded = functional.pad(flat, padding, mode="replicate")
        flat = functional.conv2d(padded, weight.view(shape), groups=batch)
    return flat.transpose(0, 1)


def _hide(image: Tensor, target: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """A side or the bottom of the field is black and outside, in a third of the samples."""
    _, _, rows, columns = image.shape
    for sample in range(image.shape[0]):
        share, kind = draw.single.uniform(0, 0.35), draw.single.integers(9)
        part = {
            0: (slice(None), slice(0, int(share * columns))),
            1: (slice(None), slice(columns - int(share * columns), columns)),
            2: (slice(rows - int(share * rows), rows), slice(None)),
        }.get(int(kind))
        if part:
            image[sample, :, part[0], part[1]] = 0
            target[sample, part[0], part[1]] = 0
    return image, target
