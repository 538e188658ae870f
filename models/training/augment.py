"""Augment: batches of five neighboring slices, changed as other machines, bodies and operators would."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.layer.network import LAYERS
from models.training.data import Sweep

FATS, MUSCLE = (2, 4), 6
PAINT_LOW = (0.0, 90.0, 20.0, 110.0, 20.0, 110.0, 30.0)
PAINT_HIGH = (15.0, 220.0, 110.0, 250.0, 110.0, 250.0, 150.0)
"""Gray levels of what is outside and of layers 1 to 6 where labels are painted."""


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

    def some(self, count: int, share: float) -> Tensor:
        """1 for about this share of the samples, else 0; shape (count, 1, 1, 1)."""
        return (self.each(count, 0, 1) < share).float()


def batch_of(
    sweeps: Sequence[Sweep], count: int, crop: tuple[int, int], neighbors: int, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Gray levels (count, 2 x neighbors + 1, rows, columns) and class shares (count, 7, rows, columns).

    A pixel that a border crosses belongs to both sides in the share it covers: so borders are learned finer
    than pixels. One zoom per batch stands for another spacing or another body; samples are cropped and
    flipped singly.
    """
    zoom = draw.single.uniform((0.85, 0.75), (1.18, 1.3))
    size = tuple(round(side * factor) for side, factor in zip(crop, zoom, strict=True))
    grays, shares = [], []
    for _ in range(count):
        gray, label = _window(sweeps[int(draw.single.integers(len(sweeps)))], neighbors, draw)
        gray, label = _crop(gray, label, (size[0], size[1]), draw)
        image = torch.from_numpy(gray).float()[None]
        grays.append(functional.interpolate(image, crop, mode="bilinear", align_corners=False))
        shares.append(_shares(label, crop))
    image, share = _wave(torch.cat(grays), torch.cat(shares), draw)
    image = torch.where(draw.some(count, 0.15) > 0, _painted(share, image.shape, draw), image)
    return _hide(*_appearance(image, share, draw), draw)


def _shares(label: NDArray[np.uint8], crop: tuple[int, int]) -> Tensor:
    """Share of each class in each pixel of the crop, (1, 7, rows, columns)."""
    hot = functional.one_hot(torch.from_numpy(label).long(), LAYERS + 1).permute(2, 0, 1)[None]
    return functional.interpolate(
        hot.float(), crop, mode="bilinear", align_corners=False, antialias=True
    )


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
    gray: NDArray[np.uint8], label: NDArray[np.uint8], size: tuple[int, int], draw: Draw
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A part of the wanted size; rows mostly start at the probe, what is missing is black and outside."""
    rows, columns = gray.shape[1:]
    fine = label.shape[0] // rows  # rows of labels per row of gray levels
    room = max(rows - size[0], 30)
    top = int(draw.single.integers(0, room)) if draw.single.random() < 0.25 else 0
    left = int(draw.single.integers(0, max(columns - size[1], 0) + 1))
    right = left + size[1]
    gray = gray[:, top : top + size[0], left:right]
    label = label[top * fine : (top + size[0]) * fine, left:right]
    missing = [(0, want - have) for want, have in zip(size, gray.shape[1:], strict=True)]
    below = (0, size[0] * fine - label.shape[0])
    return np.pad(gray, [(0, 0), *missing]), np.pad(label, [below, missing[1]])


def _wave(image: Tensor, share: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Everything below the skin rises and falls along the probe, in a third of the samples.

    Up to 20 rows and over 15 columns or more: layers wave more in some bodies than the simulator lets them.
    """
    count, slices, rows, columns = image.shape
    points = int(draw.single.integers(3, 7))
    coarse = draw.normal((count, 1, 1, points)) * draw.each(count, 0, 10) * draw.some(count, 0.33)
    shift = functional.interpolate(coarse, (1, columns), mode="bicubic", align_corners=True)[
        :, 0, 0
    ]
    row = torch.arange(rows, dtype=torch.float32)[None, :, None]
    # From 5 to 45 rows the shift grows: skin stays where it is, and no tissue is folded over.
    row = row + shift.clamp(-20, 20)[:, None] * ((row - 5) / 40).clamp(0, 1)
    column = torch.arange(columns, dtype=torch.float32).expand(count, rows, columns)
    place = torch.stack([2 * column / (columns - 1) - 1, 2 * row / (rows - 1) - 1], -1)
    both = torch.cat([image, share], 1)
    both = functional.grid_sample(both, place, padding_mode="border", align_corners=True)
    return both[:, :slices], both[:, slices:]


