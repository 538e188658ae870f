"""The part of a source header that results carry on, with every value made valid (PS3.5 6.2)."""

import datetime
import math
import re
import unicodedata
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue

from dicom_node.patient.identifiers import LENGTHS, UNREADABLE, identifier

CHARACTER_SET = "ISO_IR 192"

PATIENT = [
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "IssuerOfClinicalTrialProtocolID",
    "OtherClinicalTrialProtocolIDsSequence",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "IssuerOfClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
]
"""Whom all results of a study are of (PS3.3 C.7.1.1, C.7.1.3, C.7.2.2)."""

STUDY = [
    "StudyInstanceUID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyDescription",
    "ClinicalTrialTimePointID",
    "IssuerOfClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalOffsetFromEvent",
    "LongitudinalTemporalEventType",
    "ConsentForClinicalTrialUseSequence",
    "ClinicalTrialCoordinatingCenterName",
    "TimezoneOffsetFromUTC",
    "LongitudinalTemporalInformationModified",
]
"""Which study, and what its times mean (PS3.3 C.7.2.1, C.7.2.3, C.12.1)."""

PATIENT_AND_STUDY = [*PATIENT, *STUDY]
"""What every object of a study says alike."""

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
    *(key for key in PATIENT_AND_STUDY if key not in (*REQUIRED, "StudyInstanceUID")),
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
TRIAL = (
    (
        [keyword for keyword in PATIENT if "ClinicalTrial" in keyword],
        ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"),
    ),
    (
        [keyword for keyword in STUDY if "ClinicalTrial" in keyword and "Center" not in keyword],
        ("ClinicalTrialTimePointID",),
    ),
)
"""Modules that need not be there (PS3.3 C.7.1.3, C.7.2.3), and what is Type 2 in them where they are."""

CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
NEEDED = {
    "OtherPatientIDsSequence": ("PatientID", "TypeOfPatientID"),
    "DeidentificationMethodCodeSequence": CODE,
    "OtherClinicalTrialProtocolIDsSequence": (
        "ClinicalTrialProtocolID",
        "IssuerOfClinicalTrialProtocolID",
    ),
    "ConsentForClinicalTrialUseSequence": ("ConsentForDistributionFlag",),
}
"""What an item is nothing without (Type 1)."""

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
EXACT = ("ID", "IDs", "ApprovalNumber", "AccessionNumber", "CodeValue", "DeviceSerialNumber")
"""Ends of the keywords of identifiers: carried exactly, or not at all."""

OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
"""Timezone Offset From UTC, PS3.3 C.12.1."""


def clean_header(source: Dataset) -> Dataset:
    """Copy what results need from one source instance.

    Identifiers are copied exactly; text is copied as valid text; a value that cannot be made valid is left
    out, or left empty where the attribute must be there. Nothing else of the source is carried on.
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
        for module, required in TRIAL:
            if any(keyword in result for keyword in module):
                for keyword in set(required) - set(result.dir()):
                    setattr(result, keyword, "")
    return result


def name_patient(header: Dataset, patient: Dataset) -> None:
    """Have a cleaned header say of the patient what another one says."""
    for keyword in PATIENT:
        header.pop(keyword, None)
        if keyword in patient:
            setattr(header, keyword, patient[keyword].value)


def carry_identity(source: Dataset, target: Dataset) -> None:
    """Copy patient and study from a cleaned header."""
    for keyword in PATIENT_AND_STUDY:
        if keyword in source:
            setattr(target, keyword, deepcopy(source[keyword].value))


def _clean(value: Any, keyword: str) -> Any:
    """A valid value, several of them, or items; "" or nothing where there is none."""
    if value is None:
        return ""
    if dictionary_VR(keyword) == "SQ":
        items = (_clean_item(item, keyword) for item in value)
        return [
            item for item in items if len(item) and set(NEEDED.get(keyword, ())) <= set(item.dir())
        ]
    if _is_exact(keyword) and keyword not in MULTIPLE:
        return identifier(value, keyword)
    values = list(value) if isinstance(value, MultiValue) else [value]
    cleaner = CLEANERS[dictionary_VR(keyword)]
    cleaned = [text for text in (cleaner(item, keyword) for item in values) if text]
    if keyword in MULTIPLE and len(cleaned) > 1:
        return cleaned
    # A backslash in a single-valued text was read as a separator of values.
    return " ".join(map(str, cleaned))[: LENGTHS.get(dictionary_VR(keyword))] if cleaned else ""


def _is_exact(keyword: str) -> bool:
    """Whether it is an identifier; UIDs have a form of their own."""
    return keyword.endswith(EXACT) and dictionary_VR(keyword) != "UI"


def _clean_item(item: Dataset, sequence: str) -> Dataset:
    """What of an item is known and valid; nothing where its identifier cannot be carried."""
    result = Dataset()
    for element in item:
        keyword = element.keyword
        if keyword and (element.VR == "SQ" or element.VR in CLEANERS):
            cleaned = _clean(element.value, keyword)
            if cleaned:
                setattr(result, keyword, cleaned)
            elif _is_exact(keyword) and element.value:
                return Dataset()
    if sequence == "OtherPatientIDsSequence" and "TypeOfPatientID" not in result:
        result.TypeOfPatientID = "TEXT"  # neither RFID nor a bar code is said
    return result


MULTIPLE = frozenset(
    {
        "SoftwareVersions",
        "LossyImageCompressionRatio",
        "LossyImageCompressionMethod",
        "DeidentificationMethod",
        "OtherPatientIDs",
    }
)


def _text(value: Any, keyword: str) -> str:
    """Without control characters, the only ones that are forbidden (PS3.5 6.1.3); "" where undecodable."""
    if UNREADABLE in str(value):
        return ""
    if _is_exact(keyword):
        return identifier(value, keyword)
    if keyword == "TimezoneOffsetFromUTC":
        return str(value).strip() if OFFSET.fullmatch(str(value).strip()) else ""
    allowed = "".join(
        " " if unicodedata.category(letter) in ("Cc", "Cs") or letter == "\\" else letter
        for letter in str(value)
    )
    return allowed.strip()[: LENGTHS.get(dictionary_VR(keyword))].strip()


def _universal(value: Any, keyword: str) -> str:
    text = str(value).strip()
    return text if re.fullmatch(r"[0-9.]{1,64}", text) else ""


def _number(value: Any, keyword: str) -> float | str:
    return float(value) if isinstance(value, float | int) and math.isfinite(value) else ""


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


CLEANERS: dict[str, Callable[[Any, str], Any]] = {
    "LO": _text,
    "SH": _text,
    "ST": _text,
    "LT": _text,
    "UT": _text,
    "UC": _text,
    "UI": _universal,
    "FD": _number,
    "PN": _name,
    "CS": _code_string,
    "DA": _date,
    "TM": _time,
    "AS": _age,
    "DS": _decimal,
}
