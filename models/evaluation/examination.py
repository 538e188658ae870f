"""Examination: all that is compared with the truth of one simulated person, also with one factor changed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.person import Person, find_layers, person_of, weights_of
from models.layer import place
from models.layer.network import LAYERS
from models.phantom import Phantom, PhantomRequest, Protocol, synthesize, varied_request
from models.phantom.cohort import FAN_COLUMNS
from models.phantom.factors import draw_factors, reference
from models.phantom.fan import fan_size_mm
from models.scan import Scan
from models.steps.segment import Layers, in_order

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """One person, beside what the segmentation and the gate say.

    confidence  predicted Dice (6,), NaN for a layer that was not found.
    there       whether the image shows the layer (6,), and ``found`` whether it was found.
    in_order    share of the columns in anatomical order.
    refusal     why the gate refuses the scan; None when it does not, or when there is no gate.
    """

    person: Person
    confidence: NDArray[np.float64]
    there: Bools
    found: Bools
    in_order: float
    refusal: str | None

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice (6,) of the layers that the image shows, else NaN."""
        return np.where(self.there, self.person.dice, np.nan)

    @property
    def thickness_error_mm(self) -> NDArray[np.float64]:
        """Measured less true thickness (6,); NaN where there is no truth or no measurement."""
        return np.asarray(self.person.thickness_mm - self.person.true_thickness_mm, np.float64)


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a person's scan: factors set by hand, other pixels, a curved probe."""

    fixed: Mapping[str, float] = field(default_factory=dict)
    pixel_mm: float | None = None
    convex: bool = False


def examine_in_full(
    seed: int, protocol: Protocol, folder: Path, change: Change | None = None
) -> Examination:
    """Simulate, segment, judge, measure and pool one person; one thread."""
    torch.set_num_threads(1)
    request = varied_request(seed, protocol)
    return examination_of(synthesize(seed, changed(seed, request, change or Change())), folder)


def examine_changes(
    seed: int, changes: tuple[Change, ...], protocol: Protocol, folder: Path
) -> list[Examination]:
    """The same person once per change."""
    return [examine_in_full(seed, protocol, folder, change) for change in changes]


def examination_of(phantom: Phantom, folder: Path) -> Examination:
    """Examine what was simulated with the weights, and the gate where there is one, of a folder."""
    weights = weights_of(folder)
    layers = find_layers(phantom.scan, weights)
    numbers = np.arange(1, LAYERS + 1)
    return Examination(
        person_of(phantom, layers.labelmap, weights),
        np.array(layers.confidence),
        np.isin(numbers, phantom.labelmap),
        np.isin(numbers, layers.labelmap),
        share_in_order(phantom.scan, layers),
        refusal(phantom.scan, layers, folder),
    )


def share_in_order(scan: Scan, layers: Layers) -> float:
    """Share of the columns whose labels run from the skin down."""
    labels, inside = torch.from_numpy(layers.labelmap), torch.tensor(scan.valid)
    return float(in_order(labels, inside).double().mean())


def refusal(scan: Scan, layers: Layers, folder: Path) -> str | None:
    """Why the gate refuses a scan, or None."""
    rule = _gate(folder)
    return place.judge(scan, layers, rule).reason if rule else None


def has_gate(folder: Path) -> bool:
    """Whether a folder of weights holds a rule for the gate."""
    return (folder / place.FILE).exists()


@cache
def _gate(folder: Path) -> place.Rule | None:
    return place.load_rule(folder)


def changed(seed: int, request: PhantomRequest, change: Change) -> PhantomRequest:
    """The request of the same scan after a change; the field of view stays, but for a curved probe."""
    slices, rows, columns = request.shape
    step, row_mm, column_mm = request.spacing_mm
    height, width = rows * row_mm, columns * column_mm
    if change.convex and not request.convex:
        half = math.radians(reference()["probe.fan_half_deg"].draw(seed, "protocol.fan"))
        radius = draw_factors(seed, change.fixed, request.wide)["probe.radius_mm"]
        height, width = fan_size_mm(height, radius, half)
        column_mm = max(column_mm, width / FAN_COLUMNS)
    if change.pixel_mm:
        row_mm = column_mm = change.pixel_mm
    return replace(
        request,
        shape=(slices, math.ceil(height / row_mm), round(width / column_mm)),
        spacing_mm=(step, row_mm, column_mm),
        convex=request.convex or change.convex,
        fixed={**request.fixed, **change.fixed},
    )
