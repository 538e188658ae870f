"""Never the wrong person: a study is one patient's, identifiers are carried exactly, text as it is meant."""

import json
import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import generate_uid
from pynetdicom import AE

from dicom_node import jobs
from dicom_node.analyze import analyze_study
from dicom_node.assemble import assemble_study
from dicom_node.errors import NodeError
from dicom_node.process import find_studies, process
from dicom_node.report import write_objects
from dicom_node.settings import Node, Settings, Source
from dicom_node.show import print_job
from dicom_node.study import Study
from tests.conftest import Pacs, RunningNode, make_study, start_node, study_uid_of, wait_for
from tests.plain_analysis import analysis
from tests.report_reading import NO_PAGES

PLAIN = Node(analyses=("tests.plain_analysis:analysis",))
Edit = Callable[[Dataset], None]


def edited(paths: tuple[Path, ...], **values: object) -> tuple[Path, ...]:
    """Text that is bytes is written as it is, whatever character set is declared."""
    for path in paths:
        with disable_value_validation():
            dataset = dcmread(path)
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path)
    return paths


def run(paths: tuple[Path, ...], out: Path) -> tuple[dict, dict[str, Dataset]]:
    """What `process` says of a study, and the objects that it wrote, by their beginnings."""
    process(paths, out, Settings(node=PLAIN))
    (study,) = json.loads((out / "findings.json").read_text())["studies"]
    found = {path.name.split("-")[0].split(".")[0]: dcmread(path) for path in out.glob("*.dcm")}
    return study, found


def made_of(
    paths: tuple[Path, ...], out: Path, *sources: Source
) -> tuple[list[str], list[Dataset]]:
    """Cautions and objects of a study that is analyzed, without pages, which take a second to draw."""
    out.mkdir()
    ((study_uid, instances),) = find_studies(paths)[0].items()
    study = assemble_study(study_uid, 0, instances, sources)
    study.save(out)
    study = Study.load(out)
    written = write_objects(study, analyze_study(study, [analysis]), out, NO_PAGES)
    return [*study.cautions], [dcmread(item.path) for item in written]


ONE = {"PatientID": "7", "PatientName": "Doe^John", "PatientBirthDate": "19700101"}
ONE |= {"PatientSex": "M", "IssuerOfPatientID": "NORTH"}
NO_ID = {"PatientID": ""}
APART = {
    "another ID": ({}, {"PatientID": "8"}, "Patient ID"),
    "zeros are no padding": ({}, {"PatientID": "007"}, "Patient ID"),
    "an invisible letter": ({}, {"PatientID": "7\u200b"}, "Patient ID"),
    "two issuers": ({}, {"IssuerOfPatientID": "SOUTH"}, "Issuer of Patient ID"),
    "born on two days": ({}, {"PatientBirthDate": "19700102"}, "Patient's Birth Date"),
    "man and woman": ({}, {"PatientSex": "F"}, "Patient's Sex"),
    "another name under one ID": ({}, {"PatientName": "Roe^Erik"}, "Patient's Name"),
    "spelled anew, birth not known": (
        {"PatientBirthDate": ""},
        {"PatientBirthDate": "", "PatientName": "Do^John"},
        "Patient's Name",
    ),
    "two names, no ID": (NO_ID, NO_ID | {"PatientName": "Roe^Erik"}, "Patient's Name"),
    "a name and none, no ID": (
        NO_ID,
        NO_ID | {"PatientName": "", "PatientBirthDate": ""},
        "Patient's Name",
    ),
    "no ID, and no birth date": ({}, NO_ID | {"PatientBirthDate": ""}, "Patient ID"),
}
ALIKE = {
    "padding": ({}, {"PatientID": " 7 "}, False),
    "trailing carets, case, accent": ({}, {"PatientName": "DOÉ^JOHN^^^"}, False),
    "a title": ({}, {"PatientName": "Doe^John^^Dr"}, False),
    "another script beside": ({}, {"PatientName": "Doe^John=洪^吉洞"}, False),
    "another script alone": ({}, {"PatientName": "홍^길동"}, False),
    "in another component group": ({}, {"PatientName": "=Doe^John"}, False),
    "what one does not say": ({}, {"PatientSex": "", "IssuerOfPatientID": ""}, False),
    "spelled anew": ({}, {"PatientName": "Dough^John"}, True),
    "married": ({}, {"PatientName": "Smith^John"}, True),
    "no ID, same name and birth": ({}, NO_ID, True),
    "sex O": ({}, {"PatientSex": "O"}, True),
}


