"""The tables as CSV: every number tidy, the summary per layer, the tests; persons by number only."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dicom_node.cohort.comparisons import Comparison
from dicom_node.cohort.persons import CHANNELS, numbers_of
from dicom_node.cohort.quantities import LAYER_NAMES, UNITS
from dicom_node.cohort.rows import StoredScan
from dicom_node.cohort.statistics import Interval
from dicom_node.cohort.subjects import People
from dicom_node.cohort.table import Tables


def write_numbers(
    path: Path, scans: Iterable[tuple[str, StoredScan]], names: dict[str, str], people: People
) -> None:
    """``cohort.csv``: a line per scan, quantity and layer, for a model of one's own; streamed.

    ``names`` gives the number of each person; scans are numbered within their person.
    """
    count: defaultdict[str, int] = defaultdict(int)
    head = ("person", "group", "scan", "channels", "quantity", "method", "layer", "value", "unit")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for person, scan in scans:
            count[person] += 1
            channels = CHANNELS[scan.channels]
            start = (names[person], people.group(person), count[person], channels)
            if scan.probability is not None:
                tail = ("pain probability", "", "whole scan", f"{scan.probability:.6g}", "0-1")
                writer.writerow((*start, *tail))
            writer.writerows((*start, *line) for line in _lines(scan))


def _lines(scan: StoredScan) -> Iterator[tuple[str, ...]]:
    for column, layers in sorted(numbers_of(scan).items()):
        quantity, method = column.split("|")
        for layer, value in sorted(layers.items()):
            name = LAYER_NAMES[layer - 1] if layer else "whole scan"
            yield quantity, method, name, f"{value:.6g}", UNITS[quantity]


def write_table(path: Path, tables: Tables) -> None:
    """``table.csv``: a line per channels, quantity, method and layer, over persons."""
    head = "channels quantity method layer persons scans mean sd median mean_low mean_high unit"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head.split())
        for cell in tables.cells:
            quantity, method = cell.column.split("|")
            numbers = (cell.mean, cell.sd, cell.median, *_ends(cell.interval))
            layer = LAYER_NAMES[cell.layer - 1] if cell.layer else "Layers 1 to 5"
            start = (cell.channels, quantity, method, layer)
            writer.writerow(
                (*start, cell.persons, cell.scans, *map(_text, numbers), UNITS[quantity])
            )


def write_tests(path: Path, tables: Tables) -> None:
    """``tests.csv``: every comparison with its raw and adjusted p, or why it was not tested."""
    head = (
        "channels quantity method question of test persons effect effect_is low high p holm_p note"
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head.split())
        pairs = (item for ranking in tables.rankings for item in ranking.pairs)
        writer.writerows(_test(item) for item in (*tables.comparisons, *pairs))
        for equality in tables.equalities:
            item = equality.comparison
            within = f"equal within {equality.margin:g}"
            values = ("TOST", item.persons, _text(item.effect), item.effect_name)
            ends = map(_text, _ends(item.interval))
            tail = (_text(equality.p), "", equality.note)
            writer.writerow(
                (item.channels, *item.column.split("|"), within, item.what, *values, *ends, *tail)
            )


def _test(item: Comparison) -> tuple[Any, ...]:
    ends = map(_text, _ends(item.interval))
    start = (item.channels, *item.column.split("|"), item.kind, item.what, item.test)
    found = (item.persons, _text(item.effect), item.effect_name)
    return (*start, *found, *ends, _text(item.p), _text(item.adjusted), item.note)


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (interval.low, interval.high) if interval else (None, None)


def _text(value: float | None) -> str:
    """Six digits; what is not there is empty."""
    return "" if value is None or value != value else f"{value:.6g}"  # noqa: PLR0124 - NaN
