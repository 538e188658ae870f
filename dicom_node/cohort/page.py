"""cohort.html: table, figure, what may be said of them and what not, in one file that needs no other."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dicom_node import __version__
from dicom_node.cohort.comparisons import AGAINST_ONE, AGAINST_UNTRAINED, GROUPS, Comparison
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
    UNTRAINED,
)
from dicom_node.cohort.statistics import LEAST, Random
from dicom_node.cohort.table import Cell, Equality, Ranking, Separation, Tables
from dicom_node.cohort.words import (
    DASH,
    NAMES,
    PLUS_MINUS,
    adjusted,
    between,
    counted_persons,
    equal,
    exactly,
    gate_of,
    in_short,
    name_of,
    number,
    signed,
    verdict,
)

RESEARCH_ONLY = "Research use only. Not a medical device. The networks are trained on simulation."
ORDER = (SALIENCY, UNTRAINED, ENRICHMENT, MAGNITUDE, CONTRIBUTION, THICKNESS)


QUESTIONS = {
    AGAINST_ONE: "median; is it 1?",
    AGAINST_UNTRAINED: "minus that of untrained networks; is it 0?",
    GROUPS: "share of pairs of persons in which the one with pain is higher; is it a half?",
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
        "short": list(in_short(tables, name)),
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
        "tests": _tests([item for item in compared if item.kind in QUESTIONS], tables),
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
    gate = gate_of(item, tables)
    return {
        "name": name_of(item.column),
        "method": tables.method(item.column),
        "first": LAYER_NAMES[item.first - 1],
        "sentence": verdict(item, gate),
        "test": DASH if gate.note else _friedman(gate),
        "often": f"{100 * item.how_often:.0f} %" if item.permuted else DASH,
        "permuted": _permuted(item),
        "flat": DASH if item.flat is None else number(item.flat),
        "claimed": item.stands_out,
    }


def _friedman(gate: Comparison) -> str:
    return f"Friedman, {gate.what}, {counted_persons(gate.persons)}: {adjusted(gate)}"


def _permuted(item: Ranking) -> str:
    if not item.permuted:
        return DASH
    return f"below {number(item.permuted.limit)} in 95 %; {exactly(item.permuted.p_value)}"


def _equality(item: Equality, tables: Tables) -> dict[str, str]:
    compared = item.comparison
    return {
        "what": compared.what,
        "non_muscle": number(item.means[0]),
        "muscle": number(item.means[1]),
        "method": tables.method(compared.column),
        "difference": DASH if compared.effect is None else signed(compared.effect),
        "interval": between(compared.interval),
        "p": compared.note or adjusted(compared),
        "equal": equal(item),
    }


def _tests(compared: Sequence[Comparison], tables: Tables) -> list[dict[str, Any]]:
    """A row per quantity and question, a cell per layer."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for item in compared:
        empty = {
            "name": name_of(item.column),
            "method": tables.method(item.column),
            "question": QUESTIONS[item.kind],
            "cells": [None] * LAYERS,
        }
        row = rows.setdefault((item.kind, item.column), empty)
        row["cells"][item.layers[0] - 1] = {
            "found": DASH if item.effect is None else number(item.effect),
            "interval": between(item.interval) if item.interval else "",
            "p": item.note or adjusted(item),
            "claimed": item.claimed,
        }
    return list(rows.values())


def _separation(item: Separation, tables: Tables) -> dict[str, str]:
    what, _, column = item.what.partition("|")
    return {
        "what": f"{what} ({tables.method(column).lower()})" if column else what,
        "persons": f"{item.pain} pain, {item.control} control",
        "auc": item.note if item.auc is None else number(item.auc),
        "interval": between(item.interval),
    }
