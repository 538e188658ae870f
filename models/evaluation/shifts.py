"""Shifts: the same people with one thing of the acquisition changed, everything else as it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from models.evaluation.examination import Change, Examination
from models.evaluation.metrics import mean_interval
from models.evaluation.segmentation import NAMES, dice_of_scans
from models.evaluation.tables import Cell, Table, between, mean

UNCHANGED = "unchanged"
MOST_LOSS = 0.03
"""Of mean Dice: what a shift may cost."""

CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        UNCHANGED: Change(),
        "5 MHz": Change({"probe.frequency_mhz": 5.0}),
        "15 MHz": Change({"probe.frequency_mhz": 15.0}),
        "gain +6 dB": Change({"machine.gain_db": 6.0}),
        "gain -6 dB": Change({"machine.gain_db": -6.0}),
        "noise and shadow": Change({"machine.noise_db": -108.0, "machine.shadow_db": 16.0}),
        "dynamic range 42 dB": Change({"machine.dynamic_range_db": 42.0}),
        "pixels of 0.1 mm": Change(pixel_mm=0.1),
        "pixels of 0.35 mm": Change(pixel_mm=0.35),
        "transverse": Change({"probe.transverse": 0.6}),
        "longitudinal": Change({"probe.transverse": 0.1}),
        "curved probe": Change(convex=True),
    }
)
"""Frequency and gain at the ends of what training draws as usual; noise, shadow and 42 dB beyond."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Mean Dice under a shift, and its change against the unchanged scans of the same people."""

    name: str
    dice: float
    change: float
    low: float
    high: float


def shifts(examined: Mapping[str, Sequence[Examination]]) -> list[Shift]:
    """Paired by person, 95 % interval by bootstrap over people."""
    plain = dice_of_scans(examined[UNCHANGED])
    found = []
    for name, people in examined.items():
        dice = dice_of_scans(people)
        change = mean_interval(dice - plain)
        found.append(Shift(name, mean(dice), *change))
    return found


def table(examined: Mapping[str, Sequence[Examination]]) -> Table:
    """One row per shift."""
    plain = np.stack([item.dice for item in examined[UNCHANGED]])
    rows: list[tuple[Cell, ...]] = []
    for shift in shifts(examined):
        stack = np.stack([item.dice for item in examined[shift.name]])
        by_layer = [mean(column) for column in (stack - plain).T]
        worst = int(np.nanargmin(by_layer))
        error = np.stack([item.thickness_error_mm[:5] for item in examined[shift.name]])
        kept = "" if shift.name == UNCHANGED else "yes" if -shift.change <= MOST_LOSS else "NO"
        rows.append(
            (
                shift.name,
                shift.dice,
                shift.change,
                between(shift.low, shift.high),
                kept,
                f"{NAMES[worst]} {by_layer[worst]:+.3f}",
                mean(abs(error)),
            )
        )
    count = len(examined[UNCHANGED])
    return Table(
        "shifts",
        "Shifts of the acquisition",
        f"{count} people with a linear probe, each scanned again with one thing changed. Wanted: no loss "
        f"above {MOST_LOSS:g}.",
        (
            "Shift",
            "Dice",
            "Change",
            "95 % interval",
            f"Loss <= {MOST_LOSS:g}",
            "Layer that changes most for the worse",
            "Mean |thickness error| mm",
        ),
        tuple(rows),
    )
