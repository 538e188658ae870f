"""Comparisons: what is tested on one cohort, and the sentence for a statistic that has too few persons."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from dicom_node.cohort import statistics
from dicom_node.cohort.persons import Cohort
from dicom_node.cohort.quantities import (
    CONTRIBUTION,
    ENRICHMENT,
    LAYER_NAMES,
    LAYERS,
    MAGNITUDE,
    MUSCLE,
    NOT_MUSCLE,
    SALIENCY,
    THICKNESS,
    UNTRAINED,
    beside,
)
from dicom_node.cohort.statistics import Array, Interval, Random, TooFew
from dicom_node.cohort.subjects import CONTROL, PAIN

LEVEL = 0.05
LEAST_LAYERS = 3
"""Friedman's test needs so many."""
SMALLEST_RATIO = 1e-6
"""Stands for an enrichment of 0, whose logarithm is not finite; only its rank counts."""

LAYERS_DIFFER, AGAINST_ONE, AGAINST_UNTRAINED, MUSCLE_PAIR, GROUPS, PAIR = (
    "layers differ",
    "against 1",
    "against untrained networks",
    "non-muscle against muscle",
    "pain against control",
    "pair of layers",
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One test on persons.

    kind      what is asked, as ``layers differ``; ``what`` says of which layers, in words.
    layers    those asked about; of a pair, the first minus the second.
    effect    in the unit of the quantity, or chi-square, or None.
    p         raw; None when it was not tested, and ``note`` says why.
    adjusted  after Holm over its family; None until the family is complete.
    """

    channels: str
    column: str
    kind: str
    what: str
    test: str
    persons: int
    layers: tuple[int, ...] = ()
    effect: float | None = None
    effect_name: str = ""
    interval: Interval | None = None
    p: float | None = None
    adjusted: float | None = None
    note: str = ""

    @property
    def claimed(self) -> bool:
        return self.adjusted is not None and self.adjusted < LEVEL


def gates(cohort: Cohort, random: Random) -> Iterator[Comparison]:
    """Every test that stands for itself; pairs of layers wait for the test that layers differ."""
    for quantity, several in COMPARED.items():
        for column in cohort.of(quantity):
            for compare in several:
                yield from compare(cohort, column, random)


def layers_of(cohort: Cohort, column: str) -> list[int]:
    """The layers that anybody has a number of; none for a column of the whole scan."""
    measured = np.isfinite(cohort.numbers[column][:, 1:]).any(axis=0)
    return [int(layer) for layer in np.flatnonzero(measured) + 1]


def _layers_differ(cohort: Cohort, column: str, random: Random) -> Iterator[Comparison]:
    layers = layers_of(cohort, column)
    if len(layers) < LEAST_LAYERS:
        return
    values = cohort.numbers[column][:, layers]
    what = "all six layers" if len(layers) == LAYERS else f"the {len(layers)} layers that have one"
    base = Comparison(
        cohort.channels, column, LAYERS_DIFFER, what, "Friedman", _complete(values), tuple(layers)
    )
    yield _tested(base, _friedman, values)


def _friedman(base: Comparison, values: Array) -> Comparison:
    chi_square, p, persons = statistics.friedman(values)
    return replace(base, effect=chi_square, effect_name="chi-square", p=p, persons=persons)


def _against_one(cohort: Cohort, column: str, random: Random) -> Iterator[Comparison]:
    for layer, name in enumerate(LAYER_NAMES, start=1):
        ratio = cohort.numbers[column][:, layer]
        if not np.isfinite(ratio).any():
            continue
        logarithm = np.log(np.maximum(ratio, SMALLEST_RATIO))
        base = Comparison(
            cohort.channels,
            column,
            AGAINST_ONE,
            name,
            "signed-rank of log",
            _complete(ratio),
            (layer,),
        )
        yield _tested(base, _one_sample, logarithm, ratio, random)


def _one_sample(base: Comparison, values: Array, shown: Array, random: Random) -> Comparison:
    found = statistics.median_interval(shown, random, *_words(base))
    return replace(
        base,
        p=statistics.signed_rank(values),
        effect=float(np.nanmedian(shown)),
        effect_name="median",
        interval=found,
    )


def _against_untrained(cohort: Cohort, column: str, random: Random) -> Iterator[Comparison]:
    untrained = cohort.numbers.get(beside(column, UNTRAINED))
    if untrained is None:
        return
    for layer, name in enumerate(LAYER_NAMES, start=1):
        difference = cohort.numbers[column][:, layer] - untrained[:, layer]
        if not np.isfinite(difference).any():
            continue
        persons = _complete(difference)
        base = Comparison(
            cohort.channels, column, AGAINST_UNTRAINED, name, "signed-rank", persons, (layer,)
        )
        yield _tested(base, _paired, difference, random)


def muscle_readings(cohort: Cohort, column: str) -> dict[str, Array]:
    """Saliency of the non-muscle layers per person, pooled over their voxels and averaged over layers."""
    readings = {"mean of layers 1 to 5": cohort.numbers[column][:, 1:MUSCLE].mean(axis=1)}
    pooled = cohort.numbers.get(beside(column, NOT_MUSCLE))
    if pooled is not None:
        readings = {"layers 1 to 5 pooled by volume": pooled[:, 0]} | readings
    return readings


def _muscle(cohort: Cohort, column: str, random: Random) -> Iterator[Comparison]:
    if MUSCLE not in layers_of(cohort, column):
        return
    muscle = cohort.numbers[column][:, MUSCLE]
    for name, values in muscle_readings(cohort, column).items():
        difference = values - muscle
        base = Comparison(
            cohort.channels, column, MUSCLE_PAIR, name, "signed-rank", _complete(difference)
        )
        yield _tested(base, _paired, difference, random)


def _paired(base: Comparison, difference: Array, random: Random) -> Comparison:
    rows = statistics.measured(difference)
    return replace(
        base,
        p=statistics.signed_rank(rows),
        effect=float(rows.mean()),
        effect_name="mean difference",
        interval=statistics.mean_interval(rows, random, *_words(base)),
    )


def pairs(cohort: Cohort, column: str, random: Random) -> list[Comparison]:
    """All pairs of layers, Holm over them; to be asked only where layers differ."""
    found = []
    for one, other in combinations(layers_of(cohort, column), 2):
        difference = cohort.numbers[column][:, one] - cohort.numbers[column][:, other]
        what = f"{LAYER_NAMES[one - 1]} minus {LAYER_NAMES[other - 1]}"
        base = Comparison(cohort.channels, column, PAIR, what, "signed-rank", _complete(difference))
        base = replace(base, layers=(one, other))
        found.append(_tested(base, _median_pair, difference, random))
    return adjust(found)


def _median_pair(base: Comparison, difference: Array, random: Random) -> Comparison:
    rows = statistics.measured(difference)
    return replace(
        base,
        p=statistics.signed_rank(rows),
        effect=float(np.median(rows)),
        effect_name="median difference",
        interval=statistics.median_interval(rows, random, *_words(base)),
    )


def _groups(cohort: Cohort, column: str, random: Random) -> Iterator[Comparison]:
    if not any(cohort.groups):
        return
    for layer, name in enumerate(LAYER_NAMES, start=1):
        pain, control = split(cohort, cohort.numbers[column][:, layer])
        if not (np.isfinite(pain).any() or np.isfinite(control).any()):
            continue
        base = Comparison(
            cohort.channels,
            column,
            GROUPS,
            name,
            "Mann-Whitney",
            _complete(pain) + _complete(control),
            (layer,),
        )
        yield _tested(base, _rank_sum, pain, control)


def _rank_sum(base: Comparison, pain: Array, control: Array) -> Comparison:
    p, share = statistics.rank_sum(pain, control)
    return replace(base, p=p, effect=share, effect_name="pairs with pain higher")


def split(cohort: Cohort, values: Array) -> tuple[Array, Array]:
    """The values of persons with pain, and of controls."""
    group = np.array(cohort.groups)
    return values[group == PAIN], values[group == CONTROL]


def adjust(found: list[Comparison]) -> list[Comparison]:
    """The same comparisons with Holm's adjustment over those that were tested."""
    tested = [item.p for item in found if item.p is not None]
    adjusted = iter(statistics.holm(np.array(tested)) if tested else ())
    return [
        item if item.p is None else replace(item, adjusted=float(next(adjusted))) for item in found
    ]


def _tested(base: Comparison, test: Callable[..., Comparison], *arguments: Any) -> Comparison:
    """What ``test`` says, or why it says nothing."""
    try:
        return test(base, *arguments)
    except TooFew as error:
        return replace(base, note=str(error))


def _words(base: Comparison) -> tuple[str, ...]:
    """What tells the random numbers of one comparison from those of another."""
    return base.channels, base.column, base.kind, base.what


def _complete(values: Array) -> int:
    return int(np.isfinite(values).all(axis=tuple(range(1, values.ndim))).sum())


COMPARED: dict[str, tuple[Callable[[Cohort, str, Random], Iterator[Comparison]], ...]] = {
    SALIENCY: (_layers_differ, _muscle, _against_untrained),
    ENRICHMENT: (_against_one,),
    MAGNITUDE: (_layers_differ,),
    CONTRIBUTION: (_groups,),
    THICKNESS: (_groups,),
}
"""What is asked of each quantity. Layers differ in thickness by anatomy: nothing is asked of that."""
