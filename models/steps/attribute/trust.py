"""Whether a ranking of the layers may be told: one verdict per study, with all reasons against it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, t

Floats = NDArray[np.float64]

LEAST_COVERAGE = 0.8
MOST_OUTSIDE = 0.2
MOST_UNTRAINED = 0.5  # of the untrained networks
LEAST_AGREEMENT = 0.7
LEAST_CHANGE = 0.2
MOST_GAP = 1e-3
SURE = 0.95  # one-sided


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a verdict rests on; numbers that cannot be told are NaN.

    coverage        of the layer that is there in the fewest columns, 0 to 1.
    outside         share of the map's mass outside all layers, 0 for a network that sees the layers alone;
                    None when the map has no contrast.
    untrained       share of the untrained networks that give the same layer the largest contribution.
    agreement       lowest rank correlation of the contributions by three methods; of a network that only adds
                    up terms, as one without products of properties, 1 whatever it has learned.
    same_sign       whether the three methods give the first layer one sign.
    gap             between the sum of the contributions and the change of the logit, log-odds.
    change          of the logit from its reference, log-odds.
    apart           whether the first layer is ahead of all others, see ``stands_apart``.
    """

    coverage: float
    outside: float | None
    untrained: float
    agreement: float
    same_sign: bool
    gap: float
    change: float
    apart: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the layers may not be ranked: one clause each; none, and they may."""

    reasons: tuple[str, ...]

    @property
    def ranked(self) -> bool:
        return not self.reasons


CHECKS: tuple[tuple[Callable[[Grounds], bool], str], ...] = (
    # Written so that a number that is not known fails.
    (
        lambda g: g.coverage >= LEAST_COVERAGE,
        f"a layer is seen in less than {LEAST_COVERAGE:.0%} of the columns",
    ),
    (
        lambda g: g.outside is None or g.outside <= MOST_OUTSIDE,
        f"more than {MOST_OUTSIDE:.0%} of the evidence lies outside the layers",
    ),
    (lambda g: g.outside is not None, "the saliency map has no contrast"),
    (
        lambda g: g.untrained <= MOST_UNTRAINED,
        f"more than {MOST_UNTRAINED:.0%} of the untrained networks put the same layer first",
    ),
    (
        lambda g: g.agreement >= LEAST_AGREEMENT,
        f"three methods rank the layers differently (rank correlation below {LEAST_AGREEMENT:g})",
    ),
    (lambda g: g.same_sign, "three methods differ in the sign of the first layer"),
    (lambda g: g.gap <= MOST_GAP, "the contributions do not add up to the decision"),
    (
        lambda g: abs(g.change) >= LEAST_CHANGE,
        f"the decision is within {LEAST_CHANGE:g} log-odds of that of the average scan",
    ),
    (lambda g: g.apart, "the first layer is not reliably ahead of the others"),
)


def judge(grounds: Grounds) -> Verdict:
    """All checks that fail."""
    return Verdict(tuple(reason for holds, reason in CHECKS if not holds(grounds)))


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rho over the pairs that are known; NaN of fewer than three, or where all are alike."""
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 3:
        return float("nan")
    ranks = np.stack([rankdata(values[known]) for values in (first, second)])
    ranks -= ranks.mean(1, keepdims=True)
    norm = float(np.prod(np.linalg.norm(ranks, axis=1)))
    return float(ranks[0] @ ranks[1]) / norm if norm > 0 else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How contributions (layer,) vary over alternatives that could as well be right.

    lower, upper  2.5th and 97.5th percentile.
    same_sign     share of the alternatives with the sign of their mean.
    first         share of the alternatives in which the layer has the largest contribution by size.
    """

    lower: Floats
    upper: Floats
    same_sign: Floats
    first: Floats


def spread(alternatives: Floats) -> Spread:
    """Of totals (alternative, layer)."""
    lower, upper = np.percentile(alternatives, (2.5, 97.5), axis=0)
    sign = np.sign(alternatives.mean(0))
    leader = abs(alternatives).argmax(1)
    first = np.bincount(leader, minlength=alternatives.shape[1]) / len(alternatives)
    return Spread(lower, upper, (np.sign(alternatives) == sign).mean(0), first)


def stands_apart(alternatives: Floats, totals: Floats) -> bool:
    """Whether the first layer's contribution is larger, by size, than every other layer's in the same breath.

    ``alternatives`` are totals (border, member, layer). Layers share what makes a member of the ensemble or a
    mask different, so they are compared within an alternative: its margin is |first| less the largest of the
    others. For every border, Student's lower bound (95 %, one-sided) of the margin over members must be above
    0. A percentile of all alternatives at once would count a handful of heads as many: on labels without
    meaning it named a layer in 7 % of the scans with shear wave, this bound in 1 %.
    """
    members = alternatives.shape[1]
    if members < 2:
        return False
    first = int(abs(totals).argmax())
    sizes = abs(alternatives)
    margin = sizes[..., first] - np.delete(sizes, first, axis=2).max(2)
    bound = margin.mean(1) - t.ppf(SURE, members - 1) * margin.std(1, ddof=1)
    return bool((bound > 0).all())
