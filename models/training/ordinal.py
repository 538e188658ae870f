"""Ordinal: ordered levels of pain, as one logit and increasing thresholds, fitted from the binary heads.

The proportional-odds model of McCullagh (1980): log-odds of level k or more = logit - threshold k. There is
one logit, so what a layer adds to it has one meaning: as many log-odds for every threshold. Nominal classes
would need a logit for each, and contributions a reference class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit

from models.evaluation.metrics import auc
from models.layer.pain import PainNetwork
from models.layer.weights import Classifier
from models.steps.classify import Levels
from models.training.pain import Features

Matrix = NDArray[np.float64]
Numbers = NDArray[np.int64]
GAP_LIMITS = (-6.0, 5.0)
"""Of the logarithm of a gap between thresholds; a fit with people at every level stays inside."""


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """Of n people: their features, and level (n,) from 0, no pain."""

    features: Features
    level: Numbers


@dataclass(frozen=True, slots=True)
class Quality:
    """How well held-out people's levels are told.

    areas    AUC of the logit at each threshold: k or more against less.
    score    ranked probability score (Epstein 1969), mean squared error of P(level >= k); 0 is best.
    skill    1 - score over that of telling everybody the learners' shares; above 0 is better than those.
    kappa    Cohen's kappa with squared weights (1968), of the median level told.
    said     mean P(level >= k) at each threshold, which ``seen``, the share of people there, should equal.
    """

    areas: tuple[float, ...]
    score: float
    skill: float
    kappa: float
    said: tuple[float, ...]
    seen: tuple[float, ...]


def fit_levels(
    classifier: Classifier,
    train: Graded,
    validation: Graded,
    names: tuple[str, ...],
    penalties: Sequence[float],
) -> Classifier:
    """The classifier with levels and a new temperature; its binary heads, fitted before, move in place.

    Minimizes mean -log P(level) + penalty / 2 · |weight - binary weight|², over the weights, the bias and the
    thresholds. The penalty that suits the held-out people best is taken, an infinite one among them, which
    leaves the weights as they are. Columns that the binary fit left out stay out. Every level must be there
    in ``train``, or its thresholds are anywhere.
    """
    network = classifier.network
    rows, check = (_design(network, item.features) for item in (train, validation))
    heads = network.weight.double().numpy().copy()
    used = (heads != 0).any(0)
    rows, check, heads = rows[:, used], check[:, used], heads[:, used]
    start = _Fit(heads.mean(0), float(network.bias.mean()), np.arange(len(names) - 1.0))
    tried = [(penalty, _fit(rows, train.level, start, penalty)) for penalty in (*penalties, np.inf)]
    penalty, whole = min(tried, key=lambda item: item[1].loss(check, validation.level))
    generator = np.random.default_rng(np.random.SeedSequence([0, len(rows)]))
    for member in range(network.members):
        people = generator.integers(
            0, len(rows), len(rows)
        )  # those that the binary head learned from
        begin = replace(whole, weight=heads[member])
        found = _fit(rows[people], train.level[people], begin, penalty, cuts=False)
        network.weight[member, torch.from_numpy(used)] = torch.from_numpy(found.weight).float()
        network.bias[member] = found.bias
    levels = Levels(names, tuple(round(float(cut), 4) for cut in whole.cuts))
    made = replace(classifier, levels=levels)
    return replace(made, temperature=temperature_of(made, validation))


def _design(network: PainNetwork, features: Features) -> Matrix:
    with torch.no_grad():
        return np.asarray(network.design(features.pooled, features.measured).double().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Weights (column,), a bias, and thresholds (level - 1,), the first 0."""

    weight: Matrix
    bias: float
    cuts: Matrix

    def loss(self, rows: Matrix, level: Numbers) -> float:
        return float(_loss(rows @ self.weight + self.bias, self.cuts, level)[0])


