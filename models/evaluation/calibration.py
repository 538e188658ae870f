"""Calibration: does a told probability of pain come true as often as it says, and could one tell?

An expected calibration error is above zero even where every probability is right, since few predictions fall
into each bin. So it stands beside what a calibrated classifier of the same probabilities would show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from models.evaluation.decision import CHANNELS, Decision
from models.evaluation.metrics import (
    REPEATS,
    bin_members,
    bootstrap_weights,
    calibration_error_if_calibrated,
    expected_calibration_error,
)
from models.evaluation.tables import Cell, Table

STEPS = 25  # of Newton's method
SURE = 1e-12  # a probability nearer to 0 or 1 has no logit
COLUMNS = (
    "Predictions of",
    "People",
    "Predictions",
    "Calibration error",
    "If calibrated (95 %)",
    "If calibrated, people kept whole (95 %)",
    "Slope",
    "Slope 95 %",
    "Intercept",
    "Intercept 95 %",
)
MEANING = (
    "If calibrated: the error that labels drawn from these very probabilities show, mean and 95 % range; an "
    "error inside it is no sign of miscalibration. People kept whole: the same for predictions of one person "
    "that err together (each person's residuals times one normal number). Slope and intercept: logistic "
    "recalibration of the logit, 1 and 0 where it is calibrated; a slope below 1 is too sure. Intervals by "
    "bootstrap over people."
)
Floats = NDArray[np.float64]
Interval = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """Predictions (prediction,): probability as told, whether there is pain, and whose it is, from 0."""

    words: str
    probability: Floats
    pain: NDArray[np.bool_]
    person: NDArray[np.int64]


def once(words: str, probability: Floats, pain: NDArray[np.bool_]) -> Said:
    """One prediction of each person."""
    return Said(words, probability, pain, np.arange(len(pain)))


def own_table(said: Sequence[Said]) -> Table:
    """Of the weights themselves, one row per kind of network."""
    return Table(
        "calibration",
        "Calibration of the weights",
        "Pooled are the test people of all cohorts, one prediction each, on the rule that the weights were "
        f"trained on. {MEANING}",
        COLUMNS,
        tuple(_row(item) for item in said),
    )


def rules_table(decisions: Sequence[Decision], people: int) -> Table:
    """Of all rules and label draws together, one row per kind of network."""
    said = []
    for channels in CHANNELS:
        items = [item for item in decisions if item.channels == channels]
        probability = np.concatenate([item.probability for item in items])
        pain = np.concatenate([item.pain for item in items])
        person = np.tile(np.arange(people), len(pain) // max(people, 1))
        said.append(Said(channels, probability, pain, person))
    rules = len({item.rule for item in decisions})
    draws = len(decisions[0].network)
    return Table(
        "calibration_rules",
        "Calibration over all rules",
        f"Pooled are {rules} rules x {draws} draws of labels of the same people, each with its own network "
        f"and temperature. {MEANING}",
        COLUMNS,
        tuple(_row(item) for item in said),
    )


def _row(said: Said) -> tuple[Cell, ...]:
    people = int(said.person.max()) + 1
    slope, intercept = recalibration(said)
    return (
        said.words,
        people,
        len(said.pain),
        expected_calibration_error(said.probability, said.pain),
        _interval(calibration_error_if_calibrated(said.probability)),
        _interval(if_people_are_whole(said)),
        slope[0],
        _range(slope),
        intercept[0],
        _range(intercept),
    )


def _interval(found: Interval) -> str:
    return f"{found[0]:.3f} ({_range(found)})"


def _range(found: Interval) -> str:
    return f"{found[1]:.3f} to {found[2]:.3f}" if np.isfinite(found[1]) else "-"


def if_people_are_whole(said: Said, seed: int = 0) -> Interval:
    """Calibration error of a calibrated classifier whose predictions of one person err together.

    Multiplier bootstrap: residuals are summed per person and bin, centered, and each person's weighed by one
    normal number, so that the bins' sums vary as these people's do. Mean, 2.5th and 97.5th percentile.
    """
    member = bin_members(said.probability)
    sums = np.zeros((int(said.person.max()) + 1, member.shape[1]))
    np.add.at(sums, said.person, (said.probability - said.pain)[:, None] * member)
    drawn = np.random.default_rng(seed).standard_normal((REPEATS, len(sums)))
    errors = abs(drawn @ (sums - sums.mean(0))).sum(1) / len(said.pain)
    low, high = np.percentile(errors, (2.5, 97.5))
    return float(errors.mean()), float(low), float(high)


def recalibration(said: Said) -> tuple[Interval, Interval]:
    """Slope and intercept, each with its 95 % interval by bootstrap over people.

    NaN where the labels are all alike or told apart without an error: there is no such line then.
    """
    score = logit(np.clip(said.probability, SURE, 1 - SURE))
    found = recalibrate(score, said.pain, np.ones(len(score)))
    weights = bootstrap_weights(int(said.person.max()) + 1)
    drawn = [recalibrate(score, said.pain, weight[said.person]) for weight in weights]
    draws = np.array([draw for draw in drawn if np.isfinite(draw).all()])
    if not (np.isfinite(found).all() and len(draws)):
        draws = np.full((1, 2), np.nan)
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    slope, intercept = (
        (float(middle), float(below), float(above))
        for middle, below, above in zip(found, low, high, strict=True)
    )
    return slope, intercept


def recalibrate(score: Floats, pain: NDArray[np.bool_], weight: Floats) -> tuple[float, float]:
    """Slope and intercept of P(pain) = sigmoid(intercept + slope · score), people counting ``weight`` times.

    Newton's method; NaN where it finds no maximum.
    """
    slope, intercept = 1.0, 0.0
    for _ in range(STEPS):
        probability = expit(intercept + slope * score)
        rest = weight * (pain - probability)
        spread = weight * probability * (1 - probability)
        up, up_score = rest.sum(), rest @ score
        one, cross, square = spread.sum(), spread @ score, spread @ score**2
        area = one * square - cross**2
        if not area > SURE * max(one * square, SURE):
            break
        change = (one * up_score - cross * up) / area, (square * up - cross * up_score) / area
        slope, intercept = slope + change[0], intercept + change[1]
        if max(abs(change[0]), abs(change[1])) < 1e-8:
            return float(slope), float(intercept)
    return float("nan"), float("nan")
