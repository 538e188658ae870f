"""Every study is answered: what cannot be analyzed comes back to the archive as a report that says why."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import get_args

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from dicom_node import jobs
from dicom_node.assemble.identity import own_results, shared_header
from dicom_node.reasons import REASONS
from dicom_node.report import Moments, write_answer
from dicom_node.study import Ground, StoredInstance, Unanalyzed
from models.analysis import RefusalKind
from tests.conftest import Pacs, RunningNode, make_study, peer, start_node, study_uid_of, wait_for


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs, Pacs]]:
    """A node with one archive that wants every answer, and one that wants results alone."""
    archive, silent = Pacs("archive"), Pacs("silent")
    folder = tmp_path_factory.mktemp("node")
    results_only = replace(silent.destination, refusals=False)
    with start_node(folder, archive.destination, results_only) as node:
        yield node, archive, silent
    archive.stop()
    silent.stop()


@pytest.fixture
def node(world: tuple[RunningNode, Pacs, Pacs]) -> RunningNode:
    return world[0]


@pytest.fixture
def archive(world: tuple[RunningNode, Pacs, Pacs]) -> Pacs:
    return world[1]


@pytest.fixture
def silent(world: tuple[RunningNode, Pacs, Pacs]) -> Pacs:
    return world[2]


def answers(archive: Pacs, study_uid: str) -> list[Dataset]:
    """The reports of a study that the archive has, in the order of their arrival."""
    kept = [dcmread(BytesIO(content)) for content in list(archive.kept.values())]
    return [item for item in kept if (item.StudyInstanceUID, item.Modality) == (study_uid, "SR")]


def said(report: Dataset, name: str) -> list[str]:
    """The codes and texts of the content items of a name."""
    items = [
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == name
    ]
    return [
        item.ConceptCodeSequence[0].CodeValue if item.ValueType == "CODE" else item.TextValue
        for item in items
    ]


def edit(paths: tuple[Path, ...], change: Callable[[Dataset], None]) -> tuple[Path, ...]:
    for path in paths:
        dataset = dcmread(path)
        change(dataset)
        dataset.save_as(path)
    return paths


def _is_ct(dataset: Dataset) -> None:
    dataset.Modality = "CT"


def _in_one_place(dataset: Dataset) -> None:
    dataset.ImagePositionPatient = [0, 0, 0]


def _of_nobody(dataset: Dataset) -> None:
    for keyword in ("PatientID", "PatientName", "StudyDate", "StudyTime", "StudyID", "PatientSex"):
        delattr(dataset, keyword)
    dataset.Modality = "CT"


def _claims_more(dataset: Dataset) -> None:
    dataset.NumberOfFrames = 60_000
    dataset.Rows = dataset.Columns = 60_000


def _is_cut_off(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:100]


CASES: dict[str, tuple[int, Callable[[Dataset], None], str]] = {
    "not-ultrasound": (3, _is_ct, "no ultrasound: Ultrasound Image Storage"),
    "no-geometry": (3, _in_one_place, "all frames lie at one place: a film over time, not a sweep"),
    "undecodable": (3, _is_cut_off, "pixel data are cut off: the file is shorter than its image"),
    "too-large": (3, _claims_more, "60000 rows x 60000 columns x 60000 frames is too large"),
    "incomplete": (1, lambda _dataset: None, "one frame; a volume needs at least two"),
    "unsuitable": (7, lambda _dataset: None, "seven slices are one too many"),
    "internal-error": (9, lambda _dataset: None, "The study was received, but the program could"),
}


def test_each_reason_goes_to_the_archive_as_a_code_and_a_sentence(
    node: RunningNode, archive: Pacs, silent: Pacs, tmp_path: Path
) -> None:
    sent = {}
    for seed, (code, (slices, change, _)) in enumerate(CASES.items(), start=100):
        paths = edit(make_study(tmp_path / code, seed=seed, slices=slices), change)
        left = node.data / "results" / study_uid_of(paths[0]) / "0.unfinished"
        left.mkdir(parents=True)  # by a stage whose process was killed, and killed again
        (left / "segmentation.dcm").touch()
        node.send(*paths)
        sent[code] = paths
    for code, (_, _, sentence) in CASES.items():
        header = dcmread(sent[code][0])
        study_uid = header.StudyInstanceUID
        wait_for(lambda uid=study_uid: answers(archive, uid), f"the answer {code}")
        (report,) = answers(archive, study_uid)
        assert said(report, "CAD Processing and Findings Summary") == ["111245"]
        assert said(report, "Reason")[0] == code
        assert said(report, "Reason")[1].startswith(sentence)
        assert said(report, "What to do") == [REASONS[code].advice]
        assert report.ConceptNameCodeSequence[0].CodeMeaning == "Analysis not performed"
        for keyword in ("PatientID", "PatientName", "PatientSex", "StudyDate", "AccessionNumber"):
            assert report[keyword].value == header[keyword].value
        wait_for(lambda uid=study_uid: delivered(node, uid), f"the delivery of {code}")
        (job,) = jobs.show_job(node.settings, study_uid)
        assert job.code == code
        failed = code == "internal-error"
        assert job.state == ("failed to analyze" if failed else "refused")
        assert [each.destination for each in job.deliveries] == ["archive"]
        assert not list((node.data / "results" / study_uid).glob("*"))
    assert not silent.kept
    assert b"ZeroDivision" not in b"".join(archive.kept.values())
    assert b"no sender" not in b"".join(archive.kept.values())


def delivered(node: RunningNode, study_uid: str) -> bool:
    job = jobs.show_job(node.settings, study_uid)[0]
    return bool(job.deliveries) and all(each.status == "delivered" for each in job.deliveries)


def test_a_study_of_nobody_is_answered_too(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    paths = edit(make_study(tmp_path / "sent", seed=120, slices=2), _of_nobody)
    node.send(*paths)
    wait_for(lambda: answers(archive, study_uid_of(paths[0])), "the answer")
    (report,) = answers(archive, study_uid_of(paths[0]))
    assert (report.PatientID, report.PatientName, report.StudyDate) == ("", "", "")
    assert said(report, "Reason")[0] == "not-ultrasound"


def test_of_two_patients_neither_is_named(node: RunningNode, archive: Pacs, tmp_path: Path) -> None:
    paths = make_study(tmp_path / "sent", seed=121, slices=4)
    edit(paths[2:], lambda dataset: setattr(dataset, "PatientID", "SOMEBODY ELSE"))
    edit(paths, lambda dataset: setattr(dataset, "AccessionNumber", "A 1"))
    node.send(*paths)
    wait_for(lambda: answers(archive, study_uid_of(paths[0])), "the answer")
    (report,) = answers(archive, study_uid_of(paths[0]))
    assert said(report, "Reason")[0] == "other-patient"
    assert report.PatientID == ""
    assert report.AccessionNumber == "A 1"


def test_our_own_results_that_come_back_are_not_answered(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """An archive that sends on all that it gets, and a second node's results: never a loop."""
    paths = make_study(tmp_path / "sent", seed=122, slices=1)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    wait_for(lambda: answers(archive, study_uid), "the answer")
    (report,) = answers(archive, study_uid)
    wait_for(lambda: delivered(node, study_uid), "the delivery")
    back, foreign = tmp_path / "back.dcm", tmp_path / "foreign.dcm"
    report.save_as(back)
    other_study = report.StudyInstanceUID = generate_uid()
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    report.save_as(foreign)
    count = len(archive.kept)

    node.send(back, foreign)

    def state(uid: str, generation: int) -> str:
        found = jobs.show_job(node.settings, uid)
        return found[0].state if found[0].generation == generation else ""

    wait_for(lambda: state(study_uid, 1) == jobs.NOTHING, "the end of what came back")
    wait_for(lambda: state(other_study, 0) == jobs.NOTHING, "the end of another node's result")
    listed = {job.study: job for job in jobs.list_jobs(node.settings)}
    assert listed[study_uid].state == "refused"
    waiting = "select count(*) from workflow_status where status in ('ENQUEUED', 'PENDING')"
    assert node.rows(waiting) == [(0,)]
    assert len(archive.kept) == count


