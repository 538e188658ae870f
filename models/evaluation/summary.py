"""Summary: layers, thickness and the decision of weights as they are, once per test cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from models.evaluation import baseline
from models.evaluation.calibration import Said, once
from models.evaluation.examination import Examination
from models.evaluation.metrics import (
    auc,
    calibration_error_if_calibrated,
    expected_calibration_error,
)
from models.evaluation.person import Person
from models.evaluation.tables import Table, mean, spread
from models.layer.labels import SEGMENTS
from models.layer.weights import Classifier, Weights

Figures = dict[str, float]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """The weights whose decision is judged, and the regressions beside them; none without baseline.json."""

    weights: Weights
    regressions: Mapping[str, baseline.Logistic]

    @property
    def classifiers(self) -> tuple[tuple[str, str, Classifier], ...]:
        """Words for the channels, name of the regression, network with its calibration."""
        return (
            ("B-mode", "pain_b", self.weights.pain_b),
            ("B-mode + shear wave", "pain_bswe", self.weights.pain_bswe),
        )


def figures(
    cohorts: Sequence[Sequence[Examination]], judge: Judge
) -> tuple[dict[str, list[float]], Table]:
    """Every figure once per cohort, and their table."""
    rows = [of_cohort(cohort, judge) for cohort in cohorts]
    numbers = {name: [row[name] for row in rows] for name in rows[0]}
    lines = [
        (name, mean(values), spread(values), " / ".join(f"{value:.3f}" for value in values))
        for name, values in numbers.items()
    ]
    note = (
        "The weights as they are: layers and thickness, and the decision on the rule they were trained on "
        "(mixed)."
    )
    if not judge.regressions:
        note += (
            f" Without {baseline.FILE} beside the weights there is no regression to compare with."
        )
    columns = ("Figure", "Mean", "SD of cohorts", "Each cohort")
    return numbers, Table("summary", "Summary", note, columns, tuple(lines))


def of_cohort(examined: Sequence[Examination], judge: Judge) -> Figures:
    """All figures of one cohort; NaN where it is too small for one, or there is no regression."""
    dice = np.stack([item.dice for item in examined])
    error = np.stack([abs(item.thickness_error_mm) for item in examined])
    found: Figures = {"Dice, mean of layers": mean([mean(row) for row in dice.T])}
    for layer, segment in enumerate(SEGMENTS):
        found[f"Dice, {segment.label}"] = mean(dice[:, layer])
    for layer, segment in enumerate(SEGMENTS[:5]):
        found[f"Thickness error mm, {segment.label}"] = mean(error[:, layer])
    return found | _decision([item.person for item in examined], judge)


def _decision(people: Sequence[Person], judge: Judge) -> Figures:
    pain = np.array([person.pain for person in people])
    found = {"AUC, planted latent": auc([person.latent for person in people], pain)}
    for words, name, classifier in judge.classifiers:
        logit = logits(classifier, people)
        found[f"AUC, {words}, network"] = auc(logit, pain)
        found[f"AUC, {words}, logistic regression"] = (
            auc(_plain(judge.regressions[name], people, classifier), pain)
            if judge.regressions
            else float("nan")
        )
        probability = expit(logit / classifier.temperature)
        found[f"Calibration error, {words}"] = expected_calibration_error(probability, pain)
        calibrated, _, _ = calibration_error_if_calibrated(probability)
        found[f"Calibration error if calibrated, {words}"] = calibrated
    return found


def said_of(people: Sequence[Person], judge: Judge) -> list[Said]:
    """What the weights tell of people and what is true, once per kind of network."""
    pain = np.array([person.pain for person in people])
    return [
        once(words, expit(logits(classifier, people) / classifier.temperature), pain)
        for words, _, classifier in judge.classifiers
    ]


def logits(classifier: Classifier, people: Sequence[Person]) -> Floats:
    """What a network says of people (person,), before its temperature."""
    pooled = torch.from_numpy(np.stack([person.pooled for person in people]))
    measured = torch.from_numpy(np.stack([person.measured for person in people]))
    with torch.inference_mode():
        return np.asarray(classifier.network.logit(pooled, measured).numpy(), np.float64)


def _plain(
    regression: baseline.Logistic, people: Sequence[Person], classifier: Classifier
) -> Floats:
    return regression.logits(baseline.plain_features(people, classifier.network.shear_wave))
