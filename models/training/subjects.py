"""Subjects: who belongs to which study, what a site calls things, and who learns and who validates."""

import csv
import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models import codes
from models.layer.labels import DERMIS, MUSCLE, SEGMENTS
from models.training.config import TrainingError

TABLE, WORDS = "subjects.csv", "layers.toml"
NEEDED, OPTIONAL = ("subject", "study"), ("pain", "sex", "age", "bmi")
SHORT = ("dermis", "sf", "sfm", "df", "dfm", "muscle")
"""Abbreviations of the layers in the literature, from the skin down (arXiv 2511.21767)."""


class DatasetError(TrainingError):
    """The data of a site cannot be used; names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One row of the table: a study and the person it is of; None and "" are not known."""

    subject: str
    study: str
    pain: bool | None = None
    sex: str = ""
    age: float | None = None
    bmi: float | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """What a site calls things, keys in lower case.

    layers     name, ``scheme:code`` or ``#number`` of a segment -> layer number, 0 = leave out.
    pain       value of the table's pain column -> 0 or 1.
    pain_from  numbers from here on are pain; None where the column is 0 or 1 or words.
    """

    layers: Mapping[str, int]
    pain: Mapping[str, int] = field(default_factory=dict)
    pain_from: float | None = None


def read_words(folder: Path) -> Words:
    """The names that are understood by themselves, and those of ``layers.toml`` where there is one::

        pain_from = 4                        # for an ordinal scale
        [layers]
        "Thoracolumbar fascia" = 5           # label of a DICOM segment, without regard to case
        "SCT:13024009" = 5                   # or code of its type
        "#7" = 0                             # or its number, also in a NIfTI mask; 0 = leave out
        [pain]
        "chronic" = 1
        "none" = 0

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
    pain = _numbers(path, "pain", table.get("pain", {}), 1)
    limit = table.get("pain_from")
    if limit is not None and type(limit) not in (int, float):
        raise DatasetError(f"{path}: pain_from must be a number, got {limit!r}")
    return Words(_known_layers() | layers, pain, None if limit is None else float(limit))


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
    return Subject(
        cells["subject"],
        cells["study"],
        _pain(where, cells["pain"], words),
        cells["sex"],
        _number(where, "age", cells["age"]),
        _number(where, "bmi", cells["bmi"]),
    )


def _pain(where: str, text: str, words: Words) -> bool | None:
    if not text:
        return None
    if text.lower() in words.pain:
        return bool(words.pain[text.lower()])
    if words.pain_from is not None:
        number = _number(where, "pain", text)
        return number is not None and number >= words.pain_from
    if text not in ("0", "1"):
        raise DatasetError(
            f"{where}pain is {text!r}, not 0 or 1: say in {WORDS} what it means, with pain_from = NUMBER "
            f'for a scale or [pain] "{text}" = 0 or 1 for a class'
        )
    return text == "1"


def _number(where: str, name: str, text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise DatasetError(f"{where}{name} is {text!r}, not a number") from None


def held_out(subjects: Iterable[str], share: float, seed: int) -> frozenset[str]:
    """The subjects that validate: those whose seeded hash lies below ``share``; at least one of two or more.

    A subject's side does not change when others are added, but for that least one. Raises DatasetError for
    fewer than two subjects.
    """
    places = {name: _place(name, seed) for name in set(subjects)}
    if len(places) < 2:
        raise DatasetError(
            f"{len(places)} subject with masks; at least two are needed, to learn from and to validate"
        )
    order = sorted(places, key=lambda name: places[name])
    count = sum(place < share for place in places.values())
    return frozenset(order[: min(max(count, 1), len(order) - 1)])


def also_held_out(
    subjects: Iterable[str], apart: frozenset[str], share: float, seed: int
) -> frozenset[str]:
    """Of these subjects, those that validate by the same hash, and those that already do elsewhere."""
    return frozenset(name for name in subjects if name in apart or _place(name, seed) < share)


def _place(subject: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}|{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