@pytest.mark.parametrize(("first", "second", "attribute"), APART.values(), ids=APART.keys())
def test_two_people_in_one_study_are_refused(
    first: dict, second: dict, attribute: str, tmp_path: Path
) -> None:
    paths = make_study(tmp_path / "in", slices=4)
    edited(paths[:3], SpecificCharacterSet="ISO_IR 192", **ONE | first)
    edited(paths[3:], SpecificCharacterSet="ISO_IR 192", **ONE | second)
    study, made = run(paths, tmp_path / "out")
    assert study["status"] == "refused"
    (reason,) = study["reasons"]
    parties = "3 instances and 1 instances"
    assert reason.startswith(
        f"the study is of more than one patient: {parties} differ in {attribute}"
    )
    assert list(made) == ["answer"]
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        assert made["answer"][keyword].value == ""
    assert "IssuerOfPatientID" not in made["answer"]
    assert "Doe" not in reason


@pytest.mark.parametrize(("first", "second", "odd"), ALIKE.values(), ids=ALIKE.keys())
def test_what_may_differ_for_one_person(
    first: dict, second: dict, odd: bool, tmp_path: Path
) -> None:
    paths = make_study(tmp_path / "in", slices=4)
    edited(paths[:3], SpecificCharacterSet="ISO_IR 192", **ONE | first)
    edited(paths[3:], SpecificCharacterSet="ISO_IR 192", **ONE | second)
    cautions, made = made_of(paths, tmp_path / "out")
    assert ["differ between instances" in text for text in cautions] == [True] * odd
    named = {(str(item.PatientID), str(item.PatientName)) for item in made}
    assert named == {("7", "Doe^John")}


UNUSABLE = {
    "backslash": ("12\\34", "holds a backslash"),
    "70 characters": ("9" * 70, "is longer than the 64 characters"),
    "control character": ("12\t34", "holds a control character"),
}


