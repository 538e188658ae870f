"""report: no object leaves that does not say rightly what was found."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node import jobs
from dicom_node.errors import NodeError, NotConformant
from dicom_node.report import Written, write_objects
from dicom_node.report.check import Known, Outgoing, judge
from dicom_node.report.origin import Origin, open_origin
from dicom_node.settings import Destination
from models.findings import Code, Findings, Measurement
from tests.conftest import RunningNode, make_study, study_uid_of, wait_for
from tests.report_phantom import Request, make_case
from tests.report_reading import by_kind, content

PLAIN = (Destination("pacs", objects=("SEG", "SR")),)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Origin, dict[str, Written]]:
    folder = tmp_path_factory.mktemp("gate")
    study, (outcome,) = make_case(folder / "source", Request())
    written = write_objects(study, [outcome], folder, PLAIN)
    return open_origin(study, outcome), by_kind(written)


def _instances(origin: Origin, written: dict[str, Written]) -> Known:
    sources = {
        str(item.SOPInstanceUID): (str(item.SOPClassUID), int(item.NumberOfFrames))
        for item in origin.raw[0]
    }
    mask = written["segmentation"]
    return sources | {mask.sop_instance_uid: (mask.sop_class_uid, 36)}


def _first_code(dataset: Dataset) -> Dataset:
    return dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]


def _source_item(dataset: Dataset) -> Dataset:
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    return frame.DerivationImageSequence[0].SourceImageSequence[0]


def _no_spacing(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def _another_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = "1.2.3"


def _without_name_of_the_file(dataset: Dataset) -> None:
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"


MASK_SPOILERS: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "type 1 missing": (lambda d: d.pop("SegmentSequence"), "SegmentSequence is missing"),
    "type 1 empty": (lambda d: setattr(d, "ContentLabel", ""), "ContentLabel is empty"),
    "type 2 missing": (lambda d: d.pop("AccessionNumber"), "AccessionNumber is missing"),
    "deep": (lambda d: d.SegmentSequence[2].pop("SegmentLabel"), "SegmentLabel is missing"),
    "macro": (_no_spacing, "frame 1 has no PixelMeasuresSequence"),
    "code": (
        lambda d: setattr(_first_code(d), "CodeValue", "39937002"),
        "code 39937002 is not in scheme SCT",
    ),
    "meaning": (
        lambda d: setattr(_first_code(d), "CodeMeaning", "Bone"),
        "code 39937001 of scheme SCT is called 'Bone', not 'Skin'",
    ),
    "scheme": (
        lambda d: setattr(_first_code(d), "CodingSchemeDesignator", "99SELF"),
        "code 39937001 is of scheme 99SELF, which is not declared",
    ),
    "reference": (
        lambda d: setattr(_source_item(d), "ReferencedSOPInstanceUID", "1.2.3"),
        "it refers to 1.2.3, which is no instance of the study",
    ),
    "frame": (
        lambda d: setattr(_source_item(d), "ReferencedFrameNumber", 99),
        "it refers to a frame that .* has not",
    ),
    "study": (_another_study, "it is of another study"),
    "patient": (lambda d: setattr(d, "PatientID", "SOMEBODY"), "it is of another patient"),
    "file": (_without_name_of_the_file, "its file names another instance"),
    "pixels": (
        lambda d: setattr(d, "PixelData", bytes(len(d.PixelData))),
        r"\d+ voxels differ from the findings",
    ),
}


@pytest.mark.parametrize(("spoil", "words"), MASK_SPOILERS.values(), ids=MASK_SPOILERS.keys())
def test_a_spoiled_segmentation_is_found_out(
    case: tuple[Origin, dict[str, Written]],
    spoil: Callable[[Dataset], object],
    words: str,
    tmp_path: Path,
) -> None:
    origin, written = case
    dataset = dcmread(written["segmentation"].path)
    spoil(dataset)
    path = tmp_path / "spoiled.dcm"
    dataset.save_as(path)
    verdict = judge(Outgoing(path, "segmentation", 0, origin, _instances(origin, written)))
    assert re.search(words, verdict)
    assert "SOMEBODY" not in verdict


def _drop_number(dataset: Dataset) -> None:
    next(i for i in content(dataset) if i.get("ValueType") == "NUM").pop("MeasuredValueSequence")


def test_a_spoiled_report_is_found_out(
    case: tuple[Origin, dict[str, Written]], tmp_path: Path
) -> None:
    origin, written = case
    known = _instances(origin, written)
    good = Outgoing(written["measurements"].path, "measurements", 0, origin, known)
    assert judge(good) == ""
    dataset = dcmread(good.path)
    _drop_number(dataset)
    dataset.save_as(tmp_path / "spoiled.dcm")
    spoiled = replace(good, path=tmp_path / "spoiled.dcm")
    assert "type NUM has no MeasuredValueSequence" in judge(spoiled)
    dataset = dcmread(good.path)
    dataset.ContinuityOfContent = "CONTINUOUS"
    dataset.save_as(spoiled.path)
    assert "a container is CONTINUOUS" in judge(spoiled)
    without_mask = {uid: what for uid, what in known.items() if what[1] != 36}
    assert "no instance of the study" in judge(replace(good, known=without_mask))


def with_nonsense(findings: Findings) -> Findings:
    number = Measurement(Code("000000", "DCM", "Nonsense"), 1.0, Code("mm", "UCUM", "mm"), 1)
    return replace(findings, measurements=(*findings.measurements, number))


def test_a_word_that_no_dictionary_has_holds_the_study_back(tmp_path: Path) -> None:
    study, (outcome,) = make_case(tmp_path / "source")
    assert outcome.findings is not None
    wrong = replace(outcome, findings=with_nonsense(outcome.findings))
    with pytest.raises(NotConformant, match=r"measurements-0-layer.*dcm: code 000000") as error:
        write_objects(study, [wrong], tmp_path, PLAIN)
    assert study.study_uid in str(error.value)
    verdicts = {item.kind: item.verdict for item in error.value.written}
    assert verdicts == {"segmentation": "", "measurements": "code 000000 is not in scheme DCM"}


def test_a_study_held_back_is_a_dead_letter_with_its_reason(
    node_factory: Callable[..., RunningNode], pacs_factory: Callable[..., object], tmp_path: Path
) -> None:
    pacs = pacs_factory()
    silent = replace(pacs.destination, refusals=False)
    node = node_factory(silent)
    paths = make_study(tmp_path / "sent", slices=11)  # of which the analysis says nonsense
    study_uid = study_uid_of(paths[0])
    node.send(*paths)

    def state() -> str:
        try:
            return jobs.show_job(node.settings, study_uid)[0].state
        except NodeError:
            return ""

    wait_for(lambda: state().startswith("failed"), "the verdict")
    (job,) = jobs.show_job(node.settings, study_uid)
    assert job.state == "failed to report"
    assert "code 000000 is not in scheme DCM" in job.reason
    assert job.checked.startswith("1 of 2 objects conform; measurements: code 000000")
    assert pacs.arrivals == []
    assert node.rows("select kind, verdict from results order by kind") == [
        ("measurements", "code 000000 is not in scheme DCM"),
        ("segmentation", "conforms"),
    ]
