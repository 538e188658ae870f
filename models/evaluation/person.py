"""Person: what the layer analysis finds in one simulated person, beside the truth. Steps as in the node."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.metrics import dice
from models.layer.network import LAYERS
from models.layer.sizes import measure
from models.layer.weights import Weights, load_weights
from models.phantom import Phantom, Protocol, synthesize, varied_request
from models.scan import Scan
from models.steps.classify import build_case
from models.steps.segment import Layers, Volume, segment

SHEAR_WAVE = ("b-mode", "shear-wave-speed", "shear-wave-valid")
"""Channels of the pain network that pools a person; the B-mode network pools the same less the speed."""


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Findings and truth of one person.

    pooled             float32 (6, feature) of ``PainNetwork.pool``, with shear wave.
    measured           float32 (7,): thickness as measured on the found layers, NaN where there is none; then
                       1 for a probe across the fibers, 0 for along.
    true_thickness_mm  float32 (6,), NaN where the field cuts the layer.
    dice               float32 (6,) on the source grid; 0 for a layer that was missed or made up, NaN where
                       it is neither there nor found.
    factors            the numbers that made the person, by name.
    """

    pooled: NDArray[np.float32]
    measured: NDArray[np.float32]
    true_thickness_mm: NDArray[np.float32]
    dice: NDArray[np.float32]
    factors: Mapping[str, float]
    pain: bool
    latent: float

    @property
    def thickness_mm(self) -> NDArray[np.float32]:
        """As measured on the found layers (6,); NaN where there is none."""
        return self.measured[:LAYERS]


def examine(seed: int, protocol: Protocol, folder: Path) -> Person:
    """Simulate, segment, measure and pool one person with the weights of a folder; one thread."""
    torch.set_num_threads(1)  # several of these run side by side
    weights = weights_of(folder)
    phantom = synthesize(seed, varied_request(seed, protocol))
    return person_of(phantom, find_layers(phantom.scan, weights).labelmap, weights)


def person_of(phantom: Phantom, labelmap: NDArray[np.uint8], weights: Weights) -> Person:
    """Measure and pool one person on the layers that were found."""
    thickness = measure(phantom.scan, labelmap).mean_thickness_mm()
    truth = [phantom.thickness_mm.get(layer, np.nan) for layer in range(1, LAYERS + 1)]
    return Person(
        *_pool(phantom.scan, labelmap, thickness, weights),
        np.array(truth, np.float32),
        _dice(labelmap, phantom),
        phantom.factors,
        phantom.pain,
        phantom.pain_latent,
    )


def find_layers(scan: Scan, weights: Weights) -> Layers:
    """Labels 0 to 6 on the scan's grid, and how sure they are."""
    _, row_mm, column_mm = scan.spacing_mm
    volume = Volume(scan.channel("b-mode"), scan.valid, (row_mm, column_mm))
    with torch.inference_mode():
        return segment(volume, weights.segment.slice_wise)


def _pool(
    scan: Scan,
    labelmap: NDArray[np.uint8],
    thickness: NDArray[np.float32],
    weights: Weights,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pooled features and what was measured."""
    network, wanted_mm = weights.pain_bswe.network, weights.pain_bswe.spacing_mm
    case = build_case(scan, labelmap, thickness, network.channels, wanted_mm)
    with torch.inference_mode():
        pooled = network.pool(case.image, case.labels)
    return pooled[0].numpy(), case.measured[0].numpy()


def _dice(labelmap: NDArray[np.uint8], phantom: Phantom) -> NDArray[np.float32]:
    pairs = [(labelmap == layer, phantom.labelmap == layer) for layer in range(1, LAYERS + 1)]
    return np.array([dice(found, true) for found, true in pairs], np.float32)


@cache
def weights_of(folder: Path) -> Weights:
    """The weights of a folder, loaded once per process."""
    return load_weights(folder)
