"""Subjects: who belongs to which study, what a site calls things, and who learns and who validates."""

import csv
import hashlib
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models import codes
from models.layer.labels import DERMIS, MUSCLE, SEGMENTS
from models.training.config import TrainingError

TABLE, WORDS = "subjects.csv", "layers.toml"
NEEDED, OPTIONAL = ("subject", "study"), ("pain", "sex", "age", "bmi")
LONGEST_LEVEL = 40
"""Characters of a level's name: a coded meaning has 64 (PS3.5 6.2), and some are taken by its number."""
SHORT = ("dermis", "sf", "sfm", "df", "dfm", "muscle")
"""Abbreviations of the layers in the literature, from the skin down (arXiv 2511.21767)."""


class DatasetError(TrainingError):
    """The data of a site cannot be used; names the file and what to do."""


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
class Words:
    """What a site calls things, keys in lower case.

    layers     name, ``scheme:code`` or ``#number`` of a segment -> layer number, 0 = leave out.
    pain       value of the table's pain column -> 0 or 1, or the number of a level.
    pain_from  where a scale is cut: numbers from the first on are pain, from the next on the next level;
               empty where the column is 0 or 1 or words.
    levels     names of ordered levels from no pain up; empty where pain is only there or not.
    """

    layers: Mapping[str, int]
    pain: Mapping[str, int] = field(default_factory=dict)
    pain_from: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()


def read_words(folder: Path) -> Words:
    """The names that are understood by themselves, and those of ``layers.toml`` where there is one::

        pain_from = 4                        # for a scale
        [layers]
        "Thoracolumbar fascia" = 5           # label of a DICOM segment, without regard to case
        "SCT:13024009" = 5                   # or code of its type
        "#7" = 0                             # or its number, also in a NIfTI mask; 0 = leave out
        [pain]
        "chronic" = 1
        "none" = 0

    or, where pain has ordered levels::

        pain_from = [1, 4, 7]                # for a scale; not needed where the column says the levels
        [pain]
        levels = ["none", "mild", "moderate", "severe"]
        "slight" = 1                         # another word for a level, counted from 0

    Raises DatasetError for a key or a number that is not known.
    """
    path = folder / WORDS
    table: dict[str, Any] = {}
    if path.exists():
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise DatasetError(f"{path}: not valid TOML: {error}") from error
    if unknown := set(table) - {"layers", "pain", "pain_from"}:
        raise DatasetError(
            f"{path}: unknown key {sorted(unknown)[0]!r}; known: layers, pain, pain_from"
        )
    layers = _numbers(path, "layers", table.get("layers", {}), len(SEGMENTS))
    levels, words = _levels(path, table.get("pain", {}))
    pain = _numbers(path, "pain", words, max(len(levels) - 1, 1))
    own = {name.lower(): number for number, name in enumerate(levels)}
    return Words(_known_layers() | layers, own | pain, _cuts(path, table, levels), levels)


def _levels(path: Path, section: Any) -> tuple[tuple[str, ...], Any]:
    """Names of the levels, none where the section has no list of them, and the rest of the section."""
    if not isinstance(section, dict) or not isinstance(section.get("levels"), list):
        return (), section
    names = [name.strip() if isinstance(name, str) else "" for name in section["levels"]]
    fits = all(name.isprintable() and 0 < len(name) <= LONGEST_LEVEL for name in names)
    if not fits or any(mark in name for name in names for mark in '"\\'):
        raise DatasetError(
            f'{path}: pain.levels: names of 1 to {LONGEST_LEVEL} characters without " and \\ are wanted'
        )
    if len(names) < 3 or len({name.lower() for name in names}) < len(names):
        raise DatasetError(
            f"{path}: pain.levels: three or more different names, from no pain up; for two say of each word "
            'whether it is pain, as in "chronic" = 1'
        )
    return tuple(names), {key: value for key, value in section.items() if key != "levels"}


def _cuts(path: Path, table: Mapping[str, Any], levels: Sequence[str]) -> tuple[float, ...]:
    """Where a scale is cut: once, or between all levels."""
    found = table.get("pain_from", [])
    cuts = found if isinstance(found, list) else [found]
    wanted = max(len(levels) - 1, 1)
    numbers = all(type(cut) in (int, float) and math.isfinite(cut) for cut in cuts)
    if not numbers or len(cuts) not in (0, wanted) or sorted(set(cuts)) != cuts:
        what = (
            f"{wanted} increasing numbers, one for each level but the first"
            if levels
            else "a number"
        )
        raise DatasetError(f"{path}: pain_from must be {what}, got {found!r}")
    return tuple(float(cut) for cut in cuts)


