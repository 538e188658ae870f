"""Baseline: logistic regression on plain numbers per layer, which every network is reported beside."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from models.evaluation.person import Person

FILE = "baseline.json"
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Logistic:
    """logit = bias + Σ weight · (feature − mean) / sd.

    A feature that is not known counts as the mean of the people it was fitted on, where it is known.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    weight: tuple[float, ...]
    bias: float

    def logits(self, features: Matrix) -> Matrix:
        mean = np.array(self.mean)
        normal = (np.where(np.isfinite(features), features, mean) - mean) / np.array(self.sd)
        return np.asarray(normal @ np.array(self.weight) + self.bias)


def plain_features(people: Sequence[Person], shear_wave: bool) -> Matrix:
    """(person, feature): log thickness of five layers; gray mean and SD, log shear-wave speed of six.

    NaN where a layer is absent or was not measured; the regression fills these, from its own people.
    """
    pooled = np.stack([person.pooled for person in people]).astype(float)
    pooled = np.where(pooled[:, :, :1] > 0, pooled, np.nan)
    thickness = np.stack([person.thickness_mm[:5] for person in people]).astype(float)
    parts = [np.log(thickness), pooled[:, :, 1], pooled[:, :, 2]]
    if shear_wave:
        parts.append(np.log(pooled[:, :, 3]))
    return np.concatenate(parts, axis=1)


def fit_logistic(features: Matrix, labels: NDArray[np.bool_], penalty: float) -> Logistic:
    """Minimize mean log loss + penalty / 2 · |weight|² over standardized features; a gap is the mean."""
    known = np.isfinite(features)
    mean = np.where(known, features, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    features = np.where(known, features, mean)
    sd = features.std(axis=0) + 1e-9
    normal = np.column_stack([(features - mean) / sd, np.ones(len(features))])
    keep = np.append(np.ones(features.shape[1]), 0.0)

    def loss(weight: Matrix) -> tuple[float, Matrix]:
        logit = normal @ weight
        value = np.logaddexp(0, logit) - labels * logit
        slope = normal.T @ (expit(logit) - labels) / len(labels)
        return float(
            value.mean() + penalty / 2 * (keep * weight**2).sum()
        ), slope + penalty * keep * weight

    found = minimize(loss, np.zeros(normal.shape[1]), jac=True, method="L-BFGS-B").x
    return Logistic(
        tuple(mean.tolist()), tuple(sd.tolist()), tuple(found[:-1].tolist()), float(found[-1])
    )


def fit_validated(
    train: tuple[Matrix, NDArray[np.bool_]], validation: tuple[Matrix, NDArray[np.bool_]]
) -> Logistic:
    """The regression whose penalty, of PENALTIES, gives the validation people the lowest log loss."""
    features, truth = validation
    fits = [fit_logistic(*train, penalty) for penalty in PENALTIES]

    def loss(fit: Logistic) -> float:
        logit = fit.logits(features)
        return float((np.logaddexp(0, logit) - truth * logit).mean())

    return min(fits, key=loss)


def save(folder: Path, b_mode: Logistic, with_shear_wave: Logistic) -> None:
    """Write both regressions beside the weights."""
    content = {"pain_b": asdict(b_mode), "pain_bswe": asdict(with_shear_wave)}
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> dict[str, Logistic]:
    """Read what ``save`` wrote, ``pain_b`` and ``pain_bswe``; nothing where a folder of weights has none."""
    if not (folder / FILE).exists():
        return {}
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return {
        name: Logistic(tuple(item["mean"]), tuple(item["sd"]), tuple(item["weight"]), item["bias"])
        for name, item in content.items()
    }
