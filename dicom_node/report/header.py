"""The part of a source header that results carry on, with every value made valid (PS3.5 6.2)."""

import datetime
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue

CHARACTER_SET = "ISO_IR 192"

# Type 2 attributes must be there, empty if unknown (PS3.3 C.7.1.1, C.7.2.1, C.7.5.1).
REQUIRED = [
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "Manufacturer",
]
OPTIONAL = [
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDescription",
    "Modality",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "InstitutionName",
    "StationName",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
]
PATIENT_AND_STUDY = [
    *REQUIRED[:-1],
    "StudyInstanceUID",
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDescription",
]
"""What every object of a study says alike (PS3.3 C.7.1, C.7.2)."""

EQUIPMENT = [
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "InstitutionName",
    "StationName",
]
"""What scanned (PS3.3 C.7.5.1)."""

IDENTIFIERS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
]
LENGTHS = {"SH": 16, "LO": 64}


def clean_header(source: Dataset) -> Dataset:
    """Copy what results need from one source instance.

    Identifiers are copied as they are; text is copied as valid text; a value that cannot be made valid is
    left out, or left empty where the attribute must be there. Nothing else of the source is carried on.
    """
    result = Dataset()
    result.SpecificCharacterSet = CHARACTER_SET
    with disable_value_validation():
        for keyword in IDENTIFIERS:
            value = source.get(keyword)
            if value not in (None, ""):
                setattr(result, keyword, value)
        for keyword in (*REQUIRED, *OPTIONAL):
            cleaned = _clean(source.get(keyword), keyword)
            if cleaned or keyword in REQUIRED:
                setattr(result, keyword, cleaned)
    return result


def carry_identity(source: Dataset, target: Dataset) -> None:
    """Copy patient and study from a cleaned header."""
    for keyword in PATIENT_AND_STUDY:
        if keyword in source:
            setattr(target, keyword, source[keyword].value)


def _clean(value: Any, keyword: str) -> Any:
    if value is None:
        return ""
    values = list(value) if isinstance(value, MultiValue) else [value]
    cleaner = CLEANERS[dictionary_VR(keyword)]
    cleaned = [text for text in (cleaner(item, keyword) for item in values) if text]
    if keyword in MULTIPLE and len(cleaned) > 1:
        return cleaned
    # A backslash in a single-valued text was read as a separator of values.
    return " ".join(cleaned)[: LENGTHS.get(dictionary_VR(keyword))] if cleaned else ""


MULTIPLE = frozenset(
    {"SoftwareVersions", "LossyImageCompressionRatio", "LossyImageCompressionMethod"}
)


def _text(value: Any, keyword: str) -> str:
    printable = "".join(
        " " if unicodedata.category(letter).startswith("C") or letter == "\\" else letter
        for letter in str(value)
    )
    return printable.strip()[: LENGTHS.get(dictionary_VR(keyword))].strip()


def _name(value: Any, keyword: str) -> str:
    """At most three groups of at most 64 characters and five components each (PS3.5 6.2.1)."""
    groups = _text(value, keyword).split("=")[:3]
    # The first group may be empty: without it, ideographic letters would become alphabetic ones.
    return "=".join("^".join(group.split("^")[:5])[:64] for group in groups).rstrip("=")


def _code_string(value: Any, keyword: str) -> str:
    text = str(value).strip().upper()
    if keyword == "PatientSex":
        return text if text in ("M", "F", "O") else ""
    return text if re.fullmatch(r"[A-Z0-9 _]{1,16}", text) else ""


def _date(value: Any, keyword: str) -> str:
    digits = re.sub(r"[.\-/]", "", str(value).strip())
    try:
        datetime.datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        return ""
    return digits if len(digits) == 8 else ""


def _time(value: Any, keyword: str) -> str:
    """Minutes and seconds may be left out."""
    text = str(value).strip().replace(":", "")
    hour, minute, second = r"([01]\d|2[0-3])", r"[0-5]\d", r"[0-5]\d"
    return text if re.fullmatch(rf"{hour}({minute}({second}(\.\d{{1,6}})?)?)?", text) else ""


def _age(value: Any, keyword: str) -> str:
    text = str(value).strip()
    return text if re.fullmatch(r"\d{3}[DWMY]", text) else ""


def _decimal(value: Any, keyword: str) -> str:
    text = str(value).strip()
    number = re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text)
    return text if number and len(text) <= 16 else ""


CLEANERS: dict[str, Callable[[Any, str], str]] = {
    "LO": _text,
    "SH": _text,
    "PN": _name,
    "CS": _code_string,
    "DA": _date,
    "TM": _time,
    "AS": _age,
    "DS": _decimal,
}
