"""Metrics: overlap, rank, calibration, intervals. Each is one formula."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Numbers = Sequence[float] | NDArray[np.floating] | NDArray[np.bool_]
REPEATS = 1000
"""Draws of a bootstrap."""
LEAST_PAIRS = 3


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """2 |A ∩ B| / (|A| + |B|); NaN when both are empty, which says nothing."""
    total = int(found.sum()) + int(true.sum())
    return 2 * int((found & true).sum()) / total if total else float("nan")


def auc(scores: Numbers, labels: Numbers) -> float:
    """Area under the ROC curve (Mann-Whitney); NaN when one class is missing."""
    positive = np.asarray(labels, bool)
    ranks = rankdata(np.asarray(scores, float))
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return float("nan")
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def bin_members(probabilities: Numbers, bins: int = 10) -> NDArray[np.float64]:
    """1 where a prediction falls into a bin of equal width, else 0: (prediction, bin)."""
    place = np.minimum((np.asarray(probabilities, float) * bins).astype(int), bins - 1)
    return np.eye(bins)[place]


def expected_calibration_error(probabilities: Numbers, labels: Numbers) -> float:
    """Mean distance of predicted from observed frequency over bins of equal width, weighted by size."""
    rest = np.asarray(probabilities, float) - np.asarray(labels, float)
    return float(abs(rest @ bin_members(probabilities)).sum() / len(rest))


def calibration_error_if_calibrated(
    probabilities: Numbers, seed: int = 0
) -> tuple[float, float, float]:
    """The error that labels drawn from these very probabilities show: mean, 2.5th, 97.5th percentile."""
    probability, member = np.asarray(probabilities, float), bin_members(probabilities)
    generator = np.random.default_rng(seed)
    errors = []
    for _ in range(REPEATS):
        drawn = generator.random(len(probability)) < probability
        errors.append(abs((probability - drawn) @ member).sum() / len(probability))
    low, high = np.percentile(errors, (2.5, 97.5))
    return float(np.mean(errors)), float(low), float(high)


def spearman(first: Numbers, second: Numbers) -> float:
    """Rank correlation over the pairs that are known; NaN of fewer than three, or where all are alike."""
    one, other = (np.asarray(values, float).ravel() for values in (first, second))
    known = np.isfinite(one) & np.isfinite(other)
    return pearson(rankdata(one[known]), rankdata(other[known]))


def pearson(first: Numbers, second: Numbers) -> float:
    """Correlation over the pairs that are known; NaN of fewer than three, or where all are alike."""
    one, other = (np.asarray(values, float).ravel() for values in (first, second))
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < LEAST_PAIRS:
        return float("nan")
    one, other = one[known] - one[known].mean(), other[known] - other[known].mean()
    norm = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / norm if norm > 0 else float("nan")


def ndcg(values: Numbers, relevant: Numbers) -> float:
    """Normalized discounted cumulative gain of a ranking by size, relevance 0 or 1 (Järvelin 2002)."""
    order = np.argsort(-np.abs(np.asarray(values, float)), kind="stable")
    gain = np.asarray(relevant, float)
    discount = 1 / np.log2(np.arange(len(gain)) + 2)
    best = float((np.sort(gain)[::-1] * discount).sum())
    return float((gain[order] * discount).sum()) / best if best > 0 else float("nan")


def mean_interval(values: Numbers, seed: int = 0) -> tuple[float, float, float]:
    """Mean of the values that are known, and its 95 % percentile interval by bootstrap."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not known.size:
        return float("nan"), float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(0, known.size, (REPEATS, known.size))
    low, high = np.percentile(known[draws].mean(1), (2.5, 97.5))
    return float(known.mean()), float(low), float(high)


def auc_draws(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """AUC of people who count ``weights`` (draw, person) times each: (draw,); NaN without both classes."""
    ones, zeros = scores[labels], scores[~labels]
    wins = (ones[:, None] > zeros).astype(float) + 0.5 * (ones[:, None] == zeros)
    up, down = weights[:, labels], weights[:, ~labels]
    pairs = up.sum(1) * down.sum(1)
    total = ((up @ wins) * down).sum(1)
    return np.divide(total, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def bootstrap_weights(people: int, seed: int = 0) -> NDArray[np.float64]:
    """How often each person is drawn, (draw, person)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(people, np.full(people, 1 / people), REPEATS).astype(float)
