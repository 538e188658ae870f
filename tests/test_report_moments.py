"""report: every object says when it was made, once for each generation, in the zone of its source."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.report import Moments, Written, write_answer, write_objects
from dicom_node.report.moments import moment_in_zone, stamp
from dicom_node.settings import Destination
from dicom_node.study import Ground, Unanalyzed
from tests.report_phantom import Request, make_case

ALL = (Destination("all", objects=("SEG", "SR", "PM", "SC", "PDF"), companion=True),)
FIRST, SECOND = 1_800_000_000.25, 1_800_000_060.5
SAID = ("InstanceCreation", "Series", "Content")


def moments_said(path: Path) -> set[str]:
    dataset = dcmread(path)
    words = [f"{dataset[f'{w}Date'].value}{dataset[f'{w}Time'].value}" for w in SAID]
    purposes = {"109102"}
    return set(words) | {
        item.ContributionDateTime
        for item in dataset.get("ContributingEquipmentSequence", [])
        if item.PurposeOfReferenceCodeSequence[0].CodeValue in purposes
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, ...]:
    folder = tmp_path_factory.mktemp("moments")
    study, outcomes = make_case(folder / "source")
    return write_objects(study, outcomes, folder, ALL, Moments(FIRST))


def test_every_object_says_when_it_was_made_and_the_study_keeps_its_date(
    written: tuple[Written, ...],
) -> None:
    assert {item.kind for item in written} >= {"segmentation", "map", "page", "document"}
    here = "".join(moment_in_zone(FIRST))
    for item in written:
        assert moments_said(item.path) == {here}, item.kind
        assert dcmread(item.path).StudyDate == "20240102"


def test_without_a_moment_it_is_now(tmp_path: Path) -> None:
    study, outcomes = make_case(tmp_path / "source")
    before = time.time()
    (mask, *_) = write_objects(study, outcomes, tmp_path, (Destination("a", objects=("SEG",)),))
    (said,) = moments_said(mask.path)
    made = datetime.strptime(said, "%Y%m%d%H%M%S.%f").astimezone()
    assert before - 1e-3 <= made.timestamp() <= time.time()


def test_a_replay_is_the_same_bytes_and_a_later_version_is_later(
    tmp_path: Path, written: tuple[Written, ...]
) -> None:
    """What a later generation does not change is the same object still, with its moment."""
    study, (outcome,) = make_case(tmp_path / "source", Request())
    kinds = (Destination("few", objects=("SEG", "SR")),)
    first = write_objects(study, (outcome,), tmp_path, kinds, Moments(FIRST))
    again = write_objects(study, (outcome,), tmp_path, kinds, Moments(FIRST))
    assert [item.sha256 for item in first] == [item.sha256 for item in again]
    known = {item.sop_instance_uid: FIRST for item in first}
    later = write_objects(study, (outcome,), tmp_path, kinds, Moments(SECOND, known))
    assert [item.sha256 for item in first] == [item.sha256 for item in later]
    run = replace(outcome.findings.run, weights_sha256="b" * 64)
    other = replace(outcome, findings=replace(outcome.findings, run=run))
    changed = write_objects(study, (other,), tmp_path, kinds, Moments(SECOND, known))
    assert all(max(moments_said(item.path)) > "".join(moment_in_zone(FIRST)) for item in changed)


def test_an_answer_says_when_it_was_made(tmp_path: Path) -> None:
    header = Dataset()
    header.StudyInstanceUID, header.StudyDate = "1.2.3", "20240102"
    unanalyzed = Unanalyzed("1.2.3", (Ground("undecodable", "x"),), header)
    (answer,) = write_answer(unanalyzed, tmp_path, moments=Moments(FIRST))
    assert moments_said(answer.path) == {"".join(moment_in_zone(FIRST))}
    assert dcmread(answer.path).StudyDate == "20240102"


@pytest.mark.parametrize(
    ("offset", "date", "clock"),
    [
        ("+0000", "20270115", "080000.250000"),
        ("+0330", "20270115", "113000.250000"),
        ("-1130", "20270114", "203000.250000"),
        ("+1400", "20270115", "220000.250000"),
    ],
)
def test_times_are_right_in_the_zone_of_the_source(offset: str, date: str, clock: str) -> None:
    assert moment_in_zone(FIRST, offset) == (date, clock)
    header, made = Dataset(), Dataset()
    header.TimezoneOffsetFromUTC = offset
    made.SOPInstanceUID, made.ContentDate = "1.2.3", ""
    stamp(made, header, Moments(FIRST))
    assert made.TimezoneOffsetFromUTC == offset
    assert (made.ContentDate, made.ContentTime) == (date, clock)


@pytest.mark.parametrize("offset", ["", "UTC", "+03:30", "+9900", "0330"])
def test_without_a_zone_the_time_is_that_of_the_machine(offset: str) -> None:
    local = datetime.fromtimestamp(FIRST, UTC).astimezone()
    assert moment_in_zone(FIRST, offset)[1] == local.strftime("%H%M%S.%f")
    header, made = Dataset(), Dataset()
    header.TimezoneOffsetFromUTC, made.SOPInstanceUID = offset, "1.2.3"
    stamp(made, header, Moments(FIRST))
    assert "TimezoneOffsetFromUTC" not in made
