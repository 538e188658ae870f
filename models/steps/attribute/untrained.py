"""What the layers are given by networks that have learned nothing, and by a second kind of map.

An attribution that untrained networks give as well says something of the network's form or of the scan, and
nothing of what was learned (Adebayo 2018, arXiv 1810.03292). Only the weights behind the features are drawn
anew: the features' cohort means are the reference, and features of other weights would have none. As trained
and untrained networks so share what they see, the test is the harder one to pass.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.steps.attribute.game import contributions, open_game
from models.steps.attribute.parts import Classifier
from models.steps.attribute.saliency import (
    evidence_map,
    gradient_map,
    layer_saliency,
    normalize,
)
from models.steps.attribute.trust import rank_correlation
from models.steps.classify import Case

Floats = NDArray[np.float64]

NETWORKS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Null:
    """What untrained networks say of the same slices.

    saliency            mean of the map (network, layer), NaN where it has no contrast.
    like_contributions  rank correlation of the trained network's totals, by size, with theirs: mean of all.
    like_saliency       the same of the layers' mean saliency.
    """

    saliency: Floats
    like_contributions: float
    like_saliency: float


def compare(networks: list[Classifier], trained: Classifier, case: Case) -> Null:
    """The trained network beside untrained ones of the same features, on one case."""
    with torch.no_grad():
        pooled = trained.pool(case.image, case.labels)
    totals, saliency = _summary(trained, case, pooled)
    found = [_summary(network, case, pooled) for network in networks]
    return Null(
        np.stack([item[1] for item in found]),
        _mean([rank_correlation(abs(totals), abs(item[0])) for item in found]),
        _mean([rank_correlation(saliency, item[1]) for item in found]),
    )


def gradient_agreement(network: Classifier, case: Case, logit: float) -> float:
    """Rank correlation of the layers' shares of the evidence with their shares of the absolute gradient."""
    labels = case.labels[0].cpu().numpy()
    layers = case.measured.shape[1]
    with torch.no_grad():
        pooled = network.pool(case.image, case.labels)
    maps = evidence_map(network, case, pooled, logit), gradient_map(network, case)
    first, second = (layer_saliency(item, labels, layers) for item in maps)
    if first is None or second is None:
        return float("nan")
    there = np.isfinite(first.mean)
    return rank_correlation(first.share[1:][there], second.share[1:][there])


def _summary(network: Classifier, case: Case, pooled: Tensor) -> tuple[Floats, Floats]:
    """Totals and mean saliency of each layer; NaN for a layer that is not there."""
    found = contributions(open_game(network, pooled, case.measured))
    layers = pooled.shape[1]
    labels = case.labels[0].cpu().numpy()
    saliency = normalize(evidence_map(network, case, pooled, float(found.logit.mean())), labels > 0)
    summary = None if saliency is None else layer_saliency(saliency, labels, layers)
    there = np.isin(np.arange(1, layers + 1), labels)
    means = np.full(layers, np.nan) if summary is None else summary.mean
    return np.where(there, found.totals, np.nan), means


def _mean(values: list[float]) -> float:
    """Of those that are known."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
