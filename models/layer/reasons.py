"""What the pain decision is and what it rests on, in codes and units."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models import codes
from models.findings import Attribution, Classification, Flag, Measurement
from models.layer import concepts
from models.layer.labels import SEGMENTS
from models.layer.pain import PainNetwork
from models.steps.attribute import (
    NORMALIZATION,
    appearance_shapley,
    gradient_map,
    layer_saliency,
    normalize,
)
from models.steps.classify import Case
from models.steps.grid import resample

NEAR_LOG_ODDS = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Reasons:
    """The attribution map, if it says anything, the numbers per layer, and reasons to distrust both."""

    attributions: tuple[Attribution, ...]
    measurements: tuple[Measurement, ...]
    flags: tuple[Flag, ...]


def decide(logit: float, probability: float) -> Classification:
    """The decision with both outcomes."""
    outcomes = (concepts.PAIN_PRESENT, probability), (concepts.PAIN_ABSENT, 1 - probability)
    return Classification(concepts.PAIN, outcomes, logit)


def attribute(network: PainNetwork, case: Case, labelmap: NDArray[np.uint8]) -> Reasons:
    """Map and numbers per layer on the source grid of ``labelmap``."""
    saliency = _saliency(network, case, labelmap)
    attributions: tuple[Attribution, ...] = ()
    measurements: list[Measurement] = []
    flags: list[Flag] = []
    if saliency is None:
        flags.append(Flag(concepts.FLAT_MAP, "The saliency map has no contrast and is not given."))
    else:
        method = f"Absolute gradient (captum Saliency), {NORMALIZATION} inside the layers as 1"
        target = f"Logit of {concepts.PAIN.meaning.lower()}"
        attributions = (Attribution(codes.SALIENCY, method, target, saliency),)
        measurements += _saliency_measurements(saliency, labelmap)
    with torch.no_grad():
        contributions = appearance_shapley(network, case)
        measurements += _contribution_measurements(network, case, contributions.values)
    if abs(contributions.logit - contributions.reference_logit) < NEAR_LOG_ODDS:
        flags.append(
            Flag(
                concepts.NEAR_REFERENCE,
                "The prediction is near that of the reference: a ranking of layers means nothing.",
            )
        )
    return Reasons(attributions, tuple(measurements), tuple(flags))


def _contribution_measurements(
    network: PainNetwork, case: Case, shapley: NDArray[np.float64]
) -> Iterator[Measurement]:
    """Shapley value and additive terms of each layer; no thickness term where no thickness counts."""
    pooled = network.pool(case.image, case.labels)
    terms = network.terms(pooled, case.measured)[0].double().cpu().numpy()
    present = pooled[0, :, 0] > 0
    measured = (case.measured[0, :-1] > 0) & (network.finite > 0)
    for segment in SEGMENTS:
        index = segment.number - 1
        if not present[index]:
            continue
        values = {concepts.SHAPLEY: shapley[index]}
        for number, name in enumerate(network.term_names):
            if name != "thickness" or measured[index]:
                values[concepts.TERMS[name]] = terms[index, number]
        for method, value in values.items():
            yield Measurement(
                concepts.CONTRIBUTION, float(value), codes.NO_UNITS, segment.number, method
            )


def _saliency(
    network: PainNetwork, case: Case, labelmap: NDArray[np.uint8]
) -> NDArray[np.float32] | None:
    """The normalized map on the source grid, zero outside the layers."""
    labels = case.labels[0].cpu().numpy()
    small = normalize(gradient_map(network, case), labels > 0)
    if small is None:
        return None
    part = labelmap[case.box]
    saliency = np.zeros(labelmap.shape, np.float32)
    saliency[case.box] = np.clip(resample(small, part.shape[1:]), 0, 1) * (part > 0)
    return saliency


def _saliency_measurements(
    saliency: NDArray[np.float32], labelmap: NDArray[np.uint8]
) -> Iterator[Measurement]:
    """Mean of the map per layer, with what it would be if the map said nothing."""
    found = layer_saliency(saliency, labelmap, len(SEGMENTS))
    if found is None:
        return
    unit, mean = codes.NO_UNITS, codes.MEAN
    for segment in SEGMENTS:
        value, enrichment = found.mean[segment.number - 1], found.enrichment[segment.number - 1]
        if np.isfinite(value):
            layer = segment.number
            yield Measurement(codes.SALIENCY, float(value), unit, layer, concepts.GRADIENT, mean)
            yield Measurement(
                concepts.ENRICHMENT, float(enrichment), codes.RATIO, layer, concepts.GRADIENT
            )
    yield Measurement(codes.SALIENCY, found.above, unit, None, concepts.GRADIENT_NOT_MUSCLE, mean)
    yield Measurement(codes.SALIENCY, found.null, unit, None, concepts.GRADIENT_NULL, mean)
