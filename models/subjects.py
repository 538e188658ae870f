"""Subjects: the one table of who was scanned, ``subjects.csv``, and what a site calls pain in it."""

import csv
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE, WORDS = "subjects.csv", "layers.toml"
NEEDED, OPTIONAL = ("subject", "study"), ("pain", "sex", "age", "bmi")
LONGEST_LEVEL = 40
"""Characters of a level's name: a coded meaning has 64 (PS3.5 6.2), and some are taken by its number."""


class SubjectsError(Exception):
    """The table, or the words that explain it, cannot be used; names file, line and what to change."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One row of the table: a study and the person it is of; None and "" are not known.

    ``level`` is that of the site's ordered levels, 0 = no pain; None also where the site has no levels.
    """

    subject: str
    study: str
    pain: bool | None = None
    sex: str = ""
    age: float | None = None
    bmi: float | None = None
    level: int | None = None


@dataclass(frozen=True, slots=True)
class PainWords:
    """What a site's column of pain means, keys in lower case.

    pain       value of the column -> 0 or 1, or the number of a level.
    pain_from  where a scale is cut: numbers from the first on are pain, from the next on the next level;
               empty where the column is 0 or 1 or words.
    levels     names of ordered levels from no pain up; empty where pain is only there or not.
    """

    pain: Mapping[str, int] = field(default_factory=dict)
    pain_from: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()


def read_toml(folder: Path) -> dict[str, Any]:
    """The tables of ``layers.toml``, empty where there is none. Raises SubjectsError for an unknown key."""
    path = folder / WORDS
    table: dict[str, Any] = {}
    if path.exists():
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SubjectsError(f"{path}: not valid TOML: {error}") from error
    if unknown := set(table) - {"layers", "pain", "pain_from"}:
        raise SubjectsError(
            f"{path}: unknown key {sorted(unknown)[0]!r}; known: layers, pain, pain_from"
        )
    return table


def read_pain_words(folder: Path) -> PainWords:
    """What ``layers.toml`` in ``folder`` says of the column pain. Raises SubjectsError naming the key."""
    table, path = read_toml(folder), folder / WORDS
    levels, words = _levels(path, table.get("pain", {}))
    pain = numbers(path, "pain", words, max(len(levels) - 1, 1))
    own = {name.lower(): number for number, name in enumerate(levels)}
    return PainWords(own | pain, _cuts(path, table, levels), levels)


def numbers(path: Path, section: str, table: Any, highest: int) -> dict[str, int]:
    """A section of ``layers.toml`` that gives whole numbers of 0 to ``highest``, keys in lower case."""
    if not isinstance(table, dict):
        raise SubjectsError(f"{path}: {section} must be a table")
    for key, value in table.items():
        if type(value) is not int or not 0 <= value <= highest:
            raise SubjectsError(
                f"{path}: {section}: {key!r} = {value!r} must be a whole number of 0 to {highest}"
            )
    return {key.strip().lower(): value for key, value in table.items()}


def _levels(path: Path, section: Any) -> tuple[tuple[str, ...], Any]:
    """Names of the levels, none where the section has no list of them, and the rest of the section."""
    if not isinstance(section, dict) or not isinstance(section.get("levels"), list):
        return (), section
    names = [name.strip() if isinstance(name, str) else "" for name in section["levels"]]
    fits = all(name.isprintable() and 0 < len(name) <= LONGEST_LEVEL for name in names)
    if not fits or any(mark in name for name in names for mark in '"\\'):
        raise SubjectsError(
            f'{path}: pain.levels: names of 1 to {LONGEST_LEVEL} characters without " and \\ are wanted'
        )
    if len(names) < 3 or len({name.lower() for name in names}) < len(names):
        raise SubjectsError(
            f"{path}: pain.levels: three or more different names, from no pain up; for two say of each word "
            'whether it is pain, as in "chronic" = 1'
        )
    return tuple(names), {key: value for key, value in section.items() if key != "levels"}


