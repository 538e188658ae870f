"""Late data and second attempts: reports name their predecessors, and no two generations compete."""

import contextlib
import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import Dataset, dcmread

from dicom_node import index, jobs
from tests.conftest import Pacs, RunningNode, make_study, start_node, study_uid_of, wait_for


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs]]:
    archive = Pacs("archive")
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, archive.destination) as node:
        yield node, archive
    archive.stop()


@pytest.fixture
def node(world: tuple[RunningNode, Pacs]) -> RunningNode:
    world[0].forget()
    return world[0]


@pytest.fixture
def archive(world: tuple[RunningNode, Pacs]) -> Pacs:
    world[1].forget()
    return world[1]


def reports(archive: Pacs, study_uid: str) -> list[Dataset]:
    """The reports of a study that the archive has, in the order of their arrival."""
    kept = [dcmread(BytesIO(content)) for content in list(archive.kept.values())]
    return [item for item in kept if (item.StudyInstanceUID, item.Modality) == (study_uid, "SR")]


def predecessors(report: Dataset) -> list[tuple[str, str, str, str]]:
    """Study, series, class and instance of each document that a report replaces."""
    return [
        (
            study.StudyInstanceUID,
            series.SeriesInstanceUID,
            instance.ReferencedSOPClassUID,
            instance.ReferencedSOPInstanceUID,
        )
        for study in report.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]


def identity(report: Dataset) -> tuple[str, str, str, str]:
    return (
        report.StudyInstanceUID,
        report.SeriesInstanceUID,
        report.SOPClassUID,
        report.SOPInstanceUID,
    )


def wait_for_state(node: RunningNode, study_uid: str, generation: int, state: str) -> jobs.Job:
    def look() -> bool:
        job = jobs.show_job(node.settings, study_uid)[0]
        return (job.generation, job.state) == (generation, state)

    wait_for(look, f"{state} {generation} ({study_uid})")
    return jobs.show_job(node.settings, study_uid)[0]


