"""Evaluate the layer analysis: overlap, thickness error and decision on simulated people never trained on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from models.evaluation import baseline
from models.evaluation.cohort import Cohort, simulate
from models.evaluation.metrics import auc, expected_calibration_error
from models.evaluation.person import Person, examine
from models.layer.labels import SEGMENTS
from models.layer.weights import Classifier, Weights, load_weights
from models.phantom import Protocol

Figures = dict[str, float]
MANY_PEOPLE = 40
"""From this many people on, starting several processes pays."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which weights, on how many people of which test cohorts, with how many processes."""

    folder: Path
    volumes: int
    cohorts: tuple[int, ...] = (0, 1, 2)
    processes: int = 2
    protocol: Protocol = Protocol(shear_wave=True)


def evaluate(plan: Plan, out: Path | None, console: Console) -> dict[str, list[float]]:
    """Every figure once per cohort; prints mean and standard deviation, writes them into ``out``."""
    weights = load_weights(plan.folder)
    make = partial(examine, protocol=plan.protocol, folder=plan.folder)
    processes = plan.processes if plan.volumes >= MANY_PEOPLE else 1
    rows: list[Figures] = []
    for number in plan.cohorts:
        cohort = Cohort("test", number, plan.volumes, plan.protocol)
        people = simulate(make, cohort, processes, f"Examine {cohort.count} people (test {number})")
        rows.append(figures(people, weights, baseline.load(plan.folder)))
    table = {name: [row[name] for row in rows] for name in rows[0]}
    _show(table, plan, weights, console)
    if out:
        _write(table, plan, weights, out)
    return table


def figures(
    people: Sequence[Person], weights: Weights, regressions: Mapping[str, baseline.Logistic]
) -> Figures:
    """All figures of one cohort; NaN where it is too small for one."""
    dice = np.stack([person.dice for person in people]).astype(float)
    error = np.stack([abs(person.thickness_mm - person.true_thickness_mm) for person in people])
    found: Figures = {"Dice, mean of layers": float(np.mean([_mean(row) for row in dice.T]))}
    for layer, segment in enumerate(SEGMENTS):
        found[f"Dice, {segment.label}"] = _mean(dice[:, layer])
    for layer, segment in enumerate(SEGMENTS[:5]):
        found[f"Thickness error mm, {segment.label}"] = _mean(error[:, layer])
    return found | _decision(people, weights, regressions)


def _decision(
    people: Sequence[Person], weights: Weights, regressions: Mapping[str, baseline.Logistic]
) -> Figures:
    pain = np.array([person.pain for person in people])
    found = {"AUC, planted latent": auc([person.latent for person in people], pain)}
    pairs = (
        ("B-mode", "pain_b", weights.pain_b),
        ("B-mode + shear wave", "pain_bswe", weights.pain_bswe),
    )
    for words, name, classifier in pairs:
        logit = _logits(classifier, people)
        plain = baseline.plain_features(people, classifier.network.shear_wave)
        found[f"AUC, {words}, network"] = auc(logit, pain)
        found[f"AUC, {words}, logistic regression"] = auc(regressions[name].logits(plain), pain)
        probability = expit(logit / classifier.temperature)
        found[f"Calibration error, {words}"] = expected_calibration_error(probability, pain)
    return found


def _logits(classifier: Classifier, people: Sequence[Person]) -> NDArray[np.float64]:
    pooled = torch.from_numpy(np.stack([person.pooled for person in people]))
    measured = torch.from_numpy(np.stack([person.measured for person in people]))
    with torch.inference_mode():
        return np.asarray(classifier.network.logit(pooled, measured).numpy(), np.float64)


def _mean(values: NDArray[np.floating]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _show(table: Mapping[str, list[float]], plan: Plan, weights: Weights, console: Console) -> None:
    view = Table("Figure", "Mean", "SD over cohorts", "Each cohort")
    for name, values in table.items():
        each = " ".join(f"{value:.3f}" for value in values)
        view.add_row(name, f"{np.mean(values):.3f}", f"{_sd(values):.3f}", each)
    console.print(view)
    console.print(_words(plan, weights))


def _words(plan: Plan, weights: Weights) -> str:
    return (
        f"{plan.volumes} simulated people in each of {len(plan.cohorts)} test cohorts "
        f"({', '.join(map(str, plan.cohorts))}), weights {weights.sha256[:16]}. Simulation only: no figure "
        "transfers to patients."
    )


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _write(table: Mapping[str, list[float]], plan: Plan, weights: Weights, out: Path) -> None:
    """``evaluation.json`` for programs, ``evaluation.md`` for the model card."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"weights_sha256": weights.sha256, "volumes": plan.volumes, "figures": dict(table)}
    (out / "evaluation.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    lines = [_words(plan, weights), "", "| figure | mean | SD | each |", "|---|---|---|---|"]
    for name, values in table.items():
        each = " / ".join(f"{value:.3f}" for value in values)
        lines.append(f"| {name} | {np.mean(values):.3f} | {_sd(values):.3f} | {each} |")
    (out / "evaluation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