@pytest.mark.parametrize(("patient_id", "fault"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_id_that_cannot_be_carried_is_no_other_id(
    patient_id: str, fault: str, tmp_path: Path
) -> None:
    paths = edited(make_study(tmp_path / "in", slices=2), PatientID=patient_id)
    study, made = run(paths, tmp_path / "out")
    assert study["reasons"][0].startswith(f"the Patient ID {fault}")
    assert made["answer"].PatientID == ""
    assert "patient-id" in made["answer"].to_json()


def test_text_is_carried_but_for_control_characters(tmp_path: Path) -> None:
    name = "رضایی^علی\u200cرضا=李^\U00031350\ue000明\u200d\u200f"  # noqa: RUF001
    paths = edited(
        make_study(tmp_path / "in", slices=2),
        SpecificCharacterSet="ISO_IR 192",
        PatientName=name,
        PatientID="A\u200b1",
        StudyDescription="a\tb\u2066c",
        AccessionNumber="HOSP-2024-000123456",
    )
    cautions, made = made_of(paths, tmp_path / "out")
    for item in made:
        assert str(item.PatientName) == name
        assert item.PatientID == "A\u200b1"
        assert item.StudyDescription == "a b\u2066c"
        assert item.AccessionNumber == ""
    (caution,) = cautions
    assert caution.startswith("the Accession Number is longer than the 16 characters")


def test_whose_ids_they_are_and_what_was_removed_is_carried(tmp_path: Path) -> None:
    paths = make_study(tmp_path / "in", slices=2)
    item, qualifier, other, code = (Dataset() for _ in range(4))
    item.LocalNamespaceEntityID = "HIS"
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = "1.2.3", "ISO"
    other.PatientID, other.IssuerOfPatientID = "OLD 1", "SOUTH"
    broken = Dataset()
    broken.PatientID = "OLD\\2"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "x1", "LOCAL", "What we remove"
    edited(
        paths,
        IssuerOfAccessionNumberSequence=[item],
        IssuerOfPatientIDQualifiersSequence=[qualifier],
        OtherPatientIDsSequence=[other, broken],
        PatientIdentityRemoved="YES",
        DeidentificationMethod=["first", "second"],
        DeidentificationMethodCodeSequence=[code],
        ClinicalTrialSponsorName="Sponsor",
        ClinicalTrialProtocolID="P 1",
        ClinicalTrialSubjectID="0007",
        TimezoneOffsetFromUTC="-0500",
        LongitudinalTemporalInformationModified="MODIFIED",
    )
    _, made = made_of(paths, tmp_path / "out")
    assert {result.Modality for result in made} == {"SEG", "SR"}
    for result in made:
        assert result.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "HIS"
        assert result.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.2.3"
        assert [each.PatientID for each in result.OtherPatientIDsSequence] == ["OLD 1"]
        assert result.PatientIdentityRemoved == "YES"
        assert list(result.DeidentificationMethod) == ["first", "second"]
        assert result.DeidentificationMethodCodeSequence[0].CodeValue == "x1"
        assert result.ClinicalTrialSubjectID == "0007"
        assert result.ClinicalTrialSiteName == ""  # Type 2
        assert result.TimezoneOffsetFromUTC == "-0500"
        assert result.LongitudinalTemporalInformationModified == "MODIFIED"


KOREAN = "홍^길동".encode("euc_kr")
CHARACTERS = {
    "undeclared": (None, KOREAN, "", "", True),
    "declared by the site": (None, KOREAN, "ISO 2022 IR 149", "홍^길동", False),
    "without code extensions": ("ISO_IR 149", KOREAN, "", "홍^길동", False),
    "spelled wrongly": ("ISO-IR 192", "홍^길동".encode(), "", "홍^길동", False),
    "unknown term": ("ISO_IR 999", KOREAN, "", "", True),
    "wrongly declared": ("ISO_IR 192", KOREAN, "", "", True),
    "wrongly, and the site knows": ("ISO_IR 100", KOREAN, "ISO_IR 149", "홍^길동", False),
    "Chinese by the site": (None, "李^明".encode("gb18030"), "GB18030", "李^明", False),
    "Latin-1 as declared": (
        "ISO_IR 100",
        "Müller^Jörg".encode("latin-1"),
        "",
        "Müller^Jörg",
        False,
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what is declared wrongly
@pytest.mark.parametrize(
    ("declared", "name", "site", "meant", "odd"), CHARACTERS.values(), ids=CHARACTERS.keys()
)
def test_a_name_is_read_as_it_was_meant_or_left_empty(
    declared: str | None, name: bytes, site: str, meant: str, odd: bool, tmp_path: Path
) -> None:
    paths = make_study(tmp_path / "in", slices=2)
    placeholder = b"A" * len(name)
    edited(paths, PatientName=placeholder.decode(), SpecificCharacterSet=declared or "ISO_IR 6")
    for path in paths:
        content = path.read_bytes().replace(placeholder, name)
        if declared is None:
            content = content.replace(b"ISO_IR 6", b" " * 8)
        path.write_bytes(content)
    sources = (Source(character_set=site),) if site else ()
    cautions, made = made_of(paths, tmp_path / "out", *sources)
    assert {str(item.PatientName) for item in made} == {meant}
    assert ["is in a character set that" in text for text in cautions] == [True] * odd


def test_an_id_in_unknown_characters_is_refused(tmp_path: Path) -> None:
    paths = edited(make_study(tmp_path / "in", slices=2), PatientID="XXXX", SpecificCharacterSet="")
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"XXXX", "홍길".encode("euc_kr")))
    study, _ = run(paths, tmp_path / "out")
    assert study["reasons"][0].startswith("the Patient ID holds characters")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs]]:
    archive = Pacs("archive")
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, archive.destination) as node:
        yield node, archive
    archive.stop()


def kept(archive: Pacs, study_uid: str, modality: str) -> list[Dataset]:
    found = [dcmread(BytesIO(content)) for content in list(archive.kept.values())]
    return [
        item for item in found if (item.StudyInstanceUID, item.Modality) == (study_uid, modality)
    ]


def wait_for_state(node: RunningNode, study_uid: str, generation: int, state: str) -> jobs.Job:
    def look() -> bool:
        job = jobs.show_job(node.settings, study_uid)[0]
        settled = job.state == state and all(item.acknowledged for item in job.deliveries)
        return job.generation == generation and settled

    wait_for(look, f"{state} {generation}")
    return jobs.show_job(node.settings, study_uid)[0]


def send(node: RunningNode, paths: tuple[Path, ...]) -> list[int]:
    """One C-STORE after the other; the statuses."""
    entity = AE("SCANNER")
    entity.add_requested_context(dcmread(paths[0]).SOPClassUID)
    association = entity.associate("127.0.0.1", node.node.port, ae_title="DICOM_NODE")
    statuses = [int(association.send_c_store(path).Status) for path in paths]
    association.release()
    return statuses


