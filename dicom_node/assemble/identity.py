"""Whose study it is, and whether an instance is a result of this program, read from whatever can be read."""

import warnings
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicom_node.headers import MALFORMED, read_header
from dicom_node.study import PROGRAM, StoredInstance, check_inflated

# Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1), as far as results carry them on.
SHARED = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
PROCESSING_EQUIPMENT = "109102"  # DCM, CID 7005


def shared_header(study_uid: str, instances: Sequence[StoredInstance]) -> Dataset:
    """What all readable instances of a study say alike of patient and study; nothing where none is readable.

    An attribute that differs is left out: of two patients neither may be named.
    """
    said: dict[str, set[str]] = {keyword: set() for keyword in SHARED}
    for header in _headers(instances, (*SHARED, "StudyInstanceUID")):
        if header.pop("StudyInstanceUID", "") == study_uid:
            for keyword, values in said.items():
                values.add(header.get(keyword, ""))
    shared = Dataset()
    shared.StudyInstanceUID = study_uid
    for keyword, values in said.items():
        if len(values) == 1 and (value := values.pop()):
            setattr(shared, keyword, value)
    return shared


def own_results(instances: Sequence[StoredInstance]) -> set[str]:
    """SOP Instance UIDs of the instances that this program made, here or on another node.

    Each of its results names it as processing equipment (PS3.3 C.12.1.1.5).
    """
    own = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for instance in instances:
            if _is_own(instance):
                own.add(instance.sop_instance_uid)
    return own


def _is_own(instance: StoredInstance) -> bool:
    try:
        items = _read(instance, ("ContributingEquipmentSequence",)).get(
            "ContributingEquipmentSequence"
        )
        return any(
            item.get("Manufacturer") == PROGRAM
            and item.PurposeOfReferenceCodeSequence[0].get("CodeValue") == PROCESSING_EQUIPMENT
            for item in items or ()
        )
    except MALFORMED:
        return False


def _headers(
    instances: Sequence[StoredInstance], keywords: Sequence[str]
) -> Iterator[dict[str, str]]:
    """The attributes of each readable instance as text."""
    with warnings.catch_warnings():
        # pydicom warns of odd headers by quoting their values, and those can be a patient's.
        warnings.simplefilter("ignore")
        for instance in instances:
            try:
                header = _read(instance, keywords)
                texts = {keyword: str(header.get(keyword) or "").strip() for keyword in keywords}
            except MALFORMED:
                continue
            yield texts


def _read(instance: StoredInstance, keywords: Sequence[str]) -> Dataset:
    """Some attributes. Raises what is MALFORMED."""
    check_inflated(instance.path)
    return read_header(instance.path, keywords)
