"""Whom a data set names: what is compared of the Patient module (PS3.3 C.7.1.1)."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset

from dicom_node.patient.identifiers import UNREADABLE, fault_of, identifier

PERSON = (
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
)
"""Keywords of what is compared."""

DIACRITICS = range(0x0300, 0x0370)
"""Combining marks of Latin, Greek and Cyrillic letters; those of Indic scripts are vowels."""


@dataclass(frozen=True, slots=True)
class Person:
    """What one instance says of its patient, without what may differ for the same person.

    patient_id   without padding; "" where there is none.
    issuer       Issuer of Patient ID, in lower case; universal_issuer the one of the qualifiers.
    birth_date   eight digits, "" where unknown or no date.
    sex          M, F, O or "".
    names        one name in up to three spellings (PS3.5 6.2.1.1); each a tuple of components in lower
                 case, without accents, punctuation, prefix and suffix.
    fault        why the Patient ID or its issuer cannot be carried exactly; "" where it can.
    """

    patient_id: str = ""
    issuer: str = ""
    universal_issuer: str = ""
    birth_date: str = ""
    sex: str = ""
    names: tuple[tuple[str, ...], ...] = ()
    fault: str = ""


def person_of(header: Dataset) -> Person:
    """Read the person that a data set names."""
    qualifiers = header.get("IssuerOfPatientIDQualifiersSequence") or [Dataset()]
    universal = [qualifiers[0].get(key) for key in ("UniversalEntityIDType", "UniversalEntityID")]
    sex = str(header.get("PatientSex") or "").strip().upper()
    return Person(
        identifier(header.get("PatientID"), "PatientID"),
        identifier(header.get("IssuerOfPatientID"), "IssuerOfPatientID").casefold(),
        " ".join(str(part).strip() for part in universal if part).casefold(),
        _date(header.get("PatientBirthDate")),
        sex if sex in ("M", "F", "O") else "",
        _names(header.get("PatientName")),
        _fault(header),
    )


def _fault(header: Dataset) -> str:
    for keyword, words in (
        ("PatientID", "the Patient ID"),
        ("IssuerOfPatientID", "the Issuer of Patient ID"),
    ):
        if fault := fault_of(header.get(keyword), keyword):
            return f"{words} {fault}"
    return ""


def _date(value: Any) -> str:
    digits = re.sub(r"[.\-/ ]", "", str(value or ""))
    return digits if re.fullmatch(r"\d{8}", digits) else ""


def _names(value: Any) -> tuple[tuple[str, ...], ...]:
    text = str(value or "")
    if UNREADABLE in text:
        return ()
    spelled = (_components(group) for group in text.split("="))
    return tuple(dict.fromkeys(components for components in spelled if any(components)))


def _components(group: str) -> tuple[str, ...]:
    """Family, given and middle name; what is empty at the end is left out."""
    parts = [_plain(part) for part in group.split("^")[:3]]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def _plain(text: str) -> str:
    """Letters and digits in lower case, words parted by one space."""
    letters = []
    for letter in unicodedata.normalize("NFKD", text.casefold()):
        kind = unicodedata.category(letter)
        if ord(letter) in DIACRITICS or kind == "Cf":
            continue
        letters.append(" " if kind[0] in "PZSC" and kind != "Co" else letter)
    return " ".join("".join(letters).split())