@pytest.mark.parametrize("new_uids", [False, True], ids=["same UIDs", "new UIDs"])
def test_a_corrected_patient_is_accepted_by_one_command(
    world: tuple[RunningNode, Pacs],
    new_uids: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Results of the first; late images of the corrected one; then the study again; then the command."""
    node, archive = world
    paths = edited(make_study(tmp_path / "in", seed=300 + new_uids, slices=6), PatientID="OLD")
    study_uid = study_uid_of(paths[0])
    node.send(*paths[:4])
    wait_for_state(node, study_uid, 0, "delivered")

    edited(paths[4:], PatientID="NEW")
    node.send(*paths[4:])
    job = wait_for_state(node, study_uid, 1, "refused")
    assert job.code == "other-patient"
    print_job(job)
    assert "jobs accept" in capsys.readouterr().out
    wait_for(lambda: len(kept(archive, study_uid, "SR")) == 2, "the answer")
    assert len(kept(archive, study_uid, "SEG")) == 1
    answer = kept(archive, study_uid, "SR")[-1]
    assert (answer.PatientID, answer.PatientName) == ("", "")

    edited(paths[:4], PatientID="NEW")
    if new_uids:
        for path in paths[:4]:
            dataset = dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.save_as(path)
    assert send(node, paths[:4]) == [0x0000 if new_uids else 0xC001] * 4
    refused = wait_for_state(node, study_uid, 2 if new_uids else 1, "refused")
    assert ("came again under another patient" in refused.set_aside) != new_uids

    told = jobs.accept_patient(node.settings, study_uid)
    generation = refused.generation + 1
    assert "4 instances of the former patient were set aside" in told
    assert f"analyzed again with 6, as generation {generation}" in told
    assert "name the former patient at archive" in told
    wait_for_state(node, study_uid, generation, "delivered")
    segmentations = kept(archive, study_uid, "SEG")
    assert [item.PatientID for item in segmentations] == ["OLD", "NEW"]
    report = kept(archive, study_uid, "SR")[-1]
    assert report.PatientID == "NEW"
    former = {item.SOPInstanceUID for item in kept(archive, study_uid, "SR")[:1]}
    assert former.isdisjoint(json.dumps(report.to_json_dict()).split('"'))
    with pytest.raises(NodeError, match="nothing to accept"):
        jobs.accept_patient(node.settings, study_uid)


FIELD = Path(os.environ.get("DICOM_NODE_TEST_DATA", ""), "field")
MIXED = "the study is of more than one patient"
CARRIED: dict[str, dict[str, str]] = {
    "01a_korean_iso2022_149": {"PatientName": "Hong^Gildong=洪^吉洞=홍^길동"},
    "01c_korean_undeclared": {"PatientName": ""},
    "02b_persian_zwnj_utf8": {"PatientName": "رضایی^علی\u200cرضا"},  # noqa: RUF001
    "03b_cjk_ext_h_utf8": {"PatientName": "Li^Ming=李^\U000313500明"},
    "61_deidentified_trial": {"ClinicalTrialTimePointID": "T2", "PatientIdentityRemoved": "YES"},
    "62_timezone": {"TimezoneOffsetFromUTC": "-0500"},
    "63_long_accession_request": {"AccessionNumber": "", "IssuerOfPatientID": "HOSP"},
}
REFUSED = {
    "35b_late_with_corrected_patient": f"{MIXED}: 8 instances and 4 instances differ in Patient ID",
    "40_pid_backslash": "the Patient ID holds a backslash",
    "42_two_loops_two_patients": f"{MIXED}: 1 instances and 1 instances differ in Patient ID",
}
needs_field = pytest.mark.skipif(not FIELD.is_dir(), reason="DICOM_NODE_TEST_DATA is not set")


@needs_field
@pytest.mark.parametrize("name", CARRIED)
def test_what_came_from_the_field_is_carried(name: str, tmp_path: Path) -> None:
    _, made = made_of(tuple(sorted(FIELD.joinpath(name).glob("*.dcm"))), tmp_path / "out")
    for item in made:
        assert {key: str(item[key].value) for key in CARRIED[name]} == CARRIED[name]


@needs_field
@pytest.mark.parametrize("name", REFUSED)
def test_what_came_from_the_field_is_refused(name: str, tmp_path: Path) -> None:
    study, made = run(tuple(sorted(FIELD.joinpath(name).glob("*.dcm"))), tmp_path / "out")
    assert study["reasons"][0].startswith(REFUSED[name])
    assert made["answer"].PatientID == ""
