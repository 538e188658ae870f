"""Fit the gate of models/layer/place: what is typical of each kind of tissue, and what a shortfall costs.

There are two kinds: simulated training people, plain and strained, and published images of real tissue, of
which ``models.training.real_tissue`` keeps the statistics. Costs come from a logistic regression of each
against made negatives, with costs of zero or more; limits of points from simulated validation people, and
from the fit half of the real images. The other half is kept out to measure on.
Run it again whenever the segmentation network is trained: ``python -m models.training.place FOLDER`` reads
the weights of a folder and writes place.toml beside them.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from models.evaluation.cohort import Cohort, simulate
from models.layer.place import FILE, REASONS, Likeness, Norm, Rule, shortfall, statistics
from models.layer.weights import Weights, load_weights
from models.phantom import Protocol, synthesize, varied_request
from models.phantom.cohort import Split
from models.training.found import digest, find
from models.training.negatives import negative_of
from models.training.real_tissue import read_table, weights_of_table
from models.training.strain import strain

COHORT = 900  # of simulated people whom no network was trained on
SLICES = 3
PENALTY = 0.0005  # of squared costs
ROOM = 1.1  # of points: other people than those of validation must pass as well
MOST_WITHHELD = 2.5  # percent of plain validation people whose decision is withheld
MOST_REAL_WITHHELD = 25.0  # the same of real images: with fewer, over 1 % of made negatives get one
FITTED = ("still", "moving")
Statistics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Size:
    """How many scans the gate is fitted on."""

    people: int = 150
    negatives: int = 540
    validation_people: int = 150
    processes: int = 1


def fit(folder: Path, out: Path, size: Size = Size()) -> Rule:
    """Fit the gate to the segmentation network in ``folder`` and write place.toml into ``out``."""
    people = _people("train", size.people, folder, size.processes)
    negatives = _negatives(size, folder)
    validation = _people("validation", size.validation_people, folder, size.processes)
    plain = validation[: len(validation) // 2]
    kinds = {
        "simulated": fit_likeness(people, negatives, plain, MOST_WITHHELD),
        "real": fit_likeness(real_tissue(), negatives, real_tissue(), MOST_REAL_WITHHELD),
    }
    rule = Rule(kinds, _statement(size, digest(load_weights(folder))))
    (out / FILE).write_text(_toml(rule), encoding="utf-8")
    return rule


def real_tissue() -> list[Statistics]:
    """Statistics of the published images that the gate is fitted on, without the rest of the screen."""
    return [row.statistics for row in read_table() if row.half == "fit" and row.showing in FITTED]


def fit_likeness(
    tissue: Sequence[Statistics],
    negatives: Sequence[Statistics],
    validation: Sequence[Statistics],
    withheld: float,
) -> Likeness:
    """What tells a kind of tissue from negatives; ``withheld`` percent of its validation get no decision."""
    norms = _costs(_typical(tissue), tissue, negatives)
    return Likeness(norms, *_limits(norms, validation, withheld))


def _statement(size: Size, weights: str) -> str:
    images = len({(row.source, row.image) for row in read_table() if row.half == "fit"})
    text = (
        f"Fitted on {size.people} simulated lumbar scans, plain and strained, and on {images} published "
        f"images of limbs, against {size.negatives} made negatives, its limits set on "
        f"{size.validation_people} more scans and these images, found by the segmentation network of weights "
        f"{weights}. No lumbar image of a patient was used."
    )
    if (found_by := weights_of_table()) != weights:
        text += f" The layers of the published images were found by other weights, {found_by}."
    return text


def _people(split: Split, count: int, folder: Path, processes: int) -> list[Statistics]:
    """Plain, then strained: two scans of every person."""
    cohort = Cohort(split, COHORT, count, Protocol(slices=SLICES))
    make = partial(_person, protocol=cohort.protocol, folder=folder)
    both = simulate(make, cohort, processes, f"Simulate {count} people ({split})")
    return [item for place in range(2) for item in (pair[place] for pair in both)]


def _negatives(size: Size, folder: Path) -> list[Statistics]:
    cohort = Cohort("train", COHORT + 1, size.negatives, Protocol(slices=SLICES))
    make = partial(_negative, folder=folder)
    return simulate(make, cohort, size.processes, f"Make {size.negatives} negatives")


def _person(seed: int, protocol: Protocol, folder: Path) -> tuple[Statistics, Statistics]:
    plain = synthesize(seed, varied_request(seed, protocol)).scan
    strained, weights = strain(seed, plain), _weights(folder)
    return (
        statistics(plain, find(plain, weights)),
        statistics(strained, find(strained, weights)),
    )


def _negative(seed: int, folder: Path) -> Statistics:
    _, scan = negative_of(seed)
    return statistics(scan, find(scan, _weights(folder)))


@cache
def _weights(folder: Path) -> Weights:
    torch.set_num_threads(1)
    return load_weights(folder)


def _typical(tissue: Sequence[Statistics]) -> dict[str, Norm]:
    """Typical is the lower quartile, so that half of all lie well above; its spread, down to 2.5 %."""
    norms = {}
    for name in REASONS:
        values = [item[name] for item in tissue]
        low, quartile, median = np.nanpercentile(values, (2.5, 25, 50))
        spread = max(quartile - low, median - quartile, 1e-3)
        norms[name] = Norm(round(float(quartile), 4), round(float(spread), 4), 0.0)
    return norms


def _costs(
    norms: dict[str, Norm], tissue: Sequence[Statistics], negatives: Sequence[Statistics]
) -> dict[str, Norm]:
    """Logistic regression of shortfalls, both sides weighted alike, costs of zero or more."""
    short = np.array([_short(norms, item) for item in [*tissue, *negatives]])
    sign = np.concatenate([np.full(len(tissue), -1.0), np.ones(len(negatives))])
    weight = np.where(sign < 0, 0.5 / len(tissue), 0.5 / len(negatives))

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (short @ values[1:] + values[0])
        slope = -weight * sign * expit(-margin)
        total = -(weight * log_expit(margin)).sum() + PENALTY * (values[1:] ** 2).sum()
        return total, np.concatenate([[slope.sum()], slope @ short + 2 * PENALTY * values[1:]])

    bounds = [(None, None)] + [(0.0, None)] * len(norms)
    best = minimize(loss, np.zeros(1 + len(norms)), jac=True, bounds=bounds, method="L-BFGS-B").x
    return {
        name: Norm(norm.typical, norm.spread, round(float(cost), 4))
        for (name, norm), cost in zip(norms.items(), best[1:], strict=True)
    }


def _short(norms: dict[str, Norm], item: Statistics) -> list[float]:
    return [shortfall(item[name], norm) for name, norm in norms.items()]


def _limits(
    norms: dict[str, Norm], validation: Sequence[Statistics], withheld: float
) -> tuple[float, float]:
    """The points that are too many, and those that are too many for a decision.

    The first are ``ROOM`` times the most of any validation scan, the second those that ``withheld`` percent
    of validation scans exceed.
    """
    cost = np.array([norm.cost for norm in norms.values()])
    points = [np.dot(cost, _short(norms, item)) for item in validation]
    most, sure = ROOM * max(points), np.percentile(points, 100 - withheld)
    return math.ceil(1e4 * most) / 1e4, round(float(sure), 4)


def _toml(rule: Rule) -> str:
    lines = [
        "# The gate of place.py. Written by models.training.place; do not edit, fit again.",
        f'statement = "{rule.statement}"',
    ]
    for kind, likeness in rule.kinds.items():
        lines += ["", f"[kinds.{kind}]", f"most_points = {likeness.most_points}"]
        lines += [f"sure_points = {likeness.sure_points}"]
        for name, norm in likeness.norms.items():
            lines += ["", f"[kinds.{kind}.norms.{name}]", f"typical = {norm.typical}"]
            lines += [f"spread = {norm.spread}", f"cost = {norm.cost}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    fit(Path(sys.argv[1]), Path(sys.argv[1]))
