"""Fit the heads of the pain networks on features pooled from the layers that the segmentation network found.

Everything here is convex: ridge regressions read tissue properties out of the features, logistic regressions
weigh them. One solution each, so that a fit does not depend on the order of anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from torch import Tensor
from torch.nn import functional

from models.evaluation.person import Person
from models.layer.network import LAYERS
from models.layer.pain import ACROSS, PROPERTIES, PainNetwork
from models.layer.pooling import GRAY_SD, GRAY_STEP, PRESENT, SPEED
from models.training.config import PainConfig

Matrix = NDArray[np.float64]
PAIR_PENALTIES = (
    3.0,
    10.0,
    30.0,
)  # times the penalty: more than a hundred products against a dozen terms
READOUT_PENALTY = 0.02
SPEEDS = tuple(f"{name.split('.')[0]}.shear_m_s" for name in PROPERTIES[:LAYERS])
STEPS = 30  # of Newton's method; ten are enough


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of n people: pooled (n, 6, feature), measured (n, 7), pain (n,) 0 or 1, factors name -> (n,)."""

    pooled: Tensor
    measured: Tensor
    pain: Tensor
    factors: Mapping[str, Tensor]


def features_of(people: Sequence[Person]) -> Features:
    """Stack what was pooled of each person."""
    names = people[0].factors
    return Features(
        torch.from_numpy(np.stack([person.pooled for person in people])),
        torch.from_numpy(np.stack([person.measured for person in people])),
        torch.tensor([float(person.pain) for person in people]),
        {name: torch.tensor([person.factors[name] for person in people]) for name in names},
    )


def set_references(network: PainNetwork, features: Features) -> None:
    """The cohort's means become the point where every term is zero, its spreads the unit; in place."""
    there = features.pooled[:, :, :1] > 0
    pooled = torch.where(there, features.pooled, torch.nan).double()
    center = pooled.nanmean(0)
    for column in (GRAY_SD, SPEED):
        center[:, column] = pooled[:, :, column].log().nanmean(0).exp()
    center[:, PRESENT] = 1.0
    known = center.isfinite()
    network.reference_pooled.copy_(torch.where(known, center.float(), network.reference_pooled))
    thickness = features.measured[:, :LAYERS].double().log()
    mean = thickness.nanmean(0)
    spread = (thickness - mean).square().nanmean(0).sqrt()
    known = mean.isfinite() & (spread > 0)
    start = network.reference_thickness_mm, network.thickness_scale
    start[0].copy_(torch.where(known, mean.exp().float(), start[0]))
    start[1].copy_(torch.where(known, spread.float(), start[1]))
    network.pooled_scale.fill_(1.0)
    look, speed = network.normal(features.pooled)
    normal = torch.where(there, torch.cat([look, speed[..., None]], 2), torch.nan)
    _set_scales(network, normal, features.measured[:, ACROSS])


def _set_scales(network: PainNetwork, normal: Tensor, across: Tensor) -> None:
    """Mean difference of the features across and along the fibers, and the spread that is left; in place."""
    share = across.nanmean()
    network.across_share.copy_(torch.where(share.isfinite(), share, 0.5))
    step = normal[across == 1.0].nanmean(0) - normal[across == 0.0].nanmean(0)
    step = torch.where(step.isfinite(), step, 0.0)
    known = torch.where(across.isnan(), network.across_share, across)
    rest = normal - (known - network.across_share)[:, None, None] * step
    scale = rest.square().nanmean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    scale[:, 0] = (
        GRAY_STEP  # one unit for all layers, so that what is common to them cancels in every sum
    )
    network.pooled_scale[:, [*network.looks, SPEED]] = scale
    network.reference_across.copy_(step / scale)


def fit_readouts(network: PainNetwork, features: Features) -> dict[str, float]:
    """Tissue properties from all layers' features, by ridge regression on the simulator's factors; in place.

    Returns how well each is read: the share of its variance that is explained in these people.
    """
    with torch.no_grad():
        look, speed = network.features(features.pooled, features.measured)
        thickness = network.thickness(features.pooled, features.measured)
    found: dict[str, float] = {}
    rows = look.flatten(1).double().numpy()
    penalty = np.full(rows.shape[1], READOUT_PENALTY)
    readout = []
    for name in PROPERTIES:
        weight, found[name] = _ridge(rows, _standard(features.factors[name]), penalty)
        readout.append(weight)
    stacked = torch.from_numpy(np.stack(readout)).float()
    network.appearance_readout.copy_(stacked.view_as(network.appearance_readout))
    if network.shear_wave:
        rows = torch.cat([speed, thickness], 1).double().numpy()
        penalty = np.full(2 * LAYERS, READOUT_PENALTY)
        readout = []
        for name in SPEEDS:
            weight, found[name] = _ridge(rows, _standard(features.factors[name].log()), penalty)
            readout.append(weight)
        both = torch.from_numpy(np.stack(readout)).float()
        network.speed_readout.copy_(both[:, :LAYERS])
        network.speed_thickness.copy_(both[:, LAYERS:])
    return found


