"""Are these one person? What differs between instances of one study, and what that means.

A study is one patient's (PS3.3 A.1.2). Two persons are told apart by any of Patient ID, its issuer, birth
date, sex and name. What may differ without being another person:

- padding of the ID; case, accents, punctuation, prefix, suffix and trailing carets of the name, and a middle
  name that only one of them has;
- an attribute that one of them does not say; a name in another script, or in another component group;
- with a caution: a name that is spelled anew under the same ID and issuer and the same birth date; sex O
  beside M or F; no Patient ID where name and birth date are the same.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum
from itertools import combinations

from dicom_node.patient.person import Person

ALIKE = 0.8
"""Share of equal letters from which a name counts as spelled anew, not as another one."""

Name = tuple[str, ...]


class _Names(Enum):
    """What two names say of each other; ``UNKNOWN``: one is missing, or they share no script."""

    SAME = "same"
    ANEW = "spelled anew"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Names of the attributes by which these are different persons, and of those that only look different."""

    apart: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()


def compare_all(persons: Mapping[Person, int]) -> Comparison:
    """Every person of a study with every other one."""
    pairs = [compare(one, other) for one, other in combinations(persons, 2)]
    apart = dict.fromkeys(word for pair in pairs for word in pair.apart)
    odd = dict.fromkeys(word for pair in pairs for word in pair.odd)
    return Comparison(tuple(apart), tuple(odd))


def compare(one: Person, other: Person) -> Comparison:
    """Two instances' persons."""
    names = _names(one, other)
    same_birth = bool(one.birth_date) and one.birth_date == other.birth_date
    same_id = bool(one.patient_id) and one.patient_id == other.patient_id
    apart: list[str] = []
    odd: list[str] = []
    if one.patient_id != other.patient_id:
        half = not (one.patient_id and other.patient_id)
        tied = half and names is _Names.SAME and same_birth
        (odd if tied else apart).append("Patient ID")
    if _differ(one.issuer, other.issuer) or _differ(one.universal_issuer, other.universal_issuer):
        apart.append("Issuer of Patient ID")
    if _differ(one.birth_date, other.birth_date):
        apart.append("Patient's Birth Date")
    if _differ(one.sex, other.sex):
        (odd if "O" in (one.sex, other.sex) else apart).append("Patient's Sex")
    if names is _Names.OTHER or (names is _Names.ANEW and not (same_id and same_birth)):
        apart.append("Patient's Name")
    elif names is _Names.ANEW:
        odd.append("Patient's Name")
    elif names is _Names.UNKNOWN and not same_id and one.names != other.names and not same_birth:
        apart.append("Patient's Name")  # without an ID the name is all that ties them
    return Comparison(tuple(apart), tuple(odd))


def _differ(one: str, other: str) -> bool:
    """Whether both say something, and not the same."""
    return bool(one and other) and one != other


def _names(one: Person, other: Person) -> _Names:
    """By all spellings that share a script."""
    pairs = [
        (mine, theirs)
        for mine in one.names
        for theirs in other.names
        if _scripts(mine) & _scripts(theirs)
    ]
    if not pairs:
        return _Names.UNKNOWN
    if any(_is_same(mine, theirs) for mine, theirs in pairs):
        return _Names.SAME
    anew = any(_is_alike(mine, theirs) for mine, theirs in pairs)
    return _Names.ANEW if anew else _Names.OTHER


def _scripts(name: Name) -> frozenset[str]:
    """LATIN, HANGUL, CJK and so on: the first word of each letter's name; digits belong to every script."""
    letters = [letter for letter in "".join(name) if letter.isalpha()]
    return frozenset(unicodedata.name(letter, "?").split(" ")[0] for letter in letters) or _DIGITS


_DIGITS = frozenset({"LATIN"})


def _is_same(one: Name, other: Name) -> bool:
    shorter = min(len(one), len(other))
    agree = shorter >= 2 and one[:2] == other[:2] and (len(one) < 3 or len(other) < 3)
    return one == other or agree or " ".join(one) == " ".join(other)


def _is_alike(one: Name, other: Name) -> bool:
    """A part in common, the same words in another order, or nearly the same letters."""
    shared = any(mine and mine == theirs for mine, theirs in zip(one, other, strict=False))
    words, others = " ".join(one), " ".join(other)
    reordered = sorted(words.split()) == sorted(others.split())
    return shared or reordered or SequenceMatcher(None, words, others).ratio() >= ALIKE
