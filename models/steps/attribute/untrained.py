"""What the layers are given by networks that have learned nothing, and by a second kind of map.

An attribution that untrained networks give as well says something of the network's form or of the scan, and
nothing of what was learned (Adebayo 2018, arXiv 1810.03292). Only the weights behind the features are drawn
anew: the features' cohort means are the reference, and features of other weights would have none. As trained
and untrained networks so share what they see, the test is the harder one to pass.

The verdict asks what is told: which layer is first. A layer that is unlike the average scan is first for most
networks, whatever they have learned. Rank correlations are told, and no verdict rests on them: with six
layers, an untrained network's contributions correlated above 0.7 with the mean of the others' in a quarter of
the simulated scans, the trained network's no less rarely, so that such a check would fire at chance.
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
    like_contributions  rank correlation of the trained network's totals, by size, with the mean of theirs.
    like_saliency       the same of the layers' mean saliency.
    same_first          share of the networks that give the trained network's first layer the largest total.
    """

    saliency: Floats
    like_contributions: float
    like_saliency: float
    same_first: float


def compare(networks: list[Classifier], trained: Classifier, case: Case) -> Null:
    """The trained network beside untrained ones of the same features, on one case."""
    with torch.no_grad():
        pooled = trained.pool(case.image, case.labels)
    totals, saliency = _summary(trained, case, pooled)
    found = [_summary(network, case, pooled) for network in networks]
    sizes = abs(np.stack([item[0] for item in found]))
    maps = np.stack([item[1] for item in found])
    there = np.isfinite(totals)
    leaders = np.where(there, sizes, -np.inf).argmax(1)
    first = np.where(there, abs(totals), -np.inf).argmax()
    return Null(
        maps,
        rank_correlation(abs(totals), sizes.mean(0)),
        rank_correlation(saliency, mean_of_known(maps)),
        float((leaders == first).mean()),
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


def mean_of_known(maps: Floats) -> Floats:
    """Mean over networks (layer,) of those whose map has contrast; NaN where there is none."""
    known = np.isfinite(maps)
    return np.divide(
        np.where(known, maps, 0).sum(0),
        known.sum(0),
        out=np.full(maps.shape[1], np.nan),
        where=known.any(0),
    )
