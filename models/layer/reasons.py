"""What the pain decision is and what it rests on, in codes and units."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models import codes
from models.findings import Attribution, Classification, Code, Flag, Measurement
from models.layer import concepts
from models.layer.labels import SEGMENTS
from models.layer.pain import PainNetwork
from models.steps.attribute import Explanation, Question, explain
from models.steps.attribute.untrained import mean_of_known
from models.steps.classify import Case, Decision, Levels

METHOD = "Evidence map (CAM), 99.5th percentile inside the layers as 1"


@dataclass(frozen=True, slots=True, eq=False)
class Reasons:
    """The attribution map, if it says anything, the numbers per layer, and reasons to distrust both."""

    attributions: tuple[Attribution, ...]
    measurements: tuple[Measurement, ...]
    flags: tuple[Flag, ...]


def decide(decision: Decision, levels: Levels | None = None) -> Classification:
    """The decision with both outcomes, and with the levels of pain where there are any."""
    present = decision.probability
    outcomes = (concepts.PAIN_PRESENT, present), (concepts.PAIN_ABSENT, 1 - present)
    names = levels.names if levels else ()
    graded = tuple(
        (concepts.level(number, len(names), name), probability)
        for number, (name, probability) in enumerate(zip(names, decision.levels, strict=True))
    )
    return Classification(concepts.PAIN, outcomes, decision.logit, graded)


def interval(decision: Decision) -> Iterator[Measurement]:
    """The probability's interval over the ensemble, in percent."""
    for value, derivation in ((decision.lower, concepts.LOWER), (decision.upper, concepts.UPPER)):
        yield Measurement(
            concepts.PROBABILITY,
            100 * value,
            codes.PERCENT,
            method=concepts.OF_MEMBERS,
            derivation=derivation,
        )


def attribute(
    network: PainNetwork, case: Case, labelmap: NDArray[np.uint8], logit: float
) -> Reasons:
    """Map and numbers per layer on the source grid of ``labelmap``, for the decision of this ``logit``.

    Raises ArithmeticError when the contributions do not add up.
    """
    found = explain(Question(network, case, labelmap, logit, lambda seed: untrained(network, seed)))
    attributions: tuple[Attribution, ...] = ()
    flags: list[Flag] = []
    if found.maps.saliency is None:
        flags.append(Flag(concepts.FLAT_MAP, "The saliency map has no contrast and is not given."))
    else:
        outcome = concepts.PAIN_PRESENT if logit >= 0 else concepts.PAIN_ABSENT
        target = f"Evidence for: {outcome.meaning.lower()}"
        attributions = (Attribution(codes.SALIENCY, METHOD, target, found.maps.saliency),)
    if not found.verdict.ranked:
        why = "; ".join(found.verdict.reasons)
        flags.append(
            Flag(concepts.NOT_RANKED, f"No layer is called the most important one: {why}.")
        )
    there = [segment.number for segment in SEGMENTS if (labelmap == segment.number).any()]
    measurements = (
        *_contributions(found, there, network),
        *_doubts(found, there),
        *_saliency(found, there),
        *_of_the_scan(found),
    )
    return Reasons(attributions, measurements, tuple(flags))


def untrained(network: PainNetwork, seed: int) -> PainNetwork:
    """The same features, the weights behind them as before the first step of training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        result = PainNetwork(network.channels, network.texture_maps, network.members)
    fresh = dict(result.named_parameters(recurse=False))
    result.load_state_dict({**network.state_dict(), **fresh}, strict=True)
    device = network.reference_pooled.device
    return result.to(device).eval().requires_grad_(False)


def _contributions(
    found: Explanation, there: list[int], network: PainNetwork
) -> Iterator[Measurement]:
    """Each layer's total, its interval, and its parts; no part that cannot be."""
    totals, parts = found.contributions.totals, found.contributions.parts
    interval = found.spread
    for layer in there:
        index = layer - 1
        shown: list[tuple[float, Code, Code | None]] = [
            (totals[index], concepts.SHAPLEY, None),
            (interval.lower[index], concepts.SHAPLEY, concepts.LOWER),
            (interval.upper[index], concepts.SHAPLEY, concepts.UPPER),
        ]
        for name, value in zip(network.term_names, parts[index], strict=False):
            if name != "thickness" or network.finite[index] > 0:
                shown.append((value, concepts.SHAPLEY_PARTS[name], None))
        for value, how, derivation in shown:
            yield Measurement(
                concepts.CONTRIBUTION, float(value), codes.NO_UNITS, layer, how, derivation
            )