def test_more_of_what_is_no_ultrasound_is_not_answered_again(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    paths = edit(make_study(tmp_path / "sent", seed=123, slices=3), _is_ct)
    study_uid = study_uid_of(paths[0])
    node.send(*paths[:2])
    wait_for(lambda: answers(archive, study_uid), "the answer")
    wait_for(lambda: delivered(node, study_uid), "the delivery")
    node.send(paths[2])
    wait_for(
        lambda: [job.generation for job in jobs.show_job(node.settings, study_uid)] == [1, 0],
        "the next generation",
    )
    wait_for(lambda: jobs.show_job(node.settings, study_uid)[0].deliveries, "its end")
    assert delivered(node, study_uid)
    assert len(answers(archive, study_uid)) == 1


@pytest.mark.peer
def test_an_answer_holds_before_validators(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """Also the barest: of a study of which nothing can be read but its UID."""
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(b"\0" * 300)
    stored = [StoredInstance("1.2.4", "1.2.840.10008.5.1.4.1.1.6.1", damaged)]
    grounds = (
        Ground("undecodable", "the header cannot be read\x00\n"),
        Ground("internal-error", "x"),
    )
    unanalyzed = Unanalyzed("1.2.3", grounds, shared_header("1.2.3", stored))
    (written,) = write_answer(unanalyzed, tmp_path, moments=Moments(1.8e9))
    (same,) = write_answer(unanalyzed, tmp_path, moments=Moments(1.8e9))
    assert written.sha256 == same.sha256
    own = StoredInstance(written.sop_instance_uid, written.sop_class_uid, written.path)
    assert own_results([own, *stored]) == {written.sop_instance_uid}
    found = subprocess.run(
        [peer("dciodvfy"), written.path], capture_output=True, text=True, check=False
    )
    errors = [line for line in found.stderr.splitlines() if line.startswith("Error")]
    assert errors == []
    shown = subprocess.run(
        [peer("dsrdump"), written.path], capture_output=True, text=True, check=True
    ).stdout
    assert "Images damaged, or of a kind that is not decoded" in shown


def test_every_kind_of_refusal_has_a_code() -> None:
    assert set(get_args(RefusalKind)) <= set(REASONS)
    assert all(len(reason.meaning) <= 64 for reason in REASONS.values())
