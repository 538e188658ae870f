"""The table: a row per quantity and layer, what was tested, and what may be said of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from dicom_node.cohort import statistics
from dicom_node.cohort.comparisons import (
    LAYERS_DIFFER,
    LEVEL,
    MUSCLE_PAIR,
    Comparison,
    adjust,
    gates,
    layers_of,
    muscle_readings,
    pairs,
    split,
)
from dicom_node.cohort.persons import Cohort
from dicom_node.cohort.quantities import (
    FLAT,
    MUSCLE,
    NOT_MUSCLE,
    THICKNESS,
    UNTRAINED,
    UNTRAINED_METHOD,
    beside,
)
from dicom_node.cohort.statistics import Array, Interval, Permuted, Random, TooFew


@dataclass(frozen=True, slots=True)
class Cell:
    """One quantity of one layer, or of layers 1 to 5 as one (0), over persons.

    ``interval`` is that of the mean, None with too few persons.
    """

    channels: str
    column: str
    layer: int
    persons: int
    scans: int
    mean: float
    sd: float
    median: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Which layer is first by one column, and whether that may be said.

    first      layer with the greatest mean.
    how_often  share of bootstrapped cohorts in which it is first; NaN with too few persons.
    permuted   the null: labels shuffled within each person; None with too few persons.
    pairs      asked only where the layers differ.
    above      layers that the first is above in a paired test, Holm p < 0.05.
    layers     those that were compared: all that have the quantity.
    """

    channels: str
    column: str
    first: int
    how_often: float
    permuted: Permuted | None
    flat: float | None
    pairs: tuple[Comparison, ...]
    above: tuple[int, ...]
    layers: tuple[int, ...]

    @property
    def stands_out(self) -> bool:
        return len(self.above) == len(self.layers) - 1


@dataclass(frozen=True, slots=True)
class Equality:
    """Whether non-muscle and muscle are equal within the margin: two one-sided tests.

    means   of non-muscle and of muscle, over persons.
    """

    comparison: Comparison
    means: tuple[float, float]
    margin: float
    p: float | None
    note: str

    @property
    def equal(self) -> bool:
        return self.p is not None and self.p < LEVEL


@dataclass(frozen=True, slots=True)
class Separation:
    """How well one number tells pain from control: AUC on persons."""

    channels: str
    what: str
    pain: int
    control: int
    auc: float | None
    interval: Interval | None
    note: str


@dataclass(frozen=True, slots=True)
class Tables:
    """All that a cohort says."""

    cohorts: tuple[Cohort, ...]
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    rankings: tuple[Ranking, ...]
    equalities: tuple[Equality, ...]
    separations: tuple[Separation, ...]
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def claims(self) -> list[Comparison]:
        """What is significant after Holm over everything that was asked."""
        return [item for item in self.comparisons if item.claimed]

    def cells_of(self, channels: str, column: str) -> tuple[Cell, ...]:
        """The row of a quantity: a cell per layer that was measured."""
        return tuple(c for c in self.cells if (c.channels, c.column) == (channels, column))

    def method(self, column: str) -> str:
        """The method of a column in words, as the reports call it."""
        quantity, _, code = column.partition("|")
        named = f"{UNTRAINED_METHOD}-{code}" if quantity == UNTRAINED else code
        return self.words.get(named, code)


def tabulate(
    cohorts: Mapping[str, Cohort], random: Random, margin: float, words: Mapping[str, str]
) -> Tables:
    """Describe and compare; Holm's family is every test of every cohort but the pairs of layers."""
    several = tuple(cohorts.values())
    comparisons = adjust([item for cohort in several for item in gates(cohort, random)])
    rankings = [
        _rank(cohorts[item.channels], item, random)
        for item in comparisons
        if item.kind == LAYERS_DIFFER
    ]
    return Tables(
        several,
        tuple(cell for cohort in several for cell in _cells(cohort, random)),
        tuple(comparisons),
        tuple(rankings),
        tuple(
            _equality(cohorts[item.channels], item, margin)
            for item in comparisons
            if item.kind == MUSCLE_PAIR
        ),
        tuple(item for cohort in several for item in _separations(cohort, random)),
        dict(words),
    )


def _cells(cohort: Cohort, random: Random) -> Iterator[Cell]:
    for column in cohort.numbers:
        whole = [0] if column.split("|")[0] == NOT_MUSCLE else []
        for layer in whole or layers_of(cohort, column):
            values = cohort.numbers[column][:, layer]
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            yield Cell(
                cohort.channels,
                column,
                layer,
                len(values),
                int(cohort.scans[column][layer]),
                float(values.mean()),
                float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                float(np.median(values)),
                _interval(values, random, cohort.channels, column, str(layer)),
            )


def _interval(values: Array, random: Random, *words: str) -> Interval | None:
    try:
        return statistics.mean_interval(values, random, *words)
    except TooFew:
        return None


def _rank(cohort: Cohort, gate: Comparison, random: Random) -> Ranking:
    values = cohort.numbers[gate.column][:, gate.layers]
    place = int(np.argmax([_mean(column) for column in values.T]))
    first = gate.layers[place]
    flat = cohort.numbers.get(beside(gate.column, FLAT))
    try:
        words = (gate.channels, gate.column, "first")
        drawn = statistics.bootstrap(values, lambda rows: rows.mean(axis=1), random, *words)
        how_often = float((drawn.argmax(axis=1) == place).mean())
        permuted = statistics.permute_layers(values, random, *words)
    except TooFew:
        how_often, permuted = float("nan"), None
    asked = tuple(pairs(cohort, gate.column, random)) if gate.claimed else ()
    return Ranking(
        gate.channels,
        gate.column,
        first,
        how_often,
        permuted,
        None if flat is None else _mean(flat[:, 0]),
        asked,
        tuple(_above(first, asked)),
        gate.layers,
    )


def _above(first: int, asked: tuple[Comparison, ...]) -> Iterator[int]:
    """The layers below the first one; a difference counts only in the right direction."""
    for item in asked:
        one, other = item.layers
        greater, smaller = (one, other) if (item.effect or 0.0) > 0 else (other, one)
        if item.claimed and item.effect and greater == first:
            yield smaller


def _mean(values: Array) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _equality(cohort: Cohort, item: Comparison, margin: float) -> Equality:
    muscle = cohort.numbers[item.column][:, MUSCLE]
    other = muscle_readings(cohort, item.column)[item.what]
    means = _mean(other), _mean(muscle)
    try:
        return Equality(item, means, margin, statistics.equivalence(other - muscle, margin), "")
    except TooFew as error:
        return Equality(item, means, margin, None, str(error))


def _separations(cohort: Cohort, random: Random) -> Iterator[Separation]:
    if not any(cohort.groups):
        return
    yield _separation(cohort, "pain probability", cohort.probability, random)
    for column in cohort.of(THICKNESS):
        fat = cohort.numbers[column][:, 2] + cohort.numbers[column][:, 4]
        yield _separation(cohort, f"thickness of both fats alone|{column}", fat, random)


def _separation(cohort: Cohort, what: str, values: Array, random: Random) -> Separation:
    pain, control = split(cohort, values)
    counts = int(np.isfinite(pain).sum()), int(np.isfinite(control).sum())
    try:
        area = statistics.auc(pain, control)
        found = statistics.auc_interval(pain, control, random, cohort.channels, what)
    except TooFew as error:
        return Separation(cohort.channels, what, *counts, None, None, str(error))
    return Separation(cohort.channels, what, *counts, area, found, "")