def _doubts(found: Explanation, there: list[int]) -> Iterator[Measurement]:
    """How often each layer ranks first and keeps its sign; which one does, if that can be told."""
    for layer in there:
        for quantity, shares in (
            (concepts.RANKS_FIRST, found.spread.first),
            (concepts.SIGN_AGREES, found.spread.same_sign),
        ):
            share = 100 * float(shares[layer - 1])
            yield Measurement(quantity, share, codes.PERCENT, layer, concepts.ALTERNATIVES)
    if found.verdict.ranked:
        first = int(abs(found.contributions.totals).argmax()) + 1
        yield Measurement(concepts.RANK, 1.0, codes.NO_UNITS, first, concepts.SHAPLEY)


def _saliency(found: Explanation, there: list[int]) -> Iterator[Measurement]:
    """Mean of the map per layer, beside what a map that says nothing and untrained networks would give.

    Any network's map is brighter where the evidence scatters more, as in thick layers, muscle first. What is
    above the untrained networks is free of that: with others of them it correlates by -0.2 (B-mode) and 0.1
    (with shear wave) in simulated scans, the map itself by 0.25 and 0.5.
    """
    summary, unit = found.maps.summary, codes.NO_UNITS
    if summary is None:
        return
    by_chance = mean_of_known(found.null.saliency)
    for layer in there:
        mean, enrichment = summary.mean[layer - 1], summary.enrichment[layer - 1]
        yield Measurement(codes.SALIENCY, float(mean), unit, layer, concepts.EVIDENCE, codes.MEAN)
        chance = float(by_chance[layer - 1])
        if np.isfinite(chance):
            yield Measurement(
                codes.SALIENCY, chance, unit, layer, concepts.UNTRAINED, concepts.NULL
            )
            yield Measurement(
                concepts.ABOVE_UNTRAINED, float(mean) - chance, unit, layer, concepts.EVIDENCE
            )
        yield Measurement(
            concepts.ENRICHMENT, float(enrichment), codes.RATIO, layer, concepts.EVIDENCE
        )
    yield Measurement(codes.SALIENCY, summary.null, unit, None, concepts.EVIDENCE_NULL, codes.MEAN)
    yield Measurement(
        codes.SALIENCY, summary.above, unit, None, concepts.EVIDENCE_NOT_MUSCLE, codes.MEAN
    )


def _of_the_scan(found: Explanation) -> Iterator[Measurement]:
    """From where contributions count, what deleting the first layer does, and whether methods agree."""
    numbers = (
        (
            concepts.REFERENCE_LOGIT,
            float(found.contributions.reference_logit.mean()),
            concepts.SHAPLEY,
        ),
        (concepts.DELETION, found.methods.deletion, None),
        (concepts.AGREEMENT, found.methods.agreement, concepts.THREE_METHODS),
        (concepts.LIKE_UNTRAINED, found.null.like_contributions, concepts.OF_CONTRIBUTIONS),
        (concepts.LIKE_UNTRAINED, found.null.like_saliency, concepts.OF_SALIENCY),
        (concepts.LIKE_GRADIENT, found.methods.gradient, concepts.OF_SHARES),
    )
    for quantity, value, how in numbers:
        if np.isfinite(value):
            yield Measurement(quantity, value, codes.NO_UNITS, None, how)
