"""Interventions: the same scan simulated again with a layer at its mean (do), and all steps repeated."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.person import SHEAR_WAVE, Person, find_layers, person_of, weights_of
from models.layer.network import LAYERS as COUNT
from models.phantom import PhantomRequest, Protocol, synthesize, varied_request
from models.phantom.factors import LAYERS, reference
from models.steps.classify import Case, build_case
from models.steps.grid import Box

WHOLE = "whole"
PARTS = ("appearance", "thickness", "shear wave")
QUANTITIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "appearance": ("gray", "infiltration"),
        "thickness": ("thickness_mm",),
        "shear wave": ("shear_m_s",),
    }
)
"""Factors of each part of a layer. The muscle's thickness is left out: the image cuts it off."""


@dataclass(frozen=True, slots=True, eq=False)
class Intervened:
    """One scan, and what was pooled from it after each intervention.

    image     float32 (channel, slice, row, column) and labels, as the network with shear wave saw them.
    box       the part of the scan's grid that they cover; ``labelmap`` are the layers found, on that grid.
    pooled    (intervention, 6, feature) and measured (intervention, 7), as ``interventions`` orders them.
    """

    seed: int
    person: Person
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    box: Box
    labelmap: NDArray[np.uint8]
    pooled: NDArray[np.float32]
    measured: NDArray[np.float32]

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which layers were found (6,)."""
        return np.isin(np.arange(1, COUNT + 1), self.labelmap)

    def seen_by(self, shear_wave: bool) -> Case:
        """The case of the network with, or of that without, shear wave."""
        channels = SHEAR_WAVE if shear_wave else SHEAR_WAVE[:1]
        return Case(
            torch.from_numpy(self.image[None, : len(channels)]),
            torch.from_numpy(self.labels[None]),
            torch.from_numpy(self.person.measured[None]),
            self.box,
            channels,
        )


def interventions() -> dict[tuple[int, str], dict[str, float]]:
    """(layer from 0, part or WHOLE) -> factors at their mean."""
    found: dict[tuple[int, str], dict[str, float]] = {}
    for layer, name in enumerate(LAYERS):
        parts = {part: _means(name, QUANTITIES[part]) for part in PARTS}
        found[layer, WHOLE] = {key: value for part in parts.values() for key, value in part.items()}
        found |= {(layer, part): means for part, means in parts.items() if means}
    return found


def _means(layer: str, quantities: tuple[str, ...]) -> dict[str, float]:
    names = [f"{layer}.{quantity}" for quantity in quantities]
    known = [name for name in names if name in reference() and name != "muscle.thickness_mm"]
    return {name: reference()[name].mean for name in known}


def intervene(seed: int, protocol: Protocol, folder: Path) -> Intervened:
    """Simulate, segment, measure and pool one scan as it is and after every intervention; one thread."""
    torch.set_num_threads(1)
    weights = weights_of(folder)
    request = _roomy(seed, protocol)
    phantom = synthesize(seed, request)
    labelmap = find_layers(phantom.scan, weights).labelmap
    person = person_of(phantom, labelmap, weights)
    case = build_case(
        phantom.scan, labelmap, person.thickness_mm, SHEAR_WAVE, weights.pain_bswe.spacing_mm
    )
    others = []
    for fixed in interventions().values():
        other = synthesize(seed, replace(request, fixed=fixed))
        others.append(person_of(other, find_layers(other.scan, weights).labelmap, weights))
    pooled = np.stack([other.pooled for other in others])
    measured = np.stack([other.measured for other in others])
    # Arrays, not tensors: those would be handed over between processes in shared memory, which may be small.
    image, labels = case.image[0].numpy(), case.labels[0].numpy()
    return Intervened(seed, person, image, labels, case.box, labelmap, pooled, measured)


def _roomy(seed: int, protocol: Protocol) -> PhantomRequest:
    """The scan of this person, deep enough that no layer is squeezed after any intervention."""
    every = [varied_request(seed, protocol, fixed) for fixed in ({}, *interventions().values())]
    deepest = max(every, key=lambda request: request.shape[1])
    return replace(deepest, fixed={})
