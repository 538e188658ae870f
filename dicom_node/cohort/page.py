"""cohort.html: table, figure, what may be said of them and what not, in one file that needs no other."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dicom_node import __version__
from dicom_node.cohort.comparisons import AGAINST_ONE, GROUPS, LAYERS_DIFFER, Comparison
from dicom_node.cohort.persons import Cohort, Tally
from dicom_node.cohort.quantities import (
    COLORS,
    CONTRIBUTION,
    ENRICHMENT,
    LAYER_NAMES,
    LAYERS,
    MAGNITUDE,
    SALIENCY,
    THICKNESS,
    UNITS,
)
from dicom_node.cohort.statistics import LEAST, Interval, Random
from dicom_node.cohort.table import Cell, Equality, Ranking, Separation, Tables

RESEARCH_ONLY = "Research use only. Not a medical device. The networks are trained on simulation."
DASH, MINUS, PLUS_MINUS = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{PLUS-MINUS SIGN}"
ORDER = (SALIENCY, ENRICHMENT, MAGNITUDE, CONTRIBUTION, THICKNESS)
NAMES = {
    SALIENCY: "Saliency",
    ENRICHMENT: "Enrichment",
    MAGNITUDE: "Size of contribution",
    CONTRIBUTION: "Contribution, signed",
    THICKNESS: "Thickness",
}


@dataclass(frozen=True, slots=True)
class Account:
    """What a page says beside its tables: how it was made, what was left out and why."""

    tally: Tally
    reasons: Sequence[tuple[str, str, int]]
    random: Random
    margin: float
    grouped: bool


def write_page(path: Path, tables: Tables, picture: bytes, account: Account) -> None:
    """Write the page; no path, UID or identifier of a patient enters it."""
    environment = Environment(
        loader=PackageLoader("dicom_node.cohort"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("cohort.html").render(
        research_only=RESEARCH_ONLY,
        version=__version__,
        picture=base64.b64encode(picture).decode("ascii"),
        blocks=[_block(cohort, tables) for cohort in tables.cohorts],
        heads=list(zip(LAYER_NAMES, COLORS, strict=True)),
        account=account,
        flags=[
            (tables.words.get(code, code), count)
            for code, count in account.tally.flags.most_common()
        ],
        least=LEAST,
    )
    path.write_text(text, encoding="utf-8")


def _block(cohort: Cohort, tables: Tables) -> dict[str, Any]:
    """All of one set of channels."""
    name = cohort.channels
    rows = [
        _row(tables, name, column)
        for quantity in ORDER
        for column in cohort.of(quantity)
        if tables.cells_of(name, column)
    ]
    compared = [item for item in tables.comparisons if item.channels == name]
    return {
        "name": name,
        "persons": len(cohort.names),
        "scans": cohort.scan_count,
        "groups": {group: cohort.groups.count(group) for group in sorted(set(cohort.groups))},
        "rows": rows,
        "rankings": [_ranking(item, tables) for item in tables.rankings if item.channels == name],
        "muscle": [
            _equality(item, tables)
            for item in tables.equalities
            if item.comparison.channels == name
        ],
        "tests": [_test(item, tables) for item in compared if item.kind in (AGAINST_ONE, GROUPS)],
        "separations": [
            _separation(item, tables) for item in tables.separations if item.channels == name
        ],
    }


def _row(tables: Tables, channels: str, column: str) -> dict[str, Any]:
    quantity = column.split("|")[0]
    cells: list[dict[str, str] | None] = [None] * LAYERS
    for cell in tables.cells_of(channels, column):
        cells[cell.layer - 1] = _cell(cell)
    return {
        "name": NAMES[quantity],
        "unit": UNITS[quantity],
        "method": tables.method(column),
        "cells": cells,
    }


def _cell(cell: Cell) -> dict[str, str]:
    return {
        "mean": f"{number(cell.mean)} {PLUS_MINUS} {number(cell.sd)}",
        "median": number(cell.median),
        "interval": between(cell.interval),
        "count": f"{cell.persons} / {cell.scans}",
    }


def _ranking(item: Ranking, tables: Tables) -> dict[str, Any]:
    key = (LAYERS_DIFFER, item.channels, item.column)
    gate = next(c for c in tables.comparisons if (c.kind, c.channels, c.column) == key)
    return {
        "name": NAMES[item.column.split("|")[0]],
        "method": tables.method(item.column),
        "first": LAYER_NAMES[item.first - 1],
        "sentence": verdict(item, gate),
        "test": f"Friedman, {gate.persons} persons: {probability(gate)}",
        "often": f"{100 * item.how_often:.0f} %" if item.permuted else DASH,
        "permuted": _permuted(item),
        "flat": DASH if item.flat is None else number(item.flat),
        "claimed": item.stands_out,
    }


def verdict(item: Ranking, gate: Comparison) -> str:
    """What may be said of a ranking, in one sentence."""
    first = LAYER_NAMES[item.first - 1]
    if gate.note:
        return gate.note.capitalize() + "."
    if not gate.claimed:
        return "No difference between the layers is shown: the ranking says nothing."
    if item.stands_out:
        return f"{first} is above each of the other five layers (Holm p < 0.05)."
    rivals = [
        name
        for layer, name in enumerate(LAYER_NAMES, start=1)
        if layer != item.first and layer not in item.above
    ]
    return f"The layers differ; {first} has the greatest mean, but is not shown to be above {_list(rivals)}."


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _permuted(item: Ranking) -> str:
    if not item.permuted:
        return DASH
    return f"below {number(item.permuted.limit)} in 95 %; p = {small(item.permuted.p_value)}"


def _equality(item: Equality, tables: Tables) -> dict[str, str]:
    compared = item.comparison
    if item.p is None:
        said = item.note
    elif item.equal:
        said = f"equal within {PLUS_MINUS}{item.margin:g} (TOST p = {small(item.p)})"
    else:
        said = (
            f"not shown to be equal within {PLUS_MINUS}{item.margin:g} (TOST p = {small(item.p)})"
        )
    return {
        "what": compared.what,
        "method": tables.method(compared.column),
        "difference": DASH if compared.effect is None else signed(compared.effect),
        "interval": between(compared.interval),
        "p": compared.note or probability(compared),
        "equal": said,
    }


def _test(item: Comparison, tables: Tables) -> dict[str, Any]:
    return {
        "name": NAMES[item.column.split("|")[0]],
        "method": tables.method(item.column),
        "kind": item.kind,
        "layer": item.what,
        "effect": DASH if item.effect is None else f"{item.effect_name} {number(item.effect)}",
        "interval": between(item.interval),
        "p": item.note or probability(item),
        "claimed": item.claimed,
    }


def _separation(item: Separation, tables: Tables) -> dict[str, str]:
    what, _, column = item.what.partition("|")
    return {
        "what": f"{what} ({tables.method(column).lower()})" if column else what,
        "persons": f"{item.pain} pain, {item.control} control",
        "auc": item.note if item.auc is None else number(item.auc),
        "interval": between(item.interval),
    }


def probability(item: Comparison) -> str:
    """The adjusted p in words."""
    return (
        DASH if item.adjusted is None else f"Holm p = {small(item.adjusted)}".replace("= <", "< ")
    )


def small(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float) -> str:
    """Three digits that mean something, with a true minus; a dash for what is not there."""
    if value != value:  # noqa: PLR0124 - NaN
        return DASH
    text = (
        f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    )
    return text.replace("-", MINUS)


def signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def between(interval: Interval | None) -> str:
    return f"{number(interval.low)} to {number(interval.high)}" if interval else DASH
