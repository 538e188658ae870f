"""attribute: what a decision rests on, as a map and as one number per layer.

The map is the absolute gradient of the logit (captum Saliency). The numbers are the exact Shapley values of
exchanging each layer's appearance for that of a reference: the layer keeps its speckle, its mean and
standard deviation become those of the training cohort ("moment" reference), at the gain of this scan. A mask
cannot take away a layer's thickness, so these values say nothing of geometry; that is a term of its own in
the network.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from captum.attr import Saliency
from numpy.typing import NDArray
from torch import Tensor

from models.steps.classify import Case

NORMALIZATION = "p99.5"


class Pooled(Protocol):
    """A classifier whose decision depends on the image only through features of one layer each."""

    @property
    def reference_gray_mean(self) -> Tensor: ...

    @property
    def reference_gray_sd(self) -> Tensor: ...

    @property
    def reference_speed(self) -> Tensor: ...

    def __call__(self, image: Tensor, labels: Tensor, measured: Tensor, /) -> Tensor: ...

    def pool(self, image: Tensor, labels: Tensor) -> Tensor:
        """Features (batch, layer, feature), those of a layer from its own voxels alone."""
        ...

    def logit(self, pooled: Tensor, measured: Tensor) -> Tensor:
        """Logit (batch,) of features."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LayerSaliency:
    """A map summed up by layer. NaN where a layer is not there.

    mean        mean of the map in [0, 1] over the layer's voxels.
    above       the same over all layers but the deepest, pooled by voxels.
    null        the mean over all layers' voxels: what every layer would have if the map said nothing.
    enrichment  share of the map's mass in a layer over its share of the volume; 1 says nothing.
    outside     share of the map's mass outside all layers.
    """

    mean: NDArray[np.float64]
    above: float
    null: float
    enrichment: NDArray[np.float64]
    outside: float


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """Shapley values per layer in log-odds; they add up to ``logit`` less ``reference_logit``."""

    values: NDArray[np.float64]
    logit: float
    reference_logit: float


def gradient_map(network: Pooled, case: Case) -> NDArray[np.float32]:
    """|d logit / d voxel| (slice, row, column), each channel times its standard deviation, summed."""
    image = case.image.detach().clone().requires_grad_(True)
    gradient = Saliency(network).attribute(
        image, abs=True, additional_forward_args=(case.labels, case.measured)
    )
    inside = case.labels[0] > 0
    total = torch.zeros(case.labels.shape[1:], device=image.device)
    for number, name in enumerate(case.channels):
        if name != "shear-wave-valid":  # where there is a measurement is not what it says
            total += gradient[0, number] * case.image[0, number][inside].std(correction=0)
    result: NDArray[np.float32] = total.detach().cpu().numpy()
    return result


def normalize(
    gradient: NDArray[np.float32], inside: NDArray[np.bool_]
) -> NDArray[np.float32] | None:
    """To [0, 1]: divided by its 99.5th percentile inside the layers, cut at 1. None where a map says nothing:
    its maximum is its minimum, or the percentile 0."""
    values = gradient[inside]
    top = float(np.percentile(values, 99.5)) if values.size else 0.0
    if top <= 0 or values.min() == values.max():
        return None
    return np.clip(gradient / np.float32(top), 0, 1).astype(np.float32)


def layer_saliency(
    saliency: NDArray[np.float32], labels: NDArray[np.uint8], layers: int
) -> LayerSaliency | None:
    """Sum a map up by layer, with its nulls. None when the map is zero everywhere."""
    count, mass = np.zeros(layers + 1), np.zeros(layers + 1)
    for plane, numbers in zip(saliency, labels, strict=True):
        count += np.bincount(numbers.ravel(), minlength=layers + 1)
        mass += np.bincount(numbers.ravel(), plane.ravel(), minlength=layers + 1)
    if mass.sum() <= 0:
        return None
    there = count[1:] > 0
    mean = np.divide(mass[1:], count[1:], out=np.full(layers, np.nan), where=there)
    share = mass / mass.sum()
    enrichment = np.divide(
        share[1:], count[1:] / count.sum(), out=np.full(layers, np.nan), where=there
    )
    above = float(mass[1:-1].sum() / max(count[1:-1].sum(), 1.0))
    null = float(mass[1:].sum() / max(count[1:].sum(), 1.0))
    return LayerSaliency(mean, above, null, enrichment, float(share[0]))


