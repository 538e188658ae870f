"""Metrics: overlap, rank, calibration. Each is one formula."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Numbers = Sequence[float] | NDArray[np.floating] | NDArray[np.bool_]


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


def expected_calibration_error(probabilities: Numbers, labels: Numbers, bins: int = 10) -> float:
    """Mean distance of predicted from observed frequency over bins of equal width, weighted by size."""
    probability, label = np.asarray(probabilities, float), np.asarray(labels, float)
    member = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(probability[member == bin_].mean() - label[member == bin_].mean())
        * (member == bin_).mean()
        for bin_ in range(bins)
        if (member == bin_).any()
    ]
    return float(sum(gaps))