def _known_layers() -> dict[str, int]:
    """Labels, abbreviations, "layer 3", "segment 3" and "3"; of the codes those that name one layer alone."""
    names = {"dcm:125040": 0}  # Background, of a label map (PS3.16)
    for item, short in zip(SEGMENTS, SHORT, strict=True):
        for name in (
            item.label,
            short,
            *(f"{word}{item.number}" for word in ("", "layer ", "segment ")),
        ):
            names[name.lower()] = item.number
    for number, code in ((DERMIS, codes.SKIN), (MUSCLE, codes.ERECTOR_SPINAE)):
        names[f"{code.scheme}:{code.value}".lower()] = number
    return names


def _numbers(path: Path, section: str, table: Any, highest: int) -> dict[str, int]:
    if not isinstance(table, dict):
        raise DatasetError(f"{path}: {section} must be a table")
    for key, value in table.items():
        if type(value) is not int or not 0 <= value <= highest:
            raise DatasetError(
                f"{path}: {section}: {key!r} = {value!r} must be a whole number of 0 to {highest}"
            )
    return {key.strip().lower(): value for key, value in table.items()}


def read_table(folder: Path, words: Words) -> dict[str, Subject]:
    """``subjects.csv`` by study. Raises DatasetError naming the line that cannot be used."""
    path = folder / TABLE
    if not path.is_file():
        raise DatasetError(
            f"{path} is missing: a table with the columns {', '.join(NEEDED)} and, where known, "
            f"{', '.join(OPTIONAL)}; without it nobody can tell whose studies belong together"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text: {error}") from error
    mark = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    reader = csv.DictReader(lines, delimiter=mark, skipinitialspace=True)
    if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
        raise DatasetError(f"{path}: no column {missing[0]!r} in its first line")
    rows: dict[str, Subject] = {}
    for cells in reader:
        where = f"{path}, line {reader.line_num}: "
        row = _row(
            where, {key: str(cells.get(key) or "").strip() for key in NEEDED + OPTIONAL}, words
        )
        if row.study in rows:
            raise DatasetError(f"{where}study {row.study} is there twice; one row for each study")
        rows[row.study] = row
    return rows


def _row(where: str, cells: Mapping[str, str], words: Words) -> Subject:
    for name in NEEDED:
        if not cells[name]:
            raise DatasetError(f"{where}{name} is empty")
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


def _pain(where: str, text: str, words: Words) -> int | None:
    """0 or 1, or the number of a level; None where nothing is said."""
    if not text:
        return None
    if text.lower() in words.pain:
        return words.pain[text.lower()]
    if words.pain_from:
        number = _number(where, "pain", text)
        return sum(cut <= number for cut in words.pain_from) if number is not None else None
    if words.levels:
        raise DatasetError(
            f"{where}pain is {text!r}, none of the levels {', '.join(words.levels)}: say in {WORDS} which "
            f'it is, with [pain] "{text}" = NUMBER counted from 0, or pain_from = [NUMBERS] for a scale'
        )
    if text not in ("0", "1"):
        raise DatasetError(
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
        raise DatasetError(f"{where}{name} is {text!r}, not a number")
    return number


def held_out(subjects: Iterable[str], share: float, seed: int) -> frozenset[str]:
    """The subjects that validate: the first ``round(share x subjects)`` in the order of a seeded hash.

    At least one, and at least one learns. When a subject is added, at most one other changes its side: the
    last that validated learns where the new one comes before it and the number stays, the next in order
    validates where the number grows. Raises DatasetError for fewer than two subjects.
    """
    order = _order(subjects, seed)
    if len(order) < 2:
        raise DatasetError(
            f"{len(order)} subject with masks; at least two are needed, to learn from and to validate"
        )
    return frozenset(order[: min(max(round(share * len(order)), 1), len(order) - 1)])


def also_held_out(
    subjects: Iterable[str], split: tuple[frozenset[str], frozenset[str]], share: float, seed: int
) -> frozenset[str]:
    """Of these subjects those that validate: ``round(share x subjects)`` by the same order, at least one.

    ``split`` are the subjects whose side is settled elsewhere, learning and validating: they keep it, so the
    number may differ where they are too many, or where all are settled.
    """
    order = _order(subjects, seed)
    learn, validate = split
    settled = [name for name in order if name in validate]
    free = [name for name in order if name not in learn | validate]
    missing = max(round(share * len(order)), 1) - len(settled)
    return frozenset(settled + free[: max(missing, 0)])


def _order(subjects: Iterable[str], seed: int) -> list[str]:
    return sorted(set(subjects), key=lambda name: (_place(name, seed), name))


def _place(subject: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}|{subject}".encode()).digest()
