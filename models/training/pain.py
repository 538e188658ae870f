"""Fit the pain networks on features pooled from the layers that the segmentation network found.

The texture network keeps its random filters: random convolutional features (Saxe et al. 2011) cost nothing
to train and cannot learn a scan by heart. What is learned are the weights of the terms, a convex problem with
one solution, so that a fit does not depend on the order of batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from models.evaluation.person import Person
from models.layer.network import PainNetwork
from models.training.config import PainConfig

GRAY, GRAY_SD, SPEED, TEXTURE = 1, 2, 3, 4  # columns of PainNetwork.pool


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of n people: pooled (n, 6, feature), thickness_mm (n, 6) with NaN, pain (n,) 0 or 1."""

    pooled: Tensor
    thickness_mm: Tensor
    pain: Tensor


def features_of(people: Sequence[Person]) -> Features:
    """Stack what was pooled of each person."""
    return Features(
        torch.from_numpy(np.stack([person.pooled for person in people])),
        torch.from_numpy(np.stack([person.thickness_mm for person in people])),
        torch.tensor([float(person.pain) for person in people]),
    )


def set_references(network: PainNetwork, features: Features) -> None:
    """The cohort's means per layer become the point where every term is zero; in place."""
    here = features.pooled[:, :, :1] > 0
    pooled = torch.where(here, features.pooled, torch.nan)
    mean = pooled.nanmean(0)
    network.reference_gray_mean.copy_(mean[:, GRAY])
    network.reference_gray_sd.copy_(mean[:, GRAY_SD])
    if network.shear_wave:
        network.reference_speed.copy_(pooled[:, :, SPEED].log().nanmean(0).exp())
    known = features.thickness_mm.log().nanmean(0).exp()
    network.reference_thickness_mm.copy_(
        torch.where(known > 0, known, network.reference_thickness_mm)
    )
    texture = pooled[:, :, TEXTURE:]
    center = texture.nanmean(0)
    normal = network.texture_normal
    assert normal.running_mean is not None
    assert normal.running_var is not None
    normal.running_mean.copy_(center.flatten())
    normal.running_var.copy_((texture - center).square().nanmean(0).flatten())


def fit_terms(
    network: PainNetwork, train: Features, validation: Features, part: PainConfig
) -> float:
    """Fit all but the texture filters for each penalty, keep the best; returns its validation loss."""
    network.eval().requires_grad_(False)
    parameters = {
        name: item for name, item in network.named_parameters() if not name.startswith("texture.")
    }
    best, kept = float("inf"), {name: item.clone() for name, item in parameters.items()}
    for penalty in part.penalties:
        for item in parameters.values():
            item.zero_().requires_grad_(True)
        _minimize(network, train, parameters, (penalty, penalty * part.texture_penalty))
        network.requires_grad_(False)
        loss = float(_loss(network, validation))
        if loss < best:
            best, kept = loss, {name: item.clone() for name, item in parameters.items()}
    for name, item in parameters.items():
        item.copy_(kept[name])
    return best


def _minimize(
    network: PainNetwork,
    features: Features,
    parameters: dict[str, torch.nn.Parameter],
    penalties: tuple[float, float],
) -> None:
    optimizer = torch.optim.LBFGS(
        list(parameters.values()), max_iter=300, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(network, features)
        for name, item in parameters.items():
            if name != "bias":
                loss = loss + penalties[name == "texture_weight"] / 2 * item.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def _loss(network: PainNetwork, features: Features) -> Tensor:
    logit = network.logit(features.pooled, features.thickness_mm)
    return functional.binary_cross_entropy_with_logits(logit, features.pain)


def temperature_of(network: PainNetwork, validation: Features) -> float:
    """The divisor of the logit that makes validation people most probable (Guo et al. 2017)."""
    with torch.inference_mode():
        logit = network.logit(validation.pooled, validation.thickness_mm)

    def loss(log_temperature: float) -> float:
        scaled = logit / float(np.exp(log_temperature))
        return float(functional.binary_cross_entropy_with_logits(scaled, validation.pain))

    return round(float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)), 4)
