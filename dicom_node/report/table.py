"""The findings of one outcome as a table: a row per segment, a column per quantity, whatever these are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.findings import Findings, Measurement, Segment

MEAN, DEVIATION, MEDIAN = "373098007", "386136009", "373099004"
"""SNOMED CT codes of the derivations that a cell combines (CID 7464)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One quantity in one unit by one method; ``cells`` and ``values`` by segment number."""

    name: str
    unit: str
    concept: str
    cells: Mapping[int, str]
    values: Mapping[int, float]

    @property
    def is_share(self) -> bool:
        """Whether the values are parts in %, which bars show well."""
        return self.unit == "%"


def columns_of(findings: Findings) -> tuple[Column, ...]:
    """Every quantity that some segment has, in the order of the measurements."""
    grouped: dict[tuple[str, str, str, str], dict[int, list[Measurement]]] = {}
    for item in findings.measurements:
        if item.segment is not None:
            method = item.method.meaning if item.method else ""
            key = (item.quantity.value, item.quantity.meaning, method, item.unit.value)
            grouped.setdefault(key, {}).setdefault(item.segment, []).append(item)
    meanings = [meaning for _, meaning, _, _ in grouped]
    return tuple(
        Column(
            # The method tells columns apart only where the quantity alone does not.
            f"{meaning}: {method}" if method and meanings.count(meaning) > 1 else meaning,
            unit,
            concept,
            {number: _cell(items) for number, items in segments.items()},
            {number: _representative(items) for number, items in segments.items()},
        )
        for (concept, meaning, method, unit), segments in grouped.items()
    )


def _cell(items: Sequence[Measurement]) -> str:
    """``mean ± SD`` where both are there, else the one number that stands for the rest."""
    by_derivation = {item.derivation.value: item.value for item in items if item.derivation}
    text = show(_representative(items))
    if MEAN in by_derivation and DEVIATION in by_derivation:
        return f"{text} ± {show(by_derivation[DEVIATION])}"
    return text


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
