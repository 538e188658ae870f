"""Planted rules: which of a simulated person's factors decide about pain, drawn after the simulation.

A label is drawn from the factors that made the person and from a random stream of person and rule, so one
cohort of simulated people serves every rule, and rules share no noise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.phantom.factors import LAYERS, Quantity, default_effects, reference
from models.phantom.streams import stream

SLOPE = 2.5
"""Pain ~ Bernoulli(sigmoid(SLOPE x latent)), latent of about unit variance; as the simulator's own label."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Σ weight · standardized factor + Σ weight · product of two standardized factors, of unit variance."""

    effects: Mapping[str, float] = field(default_factory=dict)
    products: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def latent(self, factors: Mapping[str, float]) -> float:
        """The person's propensity; zero for a rule without effects. Raises KeyError for no such factor."""
        weights = (*self.effects.values(), *self.products.values())
        norm = math.sqrt(sum(weight**2 for weight in weights))
        if norm == 0:
            return 0.0
        total = sum(weight * standard(name, factors) for name, weight in self.effects.items())
        for (one, other), weight in self.products.items():
            total += weight * standard(one, factors) * standard(other, factors)
        return total / norm


def standard(name: str, factors: Mapping[str, float]) -> float:
    """A factor in standard deviations of the simulator's people; a uniform one by that of its range."""
    quantity = reference()[name]
    return (factors[name] - quantity.mean) / _spread(quantity)


def _spread(quantity: Quantity) -> float:
    spread = quantity.sd if quantity.sd > 0 else (quantity.high - quantity.low) / math.sqrt(12)
    if spread == 0:
        raise ValueError("no effect can be planted on a factor that never varies")
    return spread


def labels(
    name: str, people: Sequence[Mapping[str, float]], seeds: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Latent and pain (person,) of a rule; the same seed always gives the same label."""
    rule = RULES[name]
    latent = np.array([rule.latent(factors) for factors in people])
    draws = np.array([stream(seed, f"rule.{name}").uniform() for seed in seeds])
    return latent, draws < 1 / (1 + np.exp(-SLOPE * latent))


DERMIS, SUPERFICIAL_FAT, SFM, DEEP_FAT, DFM, MUSCLE = LAYERS


def _singles(quantity: str, layers: Sequence[str]) -> dict[str, Rule]:
    return {
        f"{layer} {quantity.removesuffix('_mm')}": Rule({f"{layer}.{quantity}": 1.0})
        for layer in layers
    }


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **_singles("gray", LAYERS),
        **_singles("thickness_mm", LAYERS[:5]),
        "muscle infiltration": Rule({f"{MUSCLE}.infiltration": 1.0}),
        "muscle stiffness": Rule({f"{MUSCLE}.shear_m_s": 1.0}),
        "deep_fascial_membrane stiffness": Rule({f"{DFM}.shear_m_s": 1.0}),
        "DFM and muscle gray": Rule({f"{DFM}.gray": 1.0, f"{MUSCLE}.gray": 1.0}),
        "DFM gray and thickness": Rule({f"{DFM}.gray": 1.0, f"{DFM}.thickness_mm": 1.0}),
        "SFM gray, SF thickness": Rule(
            {f"{SFM}.gray": 1.0, f"{SUPERFICIAL_FAT}.thickness_mm": -1.0}
        ),
        "mixed": Rule(MappingProxyType(default_effects())),
        "interaction of DFM and muscle gray": Rule(
            products={(f"{DFM}.gray", f"{MUSCLE}.gray"): 1.0}
        ),
        "interaction of DFM gray and thickness": Rule(
            products={(f"{DFM}.gray", f"{DFM}.thickness_mm"): 1.0}
        ),
        "DFM gray, confounded by body mass": Rule({f"{DFM}.gray": 1.0, "anatomy.body_mass": 0.5}),
        "none": Rule(),
    }
)
"""Every rule that the classifier and its attributions are tested on."""