def _standard(values: Tensor) -> Matrix:
    array = values.double().numpy()
    return np.asarray((array - array.mean()) / max(float(array.std()), 1e-9))


def _ridge(rows: Matrix, target: Matrix, penalty: Matrix) -> tuple[Matrix, float]:
    """Weights whose prediction has unit variance, and the explained share of the target's variance."""
    gram = rows.T @ rows / len(rows) + np.diag(penalty)
    weight = np.linalg.solve(gram, rows.T @ target / len(rows))
    predicted = rows @ weight
    explained = 1 - float(np.mean((target - predicted) ** 2))
    return np.asarray(weight / max(float(predicted.std()), 1e-9)), explained


def fit_heads(
    network: PainNetwork, train: Features, validation: Features, part: PainConfig
) -> float:
    """Fit the ensemble with the penalties that suit the validation people best; returns their loss.

    Products of properties are used only where they lower the validation loss by more than twice its standard
    error; generic features may be left out altogether.
    """
    rows, check = (_design(network, features) for features in (train, validation))
    pain, truth = (features.pain.double().numpy() for features in (train, validation))
    pairs = network.parts["pairs"]
    tried = []
    for penalty in part.penalties:
        for times in (1.0, 10.0, np.inf):
            generic = penalty * part.texture_penalty * times
            strength = _penalties(network, (penalty, generic, np.inf))
            losses = _losses(_newton(rows, pain, strength), check, truth)
            tried.append((penalty, strength, losses))
    penalty, strength, best = min(tried, key=lambda item: float(item[2].mean()))
    additive, alone = strength, best
    for times in PAIR_PENALTIES:
        stronger = additive.copy()
        stronger[pairs] = penalty * times
        losses = _losses(_newton(rows, pain, stronger), check, truth)
        gain = alone - losses
        clear = gain.mean() > 2 * gain.std() / np.sqrt(len(gain))
        if clear and losses.mean() < best.mean():
            strength, best = stronger, losses
    network.requires_grad_(False)
    generator = np.random.default_rng(np.random.SeedSequence([0, len(rows)]))
    for member in range(network.members):
        people = generator.integers(0, len(rows), len(rows))
        weight = torch.from_numpy(_newton(rows[people], pain[people], strength)).float()
        network.weight[member] = weight[:-1]
        network.bias[member] = weight[-1]
    return float(best.mean())


def _design(network: PainNetwork, features: Features) -> Matrix:
    with torch.no_grad():
        return np.asarray(network.design(features.pooled, features.measured).double().numpy())


def _penalties(network: PainNetwork, strengths: tuple[float, float, float]) -> Matrix:
    """One strength per column: named quantities, generic features, products; infinite leaves a column out."""
    named, generic, pairs = strengths
    penalty = np.full(network.weight.shape[1], named)
    penalty[network.parts["generic"]] = generic
    penalty[network.parts["pairs"]] = pairs
    return penalty


def _newton(rows: Matrix, pain: Matrix, penalty: Matrix) -> Matrix:
    """Minimize mean log loss + Σ penalty / 2 · weight²; returns the weights, and the bias last."""
    used = np.isfinite(penalty)
    columns = np.column_stack([rows[:, used], np.ones(len(rows))])
    strength = np.append(penalty[used], 0.0)
    weight = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        probability = expit(columns @ weight)
        slope = columns.T @ (probability - pain) / len(pain) + strength * weight
        if abs(slope).max() < 1e-9:
            break
        spread = np.maximum(probability * (1 - probability), 1e-6)[:, None]
        curvature = columns.T @ (columns * spread) / len(pain) + np.diag(strength + 1e-9)
        weight = weight - np.linalg.solve(curvature, slope)
    result = np.zeros(len(penalty) + 1)
    result[np.append(used, True)] = weight
    return result


def _losses(weight: Matrix, rows: Matrix, pain: Matrix) -> Matrix:
    """Log loss of each person."""
    logit = rows @ weight[:-1] + weight[-1]
    return np.asarray(np.logaddexp(0, logit) - pain * logit)


def temperature_of(network: PainNetwork, validation: Features) -> float:
    """The divisor of the logit that makes validation people most probable (Guo et al. 2017)."""
    with torch.inference_mode():
        logit = network.logit(validation.pooled, validation.measured)

    def loss(log_temperature: float) -> float:
        scaled = logit / float(np.exp(log_temperature))
        return float(functional.binary_cross_entropy_with_logits(scaled, validation.pain))

    return round(float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)), 4)
