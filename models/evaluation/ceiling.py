"""Ceiling: how well a reader would do who marks every echo exactly where the image has it.

The simulator's echoes lie a little beside the true borders, as a reader's marks do. No image is made here:
the borders are put where their echoes are, and held against the truth. Speckle, blur and echoes that are
missing come on top, so that no network can be expected to reach this.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import dice
from models.evaluation.segmentation import NAMES
from models.evaluation.tables import Table, mean
from models.layer.network import LAYERS
from models.phantom import PhantomRequest, Protocol, varied_request
from models.phantom.anatomy import Anatomy, tissue_between, true_thickness_mm
from models.phantom.echoes import interface
from models.phantom.fan import nearest
from models.phantom.synthesize import Body, body_of


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """One person: Dice (6,) of the borders at their echoes, and error of their mean thickness in mm (6,).

    NaN where a layer is not there, or not whole.
    """

    dice: NDArray[np.float64]
    error_mm: NDArray[np.float64]


def mark(seed: int, protocol: Protocol) -> Marked:
    """What marking every echo gives, for the person that ``examine`` simulates from this seed."""
    request = varied_request(seed, protocol)
    body = body_of(seed, request)
    echoes = _at_echoes(seed, body)
    found, true = (_shown(body, anatomy, request) for anatomy in (echoes, body.anatomy))
    overlap, error = np.full(LAYERS, np.nan), np.full(LAYERS, np.nan)
    marked, planted = (true_thickness_mm(each, body.grid) for each in (echoes, body.anatomy))
    for layer in range(1, LAYERS + 1):
        if (true == layer).any():
            overlap[layer - 1] = dice(found == layer, true == layer)
        error[layer - 1] = abs(marked.get(layer, np.nan) - planted.get(layer, np.nan))
    return Marked(overlap, error)


def _at_echoes(seed: int, body: Body) -> Anatomy:
    """The same layers with every border at its echo; an absent layer stays absent."""
    true = body.anatomy.surfaces_mm
    moved = np.stack(
        [
            interface(seed, body.grid, body.anatomy, body.factors, number).center_mm
            for number in range(len(true))
        ]
    )
    for number in range(1, len(true)):
        none = true[number] <= true[number - 1]
        below = np.maximum(moved[number], moved[number - 1])
        moved[number] = np.where(none, moved[number - 1], below)
    return replace(body.anatomy, surfaces_mm=moved, tissue=tissue_between(moved, body.grid))


def _shown(body: Body, anatomy: Anatomy, request: PhantomRequest) -> NDArray[np.uint8]:
    labelmap = anatomy.labelmap
    shown: NDArray[np.uint8] = nearest(body.fan, labelmap) if body.fan else labelmap
    assert shown.shape == request.shape
    return shown


def table(people: list[Marked]) -> Table:
    """One row per layer, and their mean."""
    overlap = np.stack([each.dice for each in people])
    error = np.stack([each.error_mm for each in people])
    rows = [(name, mean(overlap[:, at]), mean(error[:, at])) for at, name in enumerate(NAMES)]
    whole = mean([row[1] for row in rows])
    return Table(
        "ceiling",
        "A reader of every echo",
        f"Borders marked exactly where their echoes lie, against the truth, in {len(people)} test people: no "
        "image, no speckle, nothing missing. What a network can reach is below.",
        ("Layer", "Dice", "Mean |thickness error| mm"),
        (*rows, ("Mean of layers", whole, float("nan"))),
    )
