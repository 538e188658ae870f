"""The findings of one outcome as a table: a row per segment, a column per quantity, whatever these are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.findings import Findings, Measurement, Segment

MEAN, DEVIATION, MEDIAN = "373098007", "386136009", "373099004"
"""SNOMED CT codes of the derivations that a cell combines (CID 7464)."""

LOWER, UPPER = "P2.5", "P97.5"
"""Derivations of no standard scheme: the ends of an interval."""

NULL = "-NULL"
"""Ending of the method of a whole scan's number: what its namesakes would tell if they told nothing."""

DIMENSIONLESS = ("1", "{ratio}")

WITHHELD = "WITHHELD"
"""Code of the flag that says why an analysis gives no decision."""


@dataclass(frozen=True, slots=True)
class Column:
    """One quantity in one unit; ``cells`` and ``values`` by segment number.

    ``method`` is named only where one segment has the quantity by several methods. ``spans`` are intervals by
    segment number, ``null`` is what every segment would have if the quantity said nothing. ``chief``: the
    quantity is drawn in the image, has an interval, or a null value to be compared with.
    """

    name: str
    method: str
    unit: str
    cells: Mapping[int, str]
    values: Mapping[int, float]
    spans: Mapping[int, tuple[float, float]]
    null: float | None
    chief: bool


def withheld(findings: Findings) -> str | None:
    """Why the decision is withheld, as a sentence; None where it is not."""
    said = [flag.sentence for flag in findings.flags if flag.code.value == WITHHELD]
    return said[0] if said else None


def columns_of(findings: Findings) -> tuple[Column, ...]:
    """Every quantity that some segment has, in the order of the measurements.

    Calipers are left out where a segment has statistics of the same quantity.
    """
    grouped: dict[tuple[str, str], list[Measurement]] = {}
    for item in findings.measurements:
        if item.segment is not None:
            grouped.setdefault((item.quantity.meaning, item.unit.value), []).append(item)
    columns: list[Column] = []
    for (name, unit), items in grouped.items():
        several = {item.segment for item in items if item.line is None}
        kept = [item for item in items if item.line is None or item.segment not in several]
        nulls = {
            item.method.value.removesuffix(NULL): item.value
            for item in findings.measurements
            if item.segment is None and item.quantity.meaning == name and item.method
            if item.method.value.endswith(NULL)
        }
        found = _split(_named(name, kept), "" if unit in DIMENSIONLESS else unit, kept, nulls)
        chief = any(item.line for item in items) or any(
            c.spans or c.null is not None for c in found
        )
        columns += [replace(column, chief=chief) for column in found]
    return tuple(columns)


def _method(item: Measurement) -> str:
    return item.method.meaning if item.method else ""


def _family(items: Sequence[Measurement]) -> str:
    """What the methods of one kind of number have in common: their code up to the first hyphen."""
    return items[0].method.value.split("-")[0] if items[0].method else ""


def _is(item: Measurement, derivation: str) -> bool:
    return item.derivation is not None and item.derivation.value == derivation


def _named(name: str, items: Sequence[Measurement]) -> str:
    """The quantity, and its statistic where that is all there is and no cell would say so."""
    derivations = {item.derivation for item in items}
    only = derivations.pop() if len(derivations) == 1 else None
    if only is None or only.value in (MEAN, MEDIAN):
        return name
    return f"{name}: {only.meaning.lower()}"


def _split(
    name: str, unit: str, items: Sequence[Measurement], nulls: Mapping[str, float]
) -> list[Column]:
    """One column, or one per method where these compete in a segment."""
    by_method: dict[str, dict[int, list[Measurement]]] = {}
    for item in items:
        method = by_method.setdefault(_method(item), {})
        method.setdefault(item.segment or 0, []).append(item)
    count = sum(len(segments) for segments in by_method.values())
    if count == len({item.segment for item in items}):
        merged = {
            number: own for segments in by_method.values() for number, own in segments.items()
        }
        by_method = {"": merged}
    return [
        Column(
            name,
            method,
            unit,
            {number: _cell(own) for number, own in segments.items()},
            {number: _representative(own) for number, own in segments.items()},
            {number: span for number, own in segments.items() if (span := _span(own))},
            nulls.get(_family(next(iter(segments.values())))),
            chief=False,
        )
        for method, segments in by_method.items()
    ]


def _cell(items: Sequence[Measurement]) -> str:
    """``mean ± SD`` or ``value (lower to upper)`` where these are there, else what stands for the rest."""
    by_derivation = {item.derivation.value: item.value for item in items if item.derivation}
    text = show(_representative(items))
    if span := _span(items):
        return f"{text} ({show(span[0])} to {show(span[1])})"
    if MEAN in by_derivation and DEVIATION in by_derivation:
        return f"{text} ± {show(by_derivation[DEVIATION])}"
    return text


def _span(items: Sequence[Measurement]) -> tuple[float, float] | None:
    """Both ends of the interval, if there is one."""
    ends = [item.value for wanted in (LOWER, UPPER) for item in items if _is(item, wanted)]
    return (ends[0], ends[1]) if len(ends) == 2 else None


def _representative(items: Sequence[Measurement]) -> float:
    """The mean, else the median, else the plain value."""
    for wanted in (MEAN, MEDIAN):
        for item in items:
            if item.derivation and item.derivation.value == wanted:
                return item.value
    return items[0].value


def show(value: float) -> str:
    """Two decimals below ten, one below a hundred, none above."""
    return (
        f"{value:.2f}"
        if abs(value) < 10
        else f"{value:.1f}"
        if abs(value) < 100
        else f"{value:.0f}"
    )


def true_thickness_mm(truth: Mapping[str, Any] | None, segment: Segment) -> float | None:
    """The known thickness of a segment, by its number or by its label in any spelling."""
    known = (truth or {}).get("thickness_mm") or {}
    wanted = {str(segment.number), _plain(segment.label)}
    return next((float(mm) for key, mm in known.items() if _plain(str(key)) in wanted), None)


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
