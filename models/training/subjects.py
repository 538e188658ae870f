"""A site's words: what it calls the layers, and who of its subjects learns and who validates."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models import codes
from models.layer.labels import DERMIS, MUSCLE, SEGMENTS
from models.subjects import WORDS, PainWords, numbers, read_pain_words, read_toml
from models.training.config import TrainingError

SHORT = ("dermis", "sf", "sfm", "df", "dfm", "muscle")
"""Abbreviations of the layers in the literature, from the skin down (arXiv 2511.21767)."""


class DatasetError(TrainingError):
    """The data of a site cannot be used; names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a site calls things: ``layers`` is name, ``scheme:code`` or ``#number`` of a segment, in
    lower case, -> layer number, 0 = leave out; ``pain`` explains the table's column.
    """

    layers: Mapping[str, int]
    pain: PainWords = PainWords()


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

    Raises SubjectsError for a key or a number that is not known.
    """
    layers = numbers(folder / WORDS, "layers", read_toml(folder).get("layers", {}), len(SEGMENTS))
    return Words(_known_layers() | layers, read_pain_words(folder))


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