def _cuts(path: Path, table: Mapping[str, Any], levels: Sequence[str]) -> tuple[float, ...]:
    """Where a scale is cut: once, or between all levels."""
    found = table.get("pain_from", [])
    cuts = found if isinstance(found, list) else [found]
    wanted = max(len(levels) - 1, 1)
    finite = all(type(cut) in (int, float) and math.isfinite(cut) for cut in cuts)
    if not finite or len(cuts) not in (0, wanted) or sorted(set(cuts)) != cuts:
        what = (
            f"{wanted} increasing numbers, one for each level but the first"
            if levels
            else "a number"
        )
        raise SubjectsError(f"{path}: pain_from must be {what}, got {found!r}")
    return tuple(float(cut) for cut in cuts)


def read_table(path: Path, words: PainWords) -> dict[str, Subject]:
    """The rows of ``subjects.csv`` by study. Raises SubjectsError naming the line, never the subject."""
    if not path.is_file():
        raise SubjectsError(
            f"{path} is missing: a table with the columns {', '.join(NEEDED)} and, where known, "
            f"{', '.join(OPTIONAL)}; without it nobody can tell whose studies belong together"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        mark = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
        reader = csv.DictReader(lines, delimiter=mark, skipinitialspace=True)
        reader.fieldnames = _head(path, reader.fieldnames or ())
        rows: dict[str, Subject] = {}
        for cells in reader:
            where = f"{path}, line {reader.line_num}: "
            known = {key: str(cells.get(key) or "").strip() for key in NEEDED + OPTIONAL}
            row = _row(where, known, words)
            if row.study in rows:
                raise SubjectsError(
                    f"{where}its study is there twice; one row for each study, and one subject"
                )
            rows[row.study] = row
    except (UnicodeDecodeError, csv.Error) as error:
        raise SubjectsError(f"{path}: no CSV file in UTF-8: {error}") from error
    return rows


def _head(path: Path, names: Sequence[str]) -> list[str]:
    """The columns in lower case. One that is not known is an error: it may be meant to be one that is."""
    head = [name.strip().lower() for name in names]
    if missing := [name for name in NEEDED if name not in head]:
        raise SubjectsError(f"{path}: no column {missing[0]!r} in its first line")
    if "group" in head:
        raise SubjectsError(
            f"{path}: the column group is now called pain: name it so in the first line, and write 1 for "
            "pain and 0 for control, or say in layers.toml beside it what your words mean: "
            '[pain] "pain" = 1, "control" = 0'
        )
    unknown = sorted({name for name in head if name} - set(NEEDED + OPTIONAL))
    if unknown:
        raise SubjectsError(
            f"{path}: unknown column {unknown[0][:40]!r}; known: {', '.join(NEEDED + OPTIONAL)}. Take it out"
        )
    return head


def _row(where: str, cells: Mapping[str, str], words: PainWords) -> Subject:
    for name in NEEDED:
        if not cells[name]:
            raise SubjectsError(f"{where}{name} is empty")
    number = _pain(where, cells["pain"], words)
    return Subject(
        cells["subject"],
        cells["study"],
        None if number is None else number > 0,
        cells["sex"],
        _number(where, "age", cells["age"]),
        _number(where, "bmi", cells["bmi"]),
        number if words.levels else None,
    )


def _pain(where: str, text: str, words: PainWords) -> int | None:
    """0 or 1, or the number of a level; None where nothing is said."""
    if not text:
        return None
    if text.lower() in words.pain:
        return words.pain[text.lower()]
    if words.pain_from:
        number = _number(where, "pain", text)
        return sum(cut <= number for cut in words.pain_from) if number is not None else None
    if words.levels:
        raise SubjectsError(
            f"{where}pain is {text!r}, none of the levels {', '.join(words.levels)}: say in {WORDS} which "
            f'it is, with [pain] "{text}" = NUMBER counted from 0, or pain_from = [NUMBERS] for a scale'
        )
    if text not in ("0", "1"):
        raise SubjectsError(
            f"{where}pain is {text!r}, not 0 or 1: say in {WORDS} what it means, with pain_from = NUMBER "
            f'for a scale or [pain] "{text}" = 0 or 1 for a class'
        )
    return int(text)


def _number(where: str, name: str, text: str) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise SubjectsError(f"{where}{name} is {text!r}, not a number")
    return number