def _painted(share: Tensor, shape: Sequence[int], draw: Draw) -> Tensor:
    """The labels themselves painted in gray levels of any scanner, with speckle: no texture, no lines.

    What stays to tell layers by is their order and their echo, as in images of other machines.
    """
    count, slices, rows, columns = shape
    low = torch.tensor(PAINT_LOW)[None, :, None, None]
    high = torch.tensor(PAINT_HIGH)[None, :, None, None]
    level = low + (high - low) * torch.rand((count, len(PAINT_LOW), 1, 1), generator=draw.generator)
    plain = (share * level).sum(1, keepdim=True)
    plain = (
        plain + draw.each(count, -40, 40) * torch.linspace(0, 1, rows)[:, None]
    )  # gain with depth
    size = rows // int(draw.single.integers(1, 4)), columns // int(draw.single.integers(1, 3))
    echo = draw.normal((2, count * slices, *size)).square().sum(0).clamp(min=1e-3)
    speckle = functional.interpolate((8.7 * echo.log())[None], (rows, columns), mode="bilinear")
    painted = plain + draw.each(count, 0.3, 3.0) * speckle.view(count, slices, rows, columns)
    return painted.clamp(0, 255)


def _appearance(image: Tensor, share: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Echo of layers, streaks, gray map, gain, blur and noise, drawn per sample."""
    count = image.shape[0]
    black = image == 0
    image = image + _layer_echo(share, draw) + _streaks(image, share, draw)
    image = 255 * (image.clamp(0, 255) / 255).pow(torch.exp(draw.each(count, -0.3, 0.3)))
    image = image * draw.each(count, 0.8, 1.25) + draw.each(count, -20, 20)
    image = torch.where(draw.some(count, 0.4) > 0, _blur(image, draw), image)
    strength = 20 * draw.each(count, 0, 1) ** 2 * draw.some(count, 0.5)
    image = (image + strength * draw.normal(image.shape)).clamp(0, 255)
    # In half of the samples black stays black, as outside a field; in the others gain has lifted it.
    return torch.where(black & (draw.some(count, 0.5) > 0), torch.zeros(()), image), share


def _layer_echo(share: Tensor, draw: Draw) -> Tensor:
    """Each layer a little brighter or darker than simulated, in half of the samples."""
    count, classes = share.shape[:2]
    strength = 14 * draw.each(count, 0, 1) * draw.some(count, 0.5)
    offset = strength * draw.normal((count, classes, 1, 1))
    offset[:, 0] = 0
    return (share * offset).sum(1, keepdim=True)


def _streaks(image: Tensor, share: Tensor, draw: Draw) -> Tensor:
    """Bright sheets along fat and muscle, in a third of the samples: not every line is a membrane."""
    count, slices, rows, columns = image.shape
    sizes = int(draw.single.integers(3, 9)), int(draw.single.integers(12, 60))
    coarse = draw.normal((count, 1, max(rows // sizes[0], 2), max(columns // sizes[1], 2)))
    lines = functional.interpolate(coarse, (rows, columns), mode="bilinear", align_corners=False)
    where = share[:, FATS, :, :].sum(1, keepdim=True) * draw.some(count, 0.5)
    where = where + share[:, MUSCLE : MUSCLE + 1] * draw.some(count, 0.7)
    strength = draw.each(count, 10, 90) * draw.some(count, 0.33)
    return (strength * (lines - 0.5).clamp(min=0) * where).expand(count, slices, rows, columns)


def _blur(image: Tensor, draw: Draw) -> Tensor:
    """Gaussian blur of 0.3 to 1.5 pixels in depth and half of it sideways, per sample."""
    batch = image.shape[0]
    sigma = draw.each(batch, 0.3, 1.5).flatten()
    flat = image.transpose(0, 1)  # samples become groups, each with its own kernel
    for shape, padding, factor in (
        ((batch, 1, 7, 1), (0, 0, 3, 3), 1.0),
        ((batch, 1, 1, 7), (3, 3, 0, 0), 0.5),
    ):
        weight = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / (factor * sigma[:, None])) ** 2)
        weight = weight / weight.sum(1, keepdim=True)
        padded = functional.pad(flat, padding, mode="replicate")
        flat = functional.conv2d(padded, weight.view(shape), groups=batch)
    return flat.transpose(0, 1)


def _hide(image: Tensor, share: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """A side or the bottom of the field is black and outside, in a third of the samples."""
    rows, columns = image.shape[2:]
    outside = torch.zeros(LAYERS + 1)
    outside[0] = 1
    for sample in range(image.shape[0]):
        part, kind = draw.single.uniform(0, 0.35), draw.single.integers(9)
        hidden = {
            0: (slice(None), slice(0, int(part * columns))),
            1: (slice(None), slice(columns - int(part * columns), columns)),
            2: (slice(rows - int(part * rows), rows), slice(None)),
        }.get(int(kind))
        if hidden:
            image[sample, :, hidden[0], hidden[1]] = 0
            share[sample, :, hidden[0], hidden[1]] = outside[:, None, None]
    return image, share
