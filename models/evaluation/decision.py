"""Decision: a pain network and a plain regression, fitted and tested on people who follow a planted rule."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from models.evaluation import baseline
from models.evaluation.metrics import (
    auc,
    auc_draws,
    bootstrap_weights,
    calibration_error_if_calibrated,
    expected_calibration_error,
    pearson,
)
from models.evaluation.person import Person
from models.evaluation.rules import RULES, Rule, labels, standard
from models.layer.pain import PainNetwork
from models.layer.weights import Weights
from models.phantom.factors import LAYERS, reference
from models.training.config import PainConfig
from models.training.pain import (
    Features,
    features_of,
    fit_heads,
    fit_readouts,
    set_references,
    temperature_of,
)

LABEL_SEED_STEP = 10**13  # beyond the seeds of all splits
CHANNELS = ("B", "B+SWE")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """People of one split, with their seeds."""

    seeds: Sequence[int]
    people: Sequence[Person]

    def labels(self, rule: str, label_seed: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Latent and pain (person,) of a rule; each label seed draws the labels anew."""
        seeds = [seed + label_seed * LABEL_SEED_STEP for seed in self.seeds]
        return labels(rule, [person.factors for person in self.people], seeds)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Who trains, who validates, who tests; networks with references and readouts, heads not yet fitted."""

    train: Group
    validation: Group
    test: Group
    networks: dict[str, PainNetwork]
    config: PainConfig


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """One network fitted to one draw of a rule's labels, and what the test people show.

    logit, plain  of the network and of the regression (person,).
    """

    network: PainNetwork
    temperature: float
    logit: Floats
    plain: Floats
    latent: Floats
    pain: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """How well a rule is told by networks of one kind, once per label seed; intervals over test people.

    possible, regression, network  AUC of the planted latent, of the regression, of the network.
    change       AUC of network less regression, mean and 95 % interval (paired bootstrap).
    like_latent  correlation of the logit with the latent.
    like_other   largest absolute correlation of the logit with a factor that the rule does not use.
    if_calibrated  calibration error of a calibrated network: mean, 2.5th, 97.5th percentile (seed, 3).
    probability  calibrated, of all seeds, beside ``pain``; the test people in the same order for each.
    """

    rule: str
    channels: str
    possible: Floats
    regression: Floats
    network: Floats
    change: tuple[float, float, float]
    calibration_error: Floats
    if_calibrated: Floats
    like_latent: Floats
    like_other: Floats
    probability: Floats
    pain: NDArray[np.bool_]


def prepare(weights: Weights, groups: tuple[Group, Group, Group], config: PainConfig) -> Trial:
    """References and readouts of both networks, from the training people; the same for every rule."""
    train = features_of(groups[0].people)
    networks = {}
    for name, classifier in zip(CHANNELS, (weights.pain_b, weights.pain_bswe), strict=True):
        network = deepcopy(classifier.network)
        set_references(network, train)
        fit_readouts(network, train)
        networks[name] = network
    return Trial(*groups, networks, config)


def fit(trial: Trial, rule: str, channels: str, label_seed: int) -> Fit:
    """Fit the heads and the regression to the rule's labels; convex, so there is one solution each."""
    network = deepcopy(trial.networks[channels])
    (_, train_pain), (_, validation_pain) = (
        group.labels(rule, label_seed) for group in (trial.train, trial.validation)
    )
    train = _labeled(trial.train, train_pain)
    validation = _labeled(trial.validation, validation_pain)
    fit_heads(network, train, validation, trial.config)
    temperature = temperature_of(network, validation)
    shear = network.shear_wave
    regression = baseline.fit_validated(
        (baseline.plain_features(trial.train.people, shear), train_pain),
        (baseline.plain_features(trial.validation.people, shear), validation_pain),
    )
    latent, pain = trial.test.labels(rule, label_seed)
    test = _labeled(trial.test, pain)
    with torch.inference_mode():
        logit = network.logit(test.pooled, test.measured).double().numpy()
    plain = regression.logits(baseline.plain_features(trial.test.people, shear))
    return Fit(network, temperature, logit, plain, latent, pain)


def _labeled(group: Group, pain: NDArray[np.bool_]) -> Features:
    return replace(features_of(group.people), pain=torch.from_numpy(pain.astype(np.float32)))


def decide(trial: Trial, rule: str, channels: str, fits: Sequence[Fit]) -> Decision:
    """Compare all fits of a rule on the test people."""
    weights = bootstrap_weights(len(trial.test.people))
    draws = [
        auc_draws(item.logit, item.pain, weights) - auc_draws(item.plain, item.pain, weights)
        for item in fits
    ]
    network = np.array([auc(item.logit, item.pain) for item in fits])
    regression = np.array([auc(item.plain, item.pain) for item in fits])
    change = np.mean(draws, axis=0)
    known = change[np.isfinite(change)]
    low, high = np.percentile(known, (2.5, 97.5)) if known.size else (np.nan, np.nan)
    probability = [expit(item.logit / item.temperature) for item in fits]
    return Decision(
        rule,
        channels,
        np.array([auc(item.latent, item.pain) for item in fits]),
        regression,
        network,
        (float(np.mean(network - regression)), float(low), float(high)),
        np.array(
            [
                expected_calibration_error(said, item.pain)
                for said, item in zip(probability, fits, strict=True)
            ]
        ),
        np.array([calibration_error_if_calibrated(said) for said in probability]),
        np.array([pearson(item.logit, item.latent) for item in fits]),
        np.array([_like_other(trial, rule, item) for item in fits]),
        np.concatenate(probability),
        np.concatenate([item.pain for item in fits]),
    )


def _like_other(trial: Trial, rule: str, fitted: Fit) -> float:
    used = factors_of(RULES[rule])
    others = [name for name in layer_factors() if name not in used]
    people = trial.test.people
    return max(
        abs(pearson(fitted.logit, [standard(name, person.factors) for person in people]))
        for name in others
    )


def factors_of(rule: Rule) -> set[str]:
    """All factors that a rule uses."""
    return {*rule.effects, *(name for pair in rule.products for name in pair)}


def layer_factors() -> list[str]:
    """Every factor of a layer that a rule could be planted on and an image can show."""
    quantities = ("gray", "thickness_mm", "shear_m_s", "infiltration")
    names = [f"{layer}.{quantity}" for layer in LAYERS for quantity in quantities]
    return [name for name in names if name in reference() and name != "muscle.thickness_mm"]
