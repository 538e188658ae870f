"""Maps of what a decision rests on, and what they say of each layer.

The map is the evidence that each voxel gives (the class activation map of a network that pools by averaging,
Zhou 2016), for the class that was predicted. The absolute gradient (captum Saliency) is a second method, to
see whether the two agree.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from captum.attr import Saliency
from numpy.typing import NDArray
from torch import Tensor

from models.steps.classify import Case

MASK_CHANNEL = "shear-wave-valid"  # where there is a measurement is not what it says
PERCENTILE = 99.5


class Mapped(Protocol):
    """A classifier that tells the evidence of each voxel."""

    def __call__(self, image: Tensor, labels: Tensor, measured: Tensor, /) -> Tensor: ...

    def evidence(
        self, image: Tensor, labels: Tensor, measured: Tensor, pooled: Tensor, /
    ) -> Tensor:
        """Evidence in log-odds (batch, slice, row, column), given the features of the layers."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LayerSaliency:
    """A map summed up by layer. NaN where a layer is not there.

    mean        mean of the map in [0, 1] over the layer's voxels.
    above       the same over all layers but the deepest, pooled by voxels.
    null        the mean over all layers' voxels: what every layer would have if the map said nothing.
    enrichment  share of the layers' mass in a layer over its share of the layers' volume; 1 says nothing.
                Outside counts in neither: a map that stays inside the layers would else look the more
                enriched the more padding the image has.
    share       share of the map's mass, of label 0 (outside), 1, 2, ...; they add up to 1.
    """

    mean: NDArray[np.float64]
    above: float
    null: float
    enrichment: NDArray[np.float64]
    share: NDArray[np.float64]


def evidence_map(network: Mapped, case: Case, pooled: Tensor, logit: float) -> NDArray[np.float32]:
    """Evidence for the predicted class (slice, row, column), pain from a logit of 0 on; else 0."""
    with torch.no_grad():
        evidence = network.evidence(case.image, case.labels, case.measured, pooled)[0]
    result: NDArray[np.float32] = torch.relu(evidence if logit >= 0 else -evidence).cpu().numpy()
    return result


def gradient_map(network: Mapped, case: Case) -> NDArray[np.float32]:
    """|d logit / d voxel| (slice, row, column), each channel times its standard deviation, summed."""
    found = Saliency(network).attribute(
        case.image.detach().clone().requires_grad_(True),
        abs=True,
        additional_forward_args=(case.labels, case.measured),
    )
    inside = case.labels[0] > 0
    total = torch.zeros(case.labels.shape[1:], device=case.image.device)
    for number, name in enumerate(case.channels):
        if name != MASK_CHANNEL:
            total += found[0, number] * case.image[0, number][inside].std(correction=0)
    result: NDArray[np.float32] = total.detach().cpu().numpy()
    return result


def normalize(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """To [0, 1]: divided by its 99.5th percentile inside the layers, cut at 1. None where a map says nothing:
    its maximum is its minimum, or the percentile 0."""
    within = values[inside]
    top = float(np.percentile(within, PERCENTILE)) if within.size else 0.0
    if top <= 0 or within.min() == within.max():
        return None
    return np.clip(values / np.float32(top), 0, 1).astype(np.float32)


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
    above = float(mass[1:-1].sum() / max(count[1:-1].sum(), 1.0))
    null = float(mass[1:].sum() / max(count[1:].sum(), 1.0))
    enrichment = mean / null if null > 0 else np.full(layers, np.nan)
    return LayerSaliency(mean, above, null, enrichment, share)
