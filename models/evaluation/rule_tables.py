"""Tables of the decision and of its attribution, one row per planted rule."""

from collections.abc import Sequence

import numpy as np

from models.evaluation.decision import CHANNELS, Decision
from models.evaluation.drivers import NONE, Result, Score, home
from models.evaluation.segmentation import NAMES
from models.evaluation.tables import Cell, Table, between, mean, plus_minus

MOST_BELOW_POSSIBLE = 0.05
LEAST_LIKE_LATENT, MOST_LIKE_OTHER = 0.85, 0.3
LEAST_SHARE = 0.5


def tables(results: Sequence[Result], people: str) -> list[Table]:
    """All tables on decision and attribution."""
    return [
        *(_decisions(results, channels, people) for channels in CHANNELS),
        _gates(results),
        *(_drivers(results, channels) for channels in CHANNELS),
        _interventions(results),
        _told(results),
    ]


def _decisions(results: Sequence[Result], channels: str, people: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for decision in _of(results, channels):
        middle, low, high = decision.change
        null = decision.if_calibrated.mean(0)
        rows.append(
            (
                _plain(decision.rule),
                plus_minus(decision.possible),
                plus_minus(decision.regression),
                plus_minus(decision.network),
                f"{middle:+.3f} ({between(low, high)})",
                plus_minus(decision.calibration_error),
                f"{null[0]:.3f} ({null[1]:.3f} to {null[2]:.3f})",
            )
        )
    return Table(
        f"decision_{_slug(channels)}",
        f"Decision, {channels}",
        f"AUC by planted rule, mean and SD over draws of the labels; {people} The latent's AUC is what is "
        "possible, as labels are noisy. The difference of network and regression has a 95 % interval by "
        "paired bootstrap over test people. Beside the calibration error of a draw stands what labels drawn "
        "from the told probabilities would show: mean and 95 % range of one draw.",
        (
            "Rule",
            "Possible",
            "Logistic regression",
            "Network",
            "Network less regression (95 %)",
            "Calibration error",
            "If calibrated (95 %)",
        ),
        tuple(rows),
    )


def _gates(results: Sequence[Result]) -> Table:
    """Did the network learn the rule at all? Attributions of one that did not are no test of the method."""
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        if result.rule == NONE:
            continue
        decision = next(item for item in result.decisions if item.channels == home(result.rule))
        below = mean(decision.possible - decision.network)
        like, other = mean(decision.like_latent), mean(decision.like_other)
        rows.append(
            (
                _plain(result.rule),
                decision.channels,
                below,
                like,
                other,
                _why_not(below, like, other),
            )
        )
    return Table(
        "learned",
        "Did the network learn the rule?",
        f"Wanted: AUC at most {MOST_BELOW_POSSIBLE:g} below what is possible, correlation of the logit with "
        f"the planted latent above {LEAST_LIKE_LATENT:g}, with every other factor of a layer below "
        f"{MOST_LIKE_OTHER:g} in size. Attributions of one that did not learn its rule test the network.",
        ("Rule", "Channels", "AUC below possible", "r latent", "r other", "Verdict"),
        tuple(rows),
    )


def _why_not(below: float, like: float, other: float) -> str:
    reasons = []
    if not below <= MOST_BELOW_POSSIBLE:
        reasons.append("AUC short of what is possible")
    if not like > LEAST_LIKE_LATENT:
        reasons.append("logit follows the latent too loosely")
    if not other < MOST_LIKE_OTHER:
        reasons.append("logit also follows another factor")
    return "; ".join(reasons) or "learned"


def _drivers(results: Sequence[Result], channels: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for score in _scores(results, channels):
        order = np.argsort(-score.magnitude.mean(0))
        top = NAMES[order[0]]
        rows.append(
            (
                _plain(score.rule),
                f"{int(np.nansum(score.first))} of {len(score.first)}",
                mean(score.hits),
                plus_minus(score.share),
                plus_minus(score.gain),
                top,
                _why_weak(score),
            )
            if score.drivers.any()
            else (_plain(score.rule), "-", "-", "-", "-", top, "no driver to find")
        )
    return Table(
        f"drivers_{_slug(channels)}",
        f"Planted drivers, {channels}",
        "By mean |contribution| over scans: how often a planted layer comes first (label draws); share of "
        "scans in which it does; planted layers' share of all contributions; NDCG of the ranking. A planted "
        "layer need not come first in a scan where its factor is near the mean. Wanted: first in every "
        f"draw, share at least {LEAST_SHARE:g}.",
        ("Rule", "First", "Scans first", "Share", "NDCG", "Largest layer", "Remark"),
        tuple(rows),
    )


def _why_weak(score: Score) -> str:
    """One sentence for a cell that falls short."""
    if score.first.all() and mean(score.share) >= LEAST_SHARE:
        return ""
    if "stiffness" in score.rule and score.channels == CHANNELS[0]:
        return "B-mode does not show stiffness: no layer can be right."
    if score.rule.startswith("interaction"):
        return (
            "A product of two factors has no effect of one layer alone; the heads learn it weakly."
        )
    if "confounded" in score.rule:
        return "The rule also uses body mass, and the thickness of the fats stands in for it."
    order = np.argsort(-score.magnitude.mean(0))
    beside = next(NAMES[layer] for layer in order if not score.drivers[layer])
    if not score.first.all():
        return f"{beside} comes first: the network reads the rule out of it, or did not learn it."
    return f"Comes first, but spread over layers; most of the rest goes to {beside.lower()}."


def _interventions(results: Sequence[Result]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            _plain(result.rule),
            score.channels,
            plus_minus(score.effect),
            plus_minus(score.own_effect),
            plus_minus(score.part_effect),
        )
        for result in results
        for score in result.scores
        if score.channels == home(result.rule)
    ]
    return Table(
        "interventions",
        "Contributions against interventions",
        "Rank correlation of what is published with how far the logit moves when the same scan is simulated "
        "again with the layer at its mean and analyzed anew: over all layers and scans, within the planted "
        "layers, and part by part (appearance, thickness, shear wave).",
        ("Rule", "Channels", "All layers", "Planted layers", "Parts"),
        tuple(rows),
    )


def _told(results: Sequence[Result]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for told in (item for result in results for item in result.told):
        ranked = told.first >= 0
        right = told.drivers[told.first[ranked]] if ranked.any() else np.zeros(0)
        reasons = [clause for clauses in told.reasons for clause in clauses]
        most = max(set(reasons), key=reasons.count) if reasons else ""
        rows.append(
            (
                _plain(told.rule),
                told.channels,
                len(ranked),
                mean(ranked),
                mean(right) if told.drivers.any() else float("nan"),
                mean(told.like_contributions),
                mean(told.like_saliency),
                most,
            )
        )
    return Table(
        "told",
        "What a report would name",
        "Full explanations as the node gives them. On the rule none, every layer that is named is a false "
        "driver. Likeness to untrained networks is a rank correlation over layers, mean over scans; the "
        "enrichment of a scan's layers is its saliency over one number, so it ranks them alike.",
        (
            "Rule",
            "Channels",
            "Scans",
            "A layer is named",
            "of these a planted one",
            "Contributions like untrained",
            "Saliency, enrichment like untrained",
            "Most frequent reason not to rank",
        ),
        tuple(rows),
    )


def _of(results: Sequence[Result], channels: str) -> list[Decision]:
    return [item for result in results for item in result.decisions if item.channels == channels]


def _scores(results: Sequence[Result], channels: str) -> list[Score]:
    return [item for result in results for item in result.scores if item.channels == channels]


def _plain(rule: str) -> str:
    """As it is read."""
    return rule.replace("_", " ")


def _slug(channels: str) -> str:
    return channels.lower().replace("+", "_")
