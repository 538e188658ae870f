"""Whose study it is, and whether an instance is a result of this program, read from whatever can be read."""

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicom_node.assemble.facts import declaration_of
from dicom_node.errors import SeveralPatients, UnusableIdentifier
from dicom_node.headers import MALFORMED, read_header
from dicom_node.patient import PERSON, Comparison, Person, compare_all, fault_of, person_of, read_as
from dicom_node.patient.identifiers import UNREADABLE
from dicom_node.settings import Source
from dicom_node.study import PROGRAM, Acquisition, StoredInstance, check_inflated

STUDY = (
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
)
"""General Study module (PS3.3 C.7.2.1), as far as an answer carries it on."""

PATIENT = (*PERSON, "OtherPatientIDs", "PatientIdentityRemoved", "DeidentificationMethod")
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "StationName", "SeriesDescription")
NAMED = {
    "AccessionNumber": "the Accession Number",
    "StudyID": "the Study ID",
}
"""Identifiers of the study without which results can be sent all the same."""

SPOKEN = {
    "PatientName": "Patient's Name",
    "ReferringPhysicianName": "Referring Physician's Name",
    "StudyDescription": "Study Description",
    "InstitutionName": "Institution Name",
}
"""Texts that results carry on."""

PROCESSING_EQUIPMENT = "109102"  # DCM, CID 7005


def shared_header(
    study_uid: str, instances: Sequence[StoredInstance], sources: Sequence[Source] = ()
) -> Dataset:
    """What all readable instances of a study say alike of patient and study; nothing where none is readable.

    An attribute that differs is left out, and of two patients nothing is told: neither may be named.
    """
    headers = [
        header
        for header in _headers(instances, sources, (*PATIENT, *STUDY, "StudyInstanceUID"))
        if header.get("StudyInstanceUID") == study_uid
    ]
    shared = Dataset()
    shared.StudyInstanceUID = study_uid
    mixed = compare_all(Counter(person_of(header) for header in headers)).apart
    for keyword in STUDY if mixed else (*PATIENT, *STUDY):
        said = {str(header.get(keyword) or "").strip(): header for header in headers}
        if len(said) == 1 and all(said):
            ((_, header),) = said.items()
            shared[keyword] = header[keyword]
    return shared


def one_patient(
    study_uid: str,
    instances: Sequence[StoredInstance],
    sources: Sequence[Source],
    delivered: Sequence[StoredInstance] = (),
) -> tuple[str, ...]:
    """Make sure that all instances of a study name one patient; returns what is odd, a sentence each.

    ``delivered`` are reports that an archive has: they name the same one.
    Raises SeveralPatients, or UnusableIdentifier where a Patient ID cannot be carried exactly. No sentence
    holds patient data. PS3.3 A.1.2: a study is one patient's.
    """
    persons: Counter[Person] = Counter()
    unusable: Counter[str] = Counter()
    for header in _headers(instances, sources, (*PATIENT, *STUDY, *SPOKEN)):
        persons[person_of(header)] += 1
        unusable.update(_unusable(header))
    for header in _headers(delivered, (), PERSON):
        persons[person_of(header)] += 0
    for person in persons:
        if person.fault:
            raise UnusableIdentifier(
                study_uid, f"{person.fault}; another ID would be another patient"
            )
    found = compare_all(persons)
    if found.apart:
        raise SeveralPatients(study_uid, _mixed(persons, found))
    cautions = [f"{text}; it is left empty in the results" for text in unusable]
    if found.odd:
        names = _listed(found.odd)
        cautions.append(
            f"{names} differ between instances of the study, as of one patient; see that they are"
        )
    return tuple(cautions)


def choose_spokesman(acquisitions: Sequence[Acquisition]) -> tuple[int, int, int]:
    """Acquisition, source and instance whose header names the patient in all results of a study.

    Where a name is spelled in several ways, as most instances do; of these, the one that says most.
    """
    named: dict[str, list[tuple[int, int, int]]] = {}
    for number, acquisition in enumerate(acquisitions):
        for which, source in enumerate(acquisition.sources):
            for position, path in enumerate(source.paths):
                header = read_header(path, PERSON)
                read_as(header, source.character_set)
                said = json.dumps([str(header.get(keyword) or "") for keyword in PERSON])
                named.setdefault(said, []).append((number, which, position))
    if not named:
        return 0, 0, 0
    said = max(named, key=lambda said: (len(named[said]), len(said), said))
    return named[said][0]


def person_in(instance: StoredInstance, sources: Sequence[Source]) -> Person | None:
    """Whom an instance names; None where it cannot be read."""
    return next((person_of(header) for header in _headers([instance], sources, PERSON)), None)


def _mixed(persons: Counter[Person], found: Comparison) -> str:
    counts = [f"{count} instances" for count in sorted(persons.values(), reverse=True) if count]
    if len(counts) < len(persons):
        counts.append("a report that was delivered")
    parties = _listed(counts)
    return (
        f"the study is of more than one patient: {parties} differ in {_listed(found.apart)}; "
        "no results were made"
    )


def _unusable(header: Dataset) -> Iterator[str]:
    """What of the study's identifiers and texts cannot be carried on, and why."""
    for keyword, words in NAMED.items():
        if fault := fault_of(header.get(keyword), keyword):
            yield f"{words} {fault}"
    for keyword, words in SPOKEN.items():
        if UNREADABLE in str(header.get(keyword) or ""):
            yield (
                f"{words} is in a character set that is not declared, or not the declared one "
                "(give [[sources]] character_set)"
            )


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


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
    instances: Sequence[StoredInstance], sources: Sequence[Source], keywords: Sequence[str]
) -> Iterator[Dataset]:
    """The attributes of each readable instance, in the characters that the site declares."""
    with warnings.catch_warnings():
        # pydicom warns of odd headers by quoting their values, and those can be a patient's.
        warnings.simplefilter("ignore")
        for instance in instances:
            try:
                header = _read(instance, (*keywords, *EQUIPMENT))
                declared = declaration_of(header, instance.calling_ae, sources)
                read_as(header, declared.character_set if declared else "")
            except MALFORMED:
                continue
            for keyword in keywords:
                try:
                    header.get(keyword)  # decoded here
                except MALFORMED:
                    del header[keyword]
            yield header


def _read(instance: StoredInstance, keywords: Sequence[str]) -> Dataset:
    """Some attributes. Raises what is MALFORMED."""
    check_inflated(instance.path)
    return read_header(instance.path, keywords)