def _fit(rows: Matrix, level: Numbers, start: _Fit, penalty: float, cuts: bool = True) -> _Fit:
    """From ``start``, whose weights draw the new ones; thresholds by the logarithms of their gaps."""
    columns = rows.shape[1] if np.isfinite(penalty) else 0
    gaps = len(start.cuts) - 1 if cuts else 0

    def parts(values: Matrix) -> _Fit:
        weight = values[:columns] if columns else start.weight
        found = np.append(0.0, np.exp(values[columns + 1 :]).cumsum()) if gaps else start.cuts
        return _Fit(weight, float(values[columns]), found)

    def objective(values: Matrix) -> tuple[float, Matrix]:
        fit = parts(values)
        loss, slope, edges = _loss(rows @ fit.weight + fit.bias, fit.cuts, level)
        moved = (fit.weight - start.weight) * (penalty if columns else 0.0)
        loss += 0.5 * float(moved @ (fit.weight - start.weight))
        above = edges[::-1].cumsum()[::-1]  # a gap moves its threshold and all above it
        by_gap = above[1:] * np.exp(values[columns + 1 :]) if gaps else above[:0]
        by_weight = (rows.T @ slope + moved)[:columns]
        return loss, np.concatenate([by_weight, [slope.sum()], by_gap])

    first = np.concatenate(
        [start.weight[:columns], [start.bias], np.log(np.diff(start.cuts))[:gaps]]
    )
    limits: list[tuple[float | None, float | None]] = [(None, None)] * (columns + 1) + [
        GAP_LIMITS
    ] * gaps
    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8}
    found = minimize(objective, first, jac=True, method="L-BFGS-B", bounds=limits, options=options)
    return parts(np.asarray(found.x))


def _loss(logit: Matrix, cuts: Matrix, level: Numbers) -> tuple[float, Matrix, Matrix]:
    """Mean -log P(level), its slope in each logit (n,), and in each threshold.

    With a, b the logit less the threshold below and above: P = s(a) - s(b) = s(a) s(-b) (1 - e^(b - a)).
    """
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    upper, lower = logit - edges[level], logit - edges[level + 1]
    inside = np.exp(-np.diff(edges))[level]
    loss = -(log_expit(upper) + log_expit(-lower) + np.log1p(-inside))
    ratio = inside / (1 - inside)
    by_upper, by_lower = -(expit(-upper) + ratio), expit(lower) + ratio
    count = len(level)
    moved = np.zeros(len(edges))
    np.add.at(moved, level, -by_upper / count)
    np.add.at(moved, level + 1, -by_lower / count)
    return float(loss.mean()), (by_upper + by_lower) / count, moved[1:-1]


def temperature_of(classifier: Classifier, validation: Graded) -> float:
    """The divisor of logit and thresholds that makes held-out levels most probable (Guo et al. 2017)."""
    assert classifier.levels
    logit, cuts = logits(classifier.network, validation), np.array(classifier.levels.thresholds)

    def loss(log_temperature: float) -> float:
        hot = float(np.exp(log_temperature))
        return _loss(logit / hot, cuts / hot, validation.level)[0]

    return round(float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)), 4)


def logits(network: PainNetwork, people: Graded) -> Matrix:
    """Mean logit of the members, for each of n people (n,)."""
    with torch.inference_mode():
        logit = network.logit(people.features.pooled, people.features.measured)
    return np.asarray(logit.double().numpy())


def assess(classifier: Classifier, train: Graded, validation: Graded) -> Quality:
    """How well the levels of ``validation`` are told; ``train`` gives the shares to be better than."""
    assert classifier.levels
    logit = logits(classifier.network, validation)
    cuts = np.arange(1, len(classifier.levels.names))
    told = classifier.levels.probabilities(logit, classifier.temperature)
    told = told[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    reached = validation.level[:, None] >= cuts
    base = (train.level[:, None] >= cuts).mean(0)
    score, plain = (float(np.square(said - reached).mean()) for said in (told, base))
    return Quality(
        tuple(auc(logit, reached[:, cut]) for cut in range(len(cuts))),
        score,
        1 - score / plain,
        quadratic_kappa((told > 0.5).sum(1), validation.level),
        tuple(told.mean(0).tolist()),
        tuple(reached.mean(0).tolist()),
    )


def quadratic_kappa(told: Numbers, true: Numbers) -> float:
    """Kappa with squared weights (Cohen 1968): 1 - mean squared error over that of chance.

    NaN where all are alike.
    """
    by_chance = told.var() + true.var() + (told.mean() - true.mean()) ** 2
    error = float(np.square(told - true).mean())
    return 1 - error / float(by_chance) if by_chance > 0 else float("nan")
