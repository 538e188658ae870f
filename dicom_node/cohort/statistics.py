"""Statistics on persons: each function is one formula on an array (person, ...), NaN where unmeasured.

Scans of one person are not independent, so every row here is a person, already averaged over scans. Below
``LEAST`` persons nothing is tested and no interval is given: the functions raise TooFew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
LEAST = 5
"""Persons: with four, no signed-rank test can reach p = 0.05 whatever they show."""
BLOCK = 2**21
"""Numbers that one block of resampled persons may hold, so that memory does not grow with the cohort."""


class TooFew(ValueError):
    """There are too few persons; the sentence says how many there are."""

    def __init__(self, persons: int) -> None:
        said = {0: "no person", 1: "1 person"}.get(persons, f"{persons} persons")
        super().__init__(f"not tested: {said}, at least {LEAST} are needed")


@dataclass(frozen=True, slots=True)
class Random:
    """Where random numbers come from: the same seed and words give the same, whatever is drawn elsewhere."""

    seed: int = 0
    draws: int = 2000

    def stream(self, *words: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *"/".join(words).encode()])


@dataclass(frozen=True, slots=True)
class Interval:
    """The middle 95 % of the bootstrap (percentiles)."""

    low: float
    high: float


def measured(values: Array) -> Array:
    """The rows without NaN; raises TooFew."""
    rows = values[np.isfinite(values).all(axis=tuple(range(1, values.ndim)))]
    if len(rows) < LEAST:
        raise TooFew(len(rows))
    return rows


def bootstrap(
    values: Array, statistic: Callable[[Array], Array], random: Random, *words: str
) -> Array:
    """``statistic`` of ``draws`` cohorts of persons drawn with replacement; (draw, ...).

    ``statistic`` takes (draw, person, ...) and reduces the second axis (Efron 1979; the cluster is the row).
    """
    rows = measured(values)
    generator = random.stream("bootstrap", *words)
    drawn = [
        statistic(rows[generator.integers(0, len(rows), (count, len(rows)))])
        for count in _blocks(random.draws, rows.size)
    ]
    return np.concatenate(drawn)


def interval(drawn: Array) -> Interval:
    """Percentiles 2.5 and 97.5 of bootstrap draws."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(float(low), float(high))


def mean_interval(values: Array, random: Random, *words: str) -> Interval:
    """Interval of the mean over persons; raises TooFew."""
    return interval(bootstrap(values, lambda drawn: drawn.mean(axis=1), random, *words))


def median_interval(values: Array, random: Random, *words: str) -> Interval:
    """Interval of the median over persons; raises TooFew."""
    return interval(bootstrap(values, lambda drawn: np.median(drawn, axis=1), random, *words))


def holm(p_values: Array) -> Array:
    """Adjusted p values: step-down Bonferroni, which controls the family-wise error (Holm 1979)."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def friedman(values: Array) -> tuple[float, float, int]:
    """Chi-square, p and number of persons that have every layer (Friedman 1937); raises TooFew."""
    rows = measured(values)
    if not np.ptp(rows, axis=1).any():
        return 0.0, 1.0, len(rows)
    found = stats.friedmanchisquare(*rows.T)
    return float(found.statistic), float(found.pvalue), len(rows)


def signed_rank(differences: Array) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that differences center on 0; raises TooFew."""
    rows = measured(differences)
    return float(stats.wilcoxon(rows).pvalue) if rows.any() else 1.0


def rank_sum(one: Array, other: Array) -> tuple[float, float]:
    """Two-sided p of the Mann-Whitney test, and the share of pairs in which ``one`` is greater.

    Raises TooFew when either group is too small.
    """
    one, other = measured(one), measured(other)
    found = stats.mannwhitneyu(one, other, alternative="two-sided")
    return float(found.pvalue), float(found.statistic) / (len(one) * len(other))


def equivalence(differences: Array, margin: float) -> float:
    """p of two one-sided paired t tests that the mean difference lies beyond ±margin (Schuirmann 1987).

    Below 0.05 the two are equal within the margin; raises TooFew.
    """
    rows = measured(differences)
    if not np.ptp(rows):
        return 0.0 if abs(rows[0]) < margin else 1.0
    above = stats.ttest_1samp(rows, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(rows, margin, alternative="less").pvalue
    return float(max(above, below))


@dataclass(frozen=True, slots=True)
class Permuted:
    """What the greatest of the layer means would be if labels meant nothing: its 95th percentile, and p."""

    limit: float
    p_value: float


def permute_layers(values: Array, random: Random, *words: str) -> Permuted:
    """Shuffle the layers within each person; the statistic is the greatest mean; raises TooFew."""
    rows = measured(values)
    generator = random.stream("permutation", *words)
    observed = rows.mean(axis=0).max()
    greatest = np.concatenate(
        [
            generator.permuted(np.broadcast_to(rows, (count, *rows.shape)), axis=2)
            .mean(axis=1)
            .max(axis=1)
            for count in _blocks(random.draws, rows.size)
        ]
    )
    # A sum in another order can differ in its last digit.
    reached = int((greatest >= observed - 1e-12 * max(1.0, abs(observed))).sum())
    return Permuted(float(np.percentile(greatest, 95)), (1 + reached) / (1 + len(greatest)))


def auc(pain: Array, control: Array) -> float:
    """Share of pairs in which the person with pain has the higher value, ties half."""
    return rank_sum(pain, control)[1]


def auc_interval(pain: Array, control: Array, random: Random, *words: str) -> Interval:
    """Bootstrap of persons within each group; raises TooFew."""
    pain, control = measured(pain), measured(control)
    generator = random.stream("auc", *words)
    drawn = [
        _auc(generator.choice(pain, len(pain)), generator.choice(control, len(control)))
        for _ in range(random.draws)
    ]
    return interval(np.array(drawn))


def _auc(pain: Array, control: Array) -> float:
    ordered = np.sort(control)
    wins = np.searchsorted(ordered, pain, "left") + np.searchsorted(ordered, pain, "right")
    return float(wins.sum()) / (2 * len(pain) * len(control))


def _blocks(draws: int, size: int) -> Iterator[int]:
    """How many draws at a time, so that a block of them holds few numbers."""
    count = max(1, min(draws, BLOCK // max(1, size)))
    for start in range(0, draws, count):
        yield min(count, draws - start)
