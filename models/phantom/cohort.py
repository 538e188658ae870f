"""Cohorts: which seeds train, validate and test, and how widely their sweeps vary."""

from dataclasses import dataclass
from typing import Literal

from models.phantom.streams import stream
from models.phantom.synthesize import PhantomRequest

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ROOM = 10**6


def person_seed(split: Split, cohort: int, number: int) -> int:
    """Seed of one simulated person; splits never share one, nor do cohorts below a million persons.

    The seeds of all splits lie at 10^12 and above, so that a small seed given by hand is in none of them.
    """
    if not (0 <= cohort < ROOM and 0 <= number < ROOM):
        raise ValueError(f"cohort {cohort} and number {number} must lie in 0 to {ROOM - 1}")
    return ((SPLITS.index(split) + 1) * ROOM + cohort) * ROOM + number


@dataclass(frozen=True, slots=True)
class Protocol:
    """How sweeps are taken: each range in mm is drawn from evenly, per person."""

    slices: int = 8
    depth_mm: tuple[float, float] = (26.0, 55.0)
    width_mm: tuple[float, float] = (28.0, 45.0)
    row_mm: tuple[float, float] = (0.12, 0.28)
    column_mm: tuple[float, float] = (0.15, 0.4)
    slice_mm: tuple[float, float] = (0.3, 1.0)
    shear_wave: bool = False


def varied_request(seed: int, protocol: Protocol) -> PhantomRequest:
    """The sweep of one person: field of view and spacing drawn from the protocol's ranges."""
    drawn = {
        name: float(stream(seed, f"protocol.{name}").uniform(*getattr(protocol, name)))
        for name in ("depth_mm", "width_mm", "row_mm", "column_mm", "slice_mm")
    }
    rows = round(drawn["depth_mm"] / drawn["row_mm"])
    columns = round(drawn["width_mm"] / drawn["column_mm"])
    return PhantomRequest(
        shape=(protocol.slices, rows, columns),
        spacing_mm=(drawn["slice_mm"], drawn["row_mm"], drawn["column_mm"]),
        shear_wave=protocol.shear_wave,
    )
