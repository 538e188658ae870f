"""What a setting may be: tests of values, each with the sentence of its error."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a value may be: the sentence of the error, and the test."""

    sentence: str
    test: Callable[[Any], bool]


def _is_ae_title(title: str) -> bool:
    """AE value representation, PS3.5 section 6.2: printable, no backslash, not only spaces."""
    printable = title.isascii() and title.isprintable() and "\\" not in title
    return printable and len(title) <= 16 and title.strip() != ""


def _is_orientation(values: tuple[float, ...]) -> bool:
    """Two perpendicular unit vectors, or nothing."""
    row, column = values[:3], values[3:]
    unit = all(abs(sum(v * v for v in vector) - 1) < 1e-3 for vector in (row, column))
    return not values or (
        len(values) == 6 and unit and abs(sum(map(operator.mul, row, column))) < 1e-3
    )


def _are_objects(words: tuple[str, ...]) -> bool:
    known = {"SEG", "SR", "PM", "SC", "PDF"}
    return bool(words) and set(words) <= known and ("SR" not in words or "SEG" in words)


def _are_uids(values: tuple[str, ...]) -> bool:
    """PS3.5 section 9.1, with leading zeros in components, as scanners write them."""
    pattern = re.compile(r"\d+(\.\d+)*", re.ASCII)
    return all(len(value) <= 64 and pattern.fullmatch(value) for value in values)


def _are_character_sets(values: str) -> bool:
    """Defined Terms of PS3.3 C.12.1.1.2, the first of several may be empty; or nothing."""
    single = (
        r"ISO_IR (6|13|58|87|100|101|109|110|126|127|138|144|148|149|159|166|192|203)|GBK|GB18030"
    )
    first, *others = values.split("\\")
    extended = single.split("|GBK", 1)[0].replace("ISO_IR", "ISO 2022 IR", 1)
    return (not first or bool(re.fullmatch(f"{single}|{extended}", first))) and all(
        re.fullmatch(extended, other) for other in others
    )


def _is_named(folder: Path) -> bool:
    return folder != Path()


def between(low: float, high: float) -> Allowed:
    return Allowed(f"{low} to {high}", lambda number: low <= number <= high)


def one_of(*words: str) -> Allowed:
    return Allowed(", ".join(word or '""' for word in words), lambda word: word in words)


AE_TITLE = Allowed("1 to 16 printable characters", _is_ae_title)
NOT_EMPTY = Allowed("not empty", bool)
FOLDER = Allowed("a folder", _is_named)
OBJECTS = Allowed(
    "some of SEG, SR, PM, SC, PDF; SR only with SEG, whose segments it refers to", _are_objects
)
BAR = Allowed(
    "four whole numbers: first column, first row, last column, last row, counted from 0",
    lambda box: not box or (len(box) == 4 and 0 <= box[0] < box[2] and 0 <= box[1] < box[3]),
)
CHARACTER_SET = Allowed(
    "terms of PS3.3 C.12.1.1.2, as ISO_IR 100, ISO_IR 192, ISO 2022 IR 149, GB18030",
    _are_character_sets,
)
ENDS = Allowed(
    "two different numbers, none below 0",
    lambda ends: not ends or (len(ends) == 2 and ends[0] != ends[1] and min(ends) >= 0),
)
UIDS = Allowed("a list of UIDs", _are_uids)
SPACING = Allowed("two numbers above 0", lambda mm: not mm or (len(mm) == 2 and min(mm) > 0))
ORIENTATION = Allowed("six numbers: two perpendicular unit vectors", _is_orientation)


def key(default: Any, why: str, allowed: Allowed | None = None) -> Any:
    """A setting: its default, why it is that, and what is allowed."""
    return field(default=default, metadata={"why": why, "allowed": allowed})