def moment_reference(network: Pooled, case: Case) -> Tensor:
    """The image with every layer at the cohort's mean and standard deviation, speckle kept, at this gain.

    The gain is the mean difference of this scan's layers from the cohort's. Shear-wave speeds are scaled to
    the cohort's mean. Outside the layers nothing changes.
    """
    pooled = network.pool(case.image, case.labels)[0]
    present, gray, gray_sd, speed = pooled[:, :4].unbind(1)
    gain = ((gray - network.reference_gray_mean) * present).sum() / present.sum().clamp(min=1)
    image = case.image.clone()
    for number in range(pooled.shape[0]):
        mask = case.labels[0] == number + 1
        scale = network.reference_gray_sd[number] / gray_sd[number]
        wanted = network.reference_gray_mean[number] + gain
        image[0, 0][mask] = (image[0, 0][mask] - gray[number]) * scale + wanted
        if "shear-wave-speed" in case.channels:
            plane = image[0, case.channels.index("shear-wave-speed")]
            if speed[number] > 0:
                plane[mask] *= network.reference_speed[number] / speed[number]
    return image


def appearance_shapley(network: Pooled, case: Case) -> Contributions:
    """Exact Shapley values of the layers' appearance over all 2^n coalitions.

    A coalition's image has its own layers and the others at the reference. As a layer's features come from
    its own voxels alone, the features of every coalition are rows of two tables: those of the image and those
    of the reference. Two passes over the voxels and 2^n over the head give what 2^n over the voxels would.
    Raises ArithmeticError when the values do not add up.
    """
    own = network.pool(case.image, case.labels)[0]
    reference = network.pool(moment_reference(network, case), case.labels)[0]
    layers = own.shape[0]
    members = coalitions(layers)
    chosen = torch.from_numpy(members).to(own.device)[..., None]
    pooled = torch.where(chosen, own, reference)
    logits = network.logit(pooled, case.measured.expand(len(members), -1))
    values = logits.detach().cpu().numpy().astype(np.float64)
    result = Contributions(shapley(values), float(values[-1]), float(values[0]))
    gap = result.values.sum() - (result.logit - result.reference_logit)
    if not abs(gap) < 1e-9 * (1 + abs(values).max()):
        raise ArithmeticError(f"Shapley values miss the logit's change by {gap}")
    return result


def coalitions(players: int) -> NDArray[np.bool_]:
    """All 2^n subsets, (2^n, n), in binary order: row 0 is nobody, the last row everybody."""
    bits = np.arange(players)
    result: NDArray[np.bool_] = (np.arange(2**players)[:, None] >> bits & 1).astype(bool)
    return result


def shapley(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Shapley values of a game given by the worth of all coalitions, in the order of ``coalitions``."""
    worth = np.asarray(values, np.float64)
    players = int(math.log2(len(worth)))
    if 2**players != len(worth):
        raise ValueError(f"{len(worth)} coalitions are no power of two")
    members = coalitions(players)
    size = members.sum(1)
    factorial = np.array([math.factorial(n) for n in range(players + 1)], float)
    result = np.zeros(players)
    for player in range(players):
        without = np.flatnonzero(~members[:, player])
        weight = factorial[size[without]] * factorial[players - 1 - size[without]]
        gain = worth[without + (1 << player)] - worth[without]
        result[player] = (weight / factorial[players] * gain).sum()
    return result
