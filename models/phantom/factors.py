"""Factors: the numbers that make one volume, drawn from reference_values.toml."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from models.phantom.streams import stream

LAYERS = (
    "dermis",
    "superficial_fat",
    "superficial_fascial_membrane",
    "deep_fat",
    "deep_fascial_membrane",
    "muscle",
)
"""Names of layers 1 to 6, from the skin down."""

WIDE = "wide."
FATS = ("superficial_fat", "deep_fat")
FOLLOW_BODY_MASS = ("superficial_fat.thickness_mm", "deep_fat.thickness_mm")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One entry of reference_values.toml: a truncated normal, a uniform, or a constant."""

    mean: float
    sd: float
    low: float
    high: float
    source: str

    def standardize(self, value: float) -> float:
        """The value as a number of standard deviations from the mean."""
        return (value - self.mean) / self.sd

    def draw(self, seed: int, name: str) -> float:
        """One value from the stream of this name; ``sd`` 0 is uniform."""
        generator = stream(seed, name)
        if self.sd > 0:
            return min(max(self.mean + self.sd * generator.standard_normal(), self.low), self.high)
        return float(generator.uniform(self.low, self.high))


@cache
def reference() -> Mapping[str, Quantity]:
    """All quantities, keyed ``section.name``. Raises KeyError when one has no source."""
    text = files("models.phantom").joinpath("reference_values.toml").read_text(encoding="utf-8")
    entries: dict[str, Quantity] = {}
    for section, table in tomllib.loads(text).items():
        for name, entry in table.items():
            entries[f"{section}.{name}"] = _quantity(entry)
    return MappingProxyType(entries)


def _quantity(entry: Mapping[str, Any]) -> Quantity:
    if "value" in entry:
        value = float(entry["value"])
        return Quantity(value, 0.0, value, value, entry["source"])
    low, high = float(entry["low"]), float(entry["high"])
    mean = float(entry.get("mean", (low + high) / 2))
    return Quantity(mean, float(entry.get("sd", 0.0)), low, high, entry["source"])


def default_effects() -> dict[str, float]:
    """Weight of each factor in the pain latent, as in reference_values.toml."""
    head = "effects."
    return {
        key.removeprefix(head): item.mean
        for key, item in reference().items()
        if key.startswith(head)
    }


def draw_factors(seed: int, fixed: Mapping[str, float], wide: bool = False) -> dict[str, float]:
    """All factors of one volume; ``fixed`` values replace drawn ones.

    ``wide`` draws those of the table [wide] from there: far beyond what is usual.
    Fat thickness follows body mass index with the correlation ``anatomy.body_mass_fat``.
    Raises KeyError for a fixed factor that does not exist.
    """
    known = reference()
    if unknown := {key for key in fixed if key not in known or key.startswith(WIDE)}:
        raise KeyError(f"no such factor: {', '.join(sorted(unknown))}; see reference_values.toml")
    factors = {
        key: item.draw(seed, key)
        for key, item in known.items()
        if not key.startswith(("effects.", WIDE))
    }
    if wide:
        drawn = {key: item.draw(seed, key) for key, item in known.items() if key.startswith(WIDE)}
        factors |= {key.removeprefix(WIDE): value for key, value in drawn.items()}
    factors |= {key: float(value) for key, value in fixed.items()}
    share = factors["anatomy.body_mass_fat"]
    for key in FOLLOW_BODY_MASS:
        if key not in fixed:
            own = known[key].standardize(factors[key])
            mixed = share * factors["anatomy.body_mass"] + math.sqrt(1 - share**2) * own
            item = known[key]
            factors[key] = min(max(item.mean + item.sd * mixed, item.low), item.high)
    return factors


def pain_latent(factors: Mapping[str, float], effects: Mapping[str, float]) -> float:
    """Σ weight · standardized factor / norm of the weights: unit variance for independent factors.

    Raises ValueError for a factor that is not normally distributed.
    """
    known = reference()
    if wrong := [key for key in effects if key not in known or known[key].sd == 0]:
        raise ValueError(f"no effect can be planted on {', '.join(wrong)}: not a normal factor")
    norm = math.sqrt(sum(weight**2 for weight in effects.values()))
    if norm == 0:
        return 0.0
    return sum(w * known[key].standardize(factors[key]) for key, w in effects.items()) / norm
