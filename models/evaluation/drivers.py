"""Drivers: does the attribution name the layers that a rule was planted on? (planted-driver bench)

Every rule has its own networks, fitted to several draws of its labels. Their contributions are compared with
the planted layers and with interventions: how far the logit moves when the scan is simulated again with a
layer at its mean. The full explanation, as the node gives it, is taken of some of the scans.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.decision import CHANNELS, Decision, Fit, Trial, decide, factors_of, fit
from models.evaluation.interventions import PARTS, WHOLE, Intervened, interventions
from models.evaluation.metrics import ndcg, spearman
from models.evaluation.rules import RULES
from models.evaluation.tables import mean
from models.layer.network import LAYERS as COUNT
from models.layer.reasons import untrained
from models.phantom.factors import LAYERS
from models.steps.attribute import Explanation, Question, explain
from models.steps.attribute.game import contributions, open_game

Floats = NDArray[np.float64]
NONE = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What a rule is tried on: people, scans with interventions, how many of these to explain in full."""

    trial: Trial
    scans: Sequence[Intervened]
    label_seeds: tuple[int, ...]
    explained: int


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Attributions of one rule by networks of one kind; arrays hold one number per label seed.

    magnitude     mean |contribution| (label seed, layer) over scans.
    drivers       which layers the rule was planted on (layer,).
    first         whether a driver has the largest mean |contribution|, and ``hits`` the share of scans where
                  it has.
    share         drivers' share of all |contribution|.
    gain          NDCG of the layers ranked by mean |contribution|.
    effect        Spearman of contributions with interventions on whole layers, all layers pooled.
    own_effect    the same within the driver layers; ``part_effect`` between parts and interventions on parts.
    """

    rule: str
    channels: str
    drivers: NDArray[np.bool_]
    magnitude: Floats
    first: Floats
    hits: Floats
    share: Floats
    gain: Floats
    effect: Floats
    own_effect: Floats
    part_effect: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What full explanations say, (explanation,): layer told as first, -1 for none; likeness to untrained."""

    rule: str
    channels: str
    first: NDArray[np.int64]
    drivers: NDArray[np.bool_]
    like_contributions: Floats
    like_saliency: Floats
    reasons: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """All of one rule."""

    rule: str
    decisions: tuple[Decision, ...]
    scores: tuple[Score, ...]
    told: tuple[Told, ...]


def try_rule(rule: str, bench: Bench) -> Result:
    """Fit, test and attribute one rule with networks of both kinds."""
    torch.set_num_threads(1)
    decisions, scores, told = [], [], []
    for channels in CHANNELS:
        fits = [fit(bench.trial, rule, channels, seed) for seed in bench.label_seeds]
        decisions.append(decide(bench.trial, rule, channels, fits))
        scores.append(_score(rule, channels, fits, bench.scans))
        if channels == home(rule) or rule == NONE:
            used = fits if rule == NONE else fits[:1]
            told.append(_tell(rule, channels, used, bench.scans[: bench.explained]))
    return Result(rule, tuple(decisions), tuple(scores), tuple(told))


def home(rule: str) -> str:
    """The plainest kind of network that can see what the rule uses."""
    return CHANNELS["shear" in " ".join(factors_of(RULES[rule]))]


def driver_layers(rule: str) -> NDArray[np.bool_]:
    """Which layers (6,) a rule uses."""
    used = {name.split(".")[0] for name in factors_of(RULES[rule])}
    return np.array([layer in used for layer in LAYERS])


def _score(rule: str, channels: str, fits: Sequence[Fit], scans: Sequence[Intervened]) -> Score:
    drivers = driver_layers(rule)
    rows = [_one_score(item, scans, drivers) for item in fits]
    magnitude = np.stack([row[0] for row in rows])
    numbers = np.array([row[1] for row in rows]).T
    return Score(rule, channels, drivers, magnitude, *numbers)


def _one_score(
    fitted: Fit, scans: Sequence[Intervened], drivers: NDArray[np.bool_]
) -> tuple[Floats, tuple[float, ...]]:
    """Mean |contribution| (layer,), and the numbers of a Score in its order."""
    parts = np.stack([_contributions(fitted, scan) for scan in scans])
    effects = [_effects(fitted, scan) for scan in scans]
    whole, of_parts = (np.stack(items) for items in zip(*effects, strict=True))
    totals = np.where(np.isnan(whole), np.nan, parts.sum(2))
    size = np.abs(parts.sum(2))
    magnitude = size.mean(0)
    if not drivers.any():
        nothing = float("nan")
        alike = spearman(totals, whole)
        return magnitude, (nothing, nothing, nothing, nothing, alike, nothing, nothing)
    within = [spearman(totals[:, layer], whole[:, layer]) for layer in np.flatnonzero(drivers)]
    there = np.stack([scan.found for scan in scans])[:, drivers].all(1)
    return magnitude, (
        float(drivers[magnitude.argmax()]),
        mean(drivers[size.argmax(1)][there]),
        float(magnitude[drivers].sum() / max(magnitude.sum(), 1e-12)),
        ndcg(magnitude, drivers),
        spearman(totals, whole),
        mean(within),
        spearman(np.where(np.isnan(of_parts), np.nan, parts), of_parts),
    )


def _contributions(fitted: Fit, scan: Intervened) -> Floats:
    """Published contributions (layer, part)."""
    pooled = torch.from_numpy(scan.person.pooled)[None]
    measured = torch.from_numpy(scan.person.measured)[None]
    return contributions(open_game(fitted.network, pooled, measured)).parts


def _effects(fitted: Fit, scan: Intervened) -> tuple[Floats, Floats]:
    """Logit less that after an intervention, on layers (6,) and on parts (6, 3); NaN where there is none."""
    pooled = np.concatenate([scan.person.pooled[None], scan.pooled])
    measured = np.concatenate([scan.person.measured[None], scan.measured])
    with torch.inference_mode():
        logit = fitted.network.logit(torch.from_numpy(pooled), torch.from_numpy(measured)).numpy()
    moved = dict(zip(interventions(), (logit[0] - logit[1:]).astype(float), strict=True))
    found = scan.found
    whole = np.full(COUNT, np.nan)
    parts = np.full((COUNT, len(PARTS)), np.nan)
    for (layer, part), value in moved.items():
        if not found[layer]:
            continue
        if part == WHOLE:
            whole[layer] = value
        elif part != "shear wave" or fitted.network.shear_wave:
            parts[layer, PARTS.index(part)] = value
    return whole, parts


def _tell(rule: str, channels: str, fits: Sequence[Fit], scans: Sequence[Intervened]) -> Told:
    explanations = [_explain(fitted, scan) for fitted in fits for scan in scans]
    first = [
        int(abs(item.contributions.totals).argmax()) if item.verdict.ranked else -1
        for item in explanations
    ]
    return Told(
        rule,
        channels,
        np.array(first, np.int64),
        driver_layers(rule),
        np.array([item.null.like_contributions for item in explanations]),
        np.array([item.null.like_saliency for item in explanations]),
        tuple(item.verdict.reasons for item in explanations),
    )


def _explain(fitted: Fit, scan: Intervened) -> Explanation:
    network = fitted.network
    case = scan.seen_by(network.shear_wave)
    with torch.inference_mode():
        logit = float(network(case.image, case.labels, case.measured)[0])
    return explain(
        Question(network, case, scan.labelmap, logit, lambda seed: untrained(network, seed))
    )
