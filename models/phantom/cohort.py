"""Cohorts: which seeds train, validate and test, and how widely their sweeps vary."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from models.phantom.factors import draw_factors, reference
from models.phantom.fan import fan_size_mm
from models.phantom.streams import stream
from models.phantom.surfaces import MEMBRANES, needed_depth_mm
from models.phantom.synthesize import PhantomRequest

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ROOM = 10**6
NOTHING_FIXED: Mapping[str, float] = MappingProxyType({})
ABSENT_SHARES = {1: 0.015, 2: 0.01, 3: 0.04, 4: 0.02, 5: 0.01}
"""Share of people without a layer; without deep fat both membranes lie on each other. A choice."""
MERGED_SHARE, BROKEN_SHARE = 0.04, 0.04
"""Share of people whose deep fat ends somewhere, and, per membrane, of those where it has a gap. A choice."""
FAN_COLUMNS = 280


def person_seed(split: Split, cohort: int, number: int) -> int:
    """Seed of one simulated person; splits never share one, nor do cohorts below a million persons.

    The seeds of all splits lie at 10^12 and above, so that a small seed given by hand is in none of them.
    """
    if not (0 <= cohort < ROOM and 0 <= number < ROOM):
        raise ValueError(f"cohort {cohort} and number {number} must lie in 0 to {ROOM - 1}")
    return ((SPLITS.index(split) + 1) * ROOM + cohort) * ROOM + number


@dataclass(frozen=True, slots=True)
class Protocol:
    """How sweeps are taken: each range in mm is drawn from evenly, per person.

    ``wide`` is the share of people drawn from far wider ranges than the usual, for training that must
    survive images which are not the simulator's. ``convex`` is the share scanned with a curved probe.
    """

    slices: int = 8
    depth_mm: tuple[float, float] = (26.0, 55.0)
    width_mm: tuple[float, float] = (28.0, 45.0)
    row_mm: tuple[float, float] = (0.12, 0.28)
    column_mm: tuple[float, float] = (0.15, 0.4)
    slice_mm: tuple[float, float] = (0.3, 1.0)
    shear_wave: bool = False
    wide: float = 0.0
    convex: float = 0.15


def varied_request(
    seed: int, protocol: Protocol, fixed: Mapping[str, float] = NOTHING_FIXED
) -> PhantomRequest:
    """The sweep of one person: probe, field of view, spacing and missing layers.

    The operator sets the depth so that no layer of this person is squeezed: inside the protocol's range
    where that holds them, deeper where it does not. ``fixed`` factors are known to the operator.
    """
    drawn = {
        name: float(stream(seed, f"protocol.{name}").uniform(*getattr(protocol, name)))
        for name in ("depth_mm", "width_mm", "row_mm", "column_mm", "slice_mm")
    }
    wide = _happens(seed, "wide", protocol.wide)
    absent = tuple(
        layer for layer, share in ABSENT_SHARES.items() if _happens(seed, f"absent {layer}", share)
    )
    factors = draw_factors(seed, fixed, wide)
    needed = needed_depth_mm(factors, absent)
    margin = float(stream(seed, "protocol.margin").uniform(1.0, 1.25))
    # A little of the margin is given up before the protocol's range is left.
    depth = max(drawn["depth_mm"], needed, min(needed * margin, protocol.depth_mm[1]))
    height, width, column = depth, drawn["width_mm"], drawn["column_mm"]
    convex = _happens(seed, "convex", protocol.convex)
    if convex:
        half = math.radians(reference()["probe.fan_half_deg"].draw(seed, "protocol.fan"))
        height, width = fan_size_mm(depth, factors["probe.radius_mm"], half)
        column = max(column, width / FAN_COLUMNS)
    return PhantomRequest(
        shape=(protocol.slices, math.ceil(height / drawn["row_mm"]), round(width / column)),
        spacing_mm=(drawn["slice_mm"], drawn["row_mm"], column),
        shear_wave=protocol.shear_wave,
        absent=absent,
        fixed=fixed,
        convex=convex,
        merged=4 not in absent and _happens(seed, "merged", MERGED_SHARE),
        broken=tuple(
            layer
            for layer in MEMBRANES
            if layer not in absent and _happens(seed, f"broken {layer}", BROKEN_SHARE)
        ),
        wide=wide,
    )


def _happens(seed: int, name: str, share: float) -> bool:
    return bool(stream(seed, f"protocol.{name}").uniform() < share)
