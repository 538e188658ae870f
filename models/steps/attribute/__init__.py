"""attribute: what a decision rests on, as a map, as numbers per layer, and whether to believe them.

game       exact contributions of layers and of their parts, in log-odds.
saliency   a map of the evidence, summed up by layer, beside its null.
untrained  what networks that have learned nothing say of the same scan.
borders    masks that could as well be right.
trust      intervals, and the verdict whether the layers may be ranked.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.steps.attribute.borders import alternatives
from models.steps.attribute.game import (
    Contributions,
    Game,
    ablation,
    additive_terms,
    contributions,
    open_game,
)
from models.steps.attribute.parts import Excerpt, Question, excerpt
from models.steps.attribute.saliency import (
    LayerSaliency,
    evidence_map,
    layer_saliency,
    normalize,
)
from models.steps.attribute.trust import (
    Grounds,
    Spread,
    Verdict,
    judge,
    rank_correlation,
    spread,
    stands_apart,
)
from models.steps.attribute.untrained import NETWORKS, Null, compare, gradient_agreement
from models.steps.grid import resample

__all__ = ["Explanation", "Maps", "Methods", "Question", "explain"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """The map (slice, row, column) in 0-1 on the source grid and its summary by layer, None without contrast.

    ``outside`` is the share of the evidence outside all layers.
    """

    saliency: NDArray[np.float32] | None
    summary: LayerSaliency | None
    outside: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Methods:
    """Do other ways to the same number agree?

    agreement  lowest rank correlation, by size, between totals, additive terms and ablation of the layers.
    same_sign  whether all three give the layer of the largest total one sign.
    deletion   change of the logit, in log-odds, when that layer goes to its reference.
    gradient   rank correlation of the layers' shares of the map with their shares of the absolute gradient.
    """

    agreement: float
    same_sign: bool
    deletion: float
    gradient: float


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What a decision rests on. A layer that is not there has no saliency (NaN) and contributes 0."""

    contributions: Contributions
    spread: Spread
    maps: Maps
    null: Null
    methods: Methods
    verdict: Verdict


def explain(question: Question) -> Explanation:
    """Answer a question. Raises ArithmeticError when the contributions do not add up."""
    network, case = question.network, question.case
    with torch.no_grad():
        pooled = network.pool(case.image, case.labels)
    game = open_game(network, pooled, case.measured)
    found = contributions(game)
    few = excerpt(question)
    totals = [found.values.sum(2), *alternatives(question, few, pooled)]
    every = np.stack(totals)
    maps = _maps(question, pooled)
    null = compare([question.untrained(seed) for seed in range(NETWORKS)], network, few.case)
    methods = _methods(question, game, found, few)
    grounds = Grounds(
        coverage=_least_coverage(question.labelmap, pooled.shape[1]),
        outside=maps.outside,
        untrained=null.same_first,
        agreement=methods.agreement,
        same_sign=methods.same_sign,
        gap=abs(found.totals.sum() - (question.logit - float(found.reference_logit.mean()))),
        change=found.change,
        apart=stands_apart(every, found.totals),
    )
    return Explanation(found, spread(np.concatenate(totals)), maps, null, methods, judge(grounds))


def _maps(question: Question, pooled: Tensor) -> Maps:
    """The map on the source grid, zero outside the layers."""
    labels, layers = question.case.labels[0].cpu().numpy(), pooled.shape[1]
    evidence = evidence_map(question.network, question.case, pooled, question.logit)
    everywhere = layer_saliency(evidence, labels, layers)
    small = normalize(evidence, labels > 0)
    if small is None or everywhere is None:
        return Maps(None, None, None)
    part = question.labelmap[question.case.box]
    saliency = np.zeros(question.labelmap.shape, np.float32)
    saliency[question.case.box] = np.clip(resample(small, part.shape[1:]), 0, 1) * (part > 0)
    summary = layer_saliency(saliency, question.labelmap, layers)
    return Maps(saliency, summary, float(everywhere.share[0]))


def _methods(question: Question, game: Game, found: Contributions, few: Excerpt) -> Methods:
    there = (game.own[:, 0] > 0).cpu().numpy()
    loss = ablation(game)
    ways = [abs(values[there]) for values in (found.totals, additive_terms(game), loss)]
    first = int(abs(found.totals).argmax())
    signs = {np.sign(values[first]) for values in (found.totals, additive_terms(game), loss)}
    return Methods(
        agreement=min(rank_correlation(ways[a], ways[b]) for a, b in ((0, 1), (0, 2), (1, 2))),
        same_sign=len(signs) == 1,
        deletion=float(-loss[first]),
        gradient=gradient_agreement(question.network, few.case, question.logit),
    )


def _least_coverage(labelmap: NDArray[np.uint8], layers: int) -> float:
    """Share of the columns with tissue in which the least seen of the layers that were found is there.

    A layer that was not found at all adds nothing to the decision and takes nothing from the others' ranks.
    """
    tissue = int(np.count_nonzero(labelmap.any(1)))
    seen = [int(np.count_nonzero((labelmap == layer).any(1))) for layer in range(1, layers + 1)]
    return min((count for count in seen if count), default=0) / max(tissue, 1)