def test_each_report_names_the_one_that_it_replaces(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """A refusal, then results, then other results: a chain in which nothing is named that is still valid."""
    paths = make_study(tmp_path / "sent", seed=200, slices=5)
    study_uid = study_uid_of(paths[0])
    for generation, (part, state) in enumerate(
        ((paths[:1], "refused"), (paths[1:4], "delivered"), (paths[4:], "delivered"))
    ):
        node.send(*part)
        wait_for(lambda count=generation + 1: len(reports(archive, study_uid)) == count, state)
        wait_for_state(node, study_uid, generation, state)
    refusal, first, second = reports(archive, study_uid)
    assert predecessors(refusal) == []
    assert predecessors(first) == [identity(refusal)]
    assert predecessors(second) == [identity(first)]
    assert len({identity(item)[3] for item in (refusal, first, second)}) == 3
    made = [item.ContentDate + item.ContentTime for item in (refusal, first, second)]
    assert made == sorted(set(made))


def test_an_older_generation_is_not_delivered_after_a_later_one(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """The archive is down while both are made; only the later one reaches it, and names no ghost."""
    paths = make_study(tmp_path / "sent", seed=201, slices=5)
    study_uid = study_uid_of(paths[0])
    archive.stop()
    node.send(*paths[:4])
    wait_for(lambda: attempts(node, study_uid), "a first attempt")
    node.send(paths[4])
    wait_for_state(node, study_uid, 1, "reported")
    archive.start()
    wait_for_state(node, study_uid, 1, "delivered")
    wait_for(lambda: not unfinished(node), "the end of all deliveries")
    (report,) = reports(archive, study_uid)
    assert predecessors(report) == []
    later, earlier = jobs.show_job(node.settings, study_uid)
    assert sorted(archive.kept) == result_uids(node, study_uid, 1)
    assert (later.state, earlier.state) == ("delivered", "superseded")


def attempts(node: RunningNode, study_uid: str) -> int:
    deliveries = jobs.show_job(node.settings, study_uid)[0].deliveries
    return max((each.attempts for each in deliveries), default=0)


def unfinished(node: RunningNode) -> int:
    statuses = "('DELAYED', 'ENQUEUED', 'PENDING')"
    return int(node.rows(f"select count(*) from workflow_status where status in {statuses}")[0][0])


def result_uids(node: RunningNode, study_uid: str, generation: int) -> list[str]:
    where = f"study_uid = '{study_uid}' and generation = {generation}"
    return sorted(row[0] for row in node.rows(f"select sop_uid from results where {where}"))


def test_a_retried_delivery_has_all_its_patience_again(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    paths = make_study(tmp_path / "sent", seed=202)
    study_uid = study_uid_of(paths[0])
    archive.stop()
    node.send(*paths)
    wait_for(lambda: attempts(node, study_uid), "a first attempt")
    with database(node) as engine:

        def given_up() -> bool:
            """As if the delayed attempt had been the last of three days."""
            with engine.begin() as connection:
                connection.execute(
                    sa.text(
                        "update workflow_input set inputs = replace(inputs, :waited, :long)"
                        " where inputs like :pattern and workflow_uuid in"
                        " (select workflow_uuid from workflow_status where status = 'DELAYED')"
                    ),
                    {
                        "waited": '"waited":',
                        "long": '"waited":999999',
                        "pattern": '%"waited":_.%',
                    },
                )
            return jobs.show_job(node.settings, study_uid)[0].state == "failed to deliver"

        wait_for(given_up, "the end of the patience")
    job = jobs.show_job(node.settings, study_uid)[0]
    assert "given up after three days" in job.reason
    told = jobs.retry_job(node.settings, study_uid)
    assert told == f"study {study_uid}: runs again: deliver archive"
    before = attempts(node, study_uid)
    wait_for(lambda: attempts(node, study_uid) >= before + 2, "more than one attempt")
    assert jobs.show_job(node.settings, study_uid)[0].state == "reported"
    archive.start()
    wait_for_state(node, study_uid, 0, "delivered")


@contextlib.contextmanager
def database(node: RunningNode) -> Iterator[sa.Engine]:
    engine = index.open_engine(node.settings.node.database_url)
    yield engine
    engine.dispose()


def test_a_refused_study_is_analyzed_anew_as_another_generation(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """Nothing has changed, so the same answer is not sent twice."""
    paths = make_study(tmp_path / "sent", seed=203, slices=7)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    wait_for(lambda: reports(archive, study_uid), "the answer")
    wait_for(lambda: not unfinished(node), "the end")
    told = jobs.retry_job(node.settings, study_uid)
    assert told == f"study {study_uid}: analyzed again, as generation 1"
    wait_for_state(node, study_uid, 1, "refused")
    wait_for(lambda: not unfinished(node), "the end")
    assert len(reports(archive, study_uid)) == 1
    assert jobs.show_job(node.settings, study_uid)[0].deliveries[0].status == "delivered"


def test_a_stage_that_kills_its_process_is_set_aside_and_answered(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    hold = node.gate / "hold"
    hold.touch()
    paths = make_study(tmp_path / "sent", seed=204)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    wait_for(node.runs, "the analysis")
    with database(node) as engine, engine.begin() as connection:
        # As if it had died here five times before.
        connection.execute(
            sa.text(
                "update workflow_status set recovery_attempts = 10 where workflow_uuid like :name"
            ),
            {"name": f"{study_uid}:0:analyze:%"},
        )
    os.kill(node.node.pid("infer"), 9)
    wait_for(lambda: reports(archive, study_uid), "the answer")
    (answer,) = reports(archive, study_uid)
    assert "internal-error" in answer.to_json()
    job = jobs.show_job(node.settings, study_uid)[0]
    assert (job.state, job.code) == ("failed to analyze", "internal-error")
    hold.unlink()
    told = jobs.retry_job(node.settings, study_uid)
    assert told == f"study {study_uid}: analyzed again, as generation 1"
    wait_for_state(node, study_uid, 1, "delivered")
    assert predecessors(reports(archive, study_uid)[-1]) == [identity(answer)]
