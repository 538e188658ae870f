"""Numbers and verdicts in words: what may be said of a cohort, and nothing more."""

from collections.abc import Iterator, Sequence

from dicom_node.cohort.comparisons import GROUPS, LAYERS_DIFFER, Comparison
from dicom_node.cohort.quantities import (
    CONTRIBUTION,
    ENRICHMENT,
    LAYER_NAMES,
    MAGNITUDE,
    PARTS,
    SALIENCY,
    THICKNESS,
    UNTRAINED,
)
from dicom_node.cohort.statistics import Interval
from dicom_node.cohort.table import Equality, Ranking, Tables

DASH, MINUS, PLUS_MINUS = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{PLUS-MINUS SIGN}"
NAMES = {
    SALIENCY: "Saliency",
    UNTRAINED: "Saliency of untrained networks",
    ENRICHMENT: "Enrichment",
    MAGNITUDE: "Size of contribution",
    CONTRIBUTION: "Signed contribution",
    THICKNESS: "Thickness",
}


def name_of(column: str) -> str:
    """The quantity of a column, as the page calls it."""
    return NAMES[column.split("|")[0]]


def in_short(tables: Tables, channels: str) -> Iterator[tuple[str, str, bool]]:
    """What one set of channels says: of what, the sentence, and whether it claims something.

    Non-muscle against muscle comes first, as the question of the paper; parts of contributions stay below.
    """
    for item in tables.equalities:
        if item.comparison.channels == channels:
            head = f"Saliency, non-muscle ({item.comparison.what}) against muscle"
            yield head, muscle(item), item.comparison.claimed or item.equal
    for ranking in tables.rankings:
        if ranking.channels == channels and ranking.column.split("|")[1] not in PARTS:
            head = f"{name_of(ranking.column)} ({tables.method(ranking.column)})"
            sentence = f"{_greatest(tables, ranking)} {verdict(ranking, gate_of(ranking, tables))}"
            yield head, sentence, ranking.stands_out
    compared = [c for c in tables.comparisons if (c.channels, c.kind) == (channels, GROUPS)]
    if compared:
        yield "Pain against control", _groups(compared), any(c.claimed for c in compared)
    for separation in tables.separations:
        if separation.channels == channels and separation.what == "pain probability":
            area = (
                separation.note.capitalize() if separation.auc is None else number(separation.auc)
            )
            between_ = f" ({between(separation.interval)})" if separation.interval else ""
            yield "AUC of the pain probability", f"{area}{between_}.", False


def _greatest(tables: Tables, ranking: Ranking) -> str:
    cell = next(
        c for c in tables.cells_of(ranking.channels, ranking.column) if c.layer == ranking.first
    )
    spread = f" ({between(cell.interval)})" if cell.interval else ""
    return f"Greatest in {LAYER_NAMES[ranking.first - 1].lower()}: {number(cell.mean)}{spread}."


def gate_of(ranking: Ranking, tables: Tables) -> Comparison:
    """The test that the layers differ, which a ranking rests on."""
    key = (LAYERS_DIFFER, ranking.channels, ranking.column)
    return next(c for c in tables.comparisons if (c.kind, c.channels, c.column) == key)


def verdict(item: Ranking, gate: Comparison) -> str:
    """What may be said of a ranking, in one sentence."""
    if gate.note:
        return f"{gate.note.capitalize()}."
    if not gate.claimed:
        return "No difference between the layers is shown: the ranking says nothing."
    if item.stands_out:
        return f"It is above each of the other {len(item.layers) - 1} layers (Holm p < 0.05)."
    rivals = [
        name.lower()
        for layer, name in enumerate(LAYER_NAMES, start=1)
        if layer in item.layers and layer != item.first and layer not in item.above
    ]
    return f"The layers differ, but it is not shown to be above {_list(rivals)}."


def muscle(item: Equality) -> str:
    """Whether non-muscle and muscle differ, and whether they are equal: two questions, two answers."""
    compared = item.comparison
    both = f"{number(item.means[0])} against {number(item.means[1])}"
    if item.p is None or compared.effect is None:
        return f"{both}; {item.note}."
    differ = "they differ" if compared.claimed else "no difference is shown"
    gap = f"difference {signed(compared.effect)} ({between(compared.interval)})"
    return f"{both}; {gap}: {differ} ({adjusted(compared)}); {equal(item)}."


def equal(item: Equality) -> str:
    """What two one-sided tests say."""
    if item.p is None:
        return item.note
    said = "equal" if item.equal else "not shown to be equal"
    return f"{said} within {PLUS_MINUS}{item.margin:g} (TOST {exactly(item.p)})"


def _groups(compared: Sequence[Comparison]) -> str:
    found: dict[str, set[str]] = {}
    for item in compared:
        if item.claimed:
            found.setdefault(item.what, set()).add(name_of(item.column).lower())
    if found:
        layers = [f"{layer.lower()} ({' and '.join(sorted(q))})" for layer, q in found.items()]
        return f"They differ in the {_list(layers)}. Read the caveat on covariates."
    if all(item.note for item in compared):
        return f"{compared[0].note.capitalize()} in each group."
    return "No difference is shown in any layer."


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def adjusted(item: Comparison) -> str:
    """The adjusted p in words."""
    return DASH if item.adjusted is None else f"Holm {exactly(item.adjusted)}"


def counted_persons(count: int) -> str:
    """As ``1 person``."""
    return "1 person" if count == 1 else f"{count} persons"


def exactly(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def number(value: float) -> str:
    """Three digits that mean something, with a true minus; a dash for what is not there."""
    if value != value:  # noqa: PLR0124 - NaN
        return DASH
    text = (
        f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    )
    return text.replace("-", MINUS)


def signed(value: float) -> str:
    """The same with its sign."""
    return ("+" if value > 0 else "") + number(value)


def between(interval: Interval | None) -> str:
    """The two ends of an interval."""
    return f"{number(interval.low)} to {number(interval.high)}" if interval else DASH
