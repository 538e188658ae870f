"""The durable sentence: a real node, killed processes, dead archives. Nothing is lost, nothing done twice."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from dicom_node import index, jobs
from dicom_node.errors import NodeError
from tests.conftest import (
    Pacs,
    Postgres,
    RunningNode,
    make_study,
    start_node,
    study_uid_of,
    wait_for,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs, Pacs]]:
    """One node with two archives for all tests: it must survive each of them."""
    first, second = Pacs("first"), Pacs("second")
    folder = tmp_path_factory.mktemp("node")
    emergency = '[[sources]]\nmatch = { ae_title = "EMERGENCY" }\nstat = true'
    with start_node(folder, first.destination, second.destination, more=emergency) as node:
        yield node, first, second
    first.stop()
    second.stop()


@pytest.fixture
def node(world: tuple[RunningNode, Pacs, Pacs]) -> RunningNode:
    world[0].forget()
    return world[0]


@pytest.fixture
def first(world: tuple[RunningNode, Pacs, Pacs]) -> Pacs:
    world[1].forget()
    return world[1]


@pytest.fixture
def second(world: tuple[RunningNode, Pacs, Pacs]) -> Pacs:
    world[2].forget()
    return world[2]


def state(node: RunningNode, study_uid: str) -> str:
    return jobs.show_job(node.settings, study_uid)[0].state


def wait_for_state(node: RunningNode, study_uid: str, wanted: str) -> jobs.Job:
    wait_for(lambda: state(node, study_uid) == wanted, f"{wanted} ({study_uid})")
    return jobs.show_job(node.settings, study_uid)[0]


def result_uids(node: RunningNode, study_uid: str) -> list[str]:
    rows = node.rows(f"select distinct sop_uid from results where study_uid = '{study_uid}'")
    return sorted(row[0] for row in rows)


def associate(node: RunningNode, path: Path) -> Association:
    """A scanner's association for such files."""
    meta = dcmread(path).file_meta
    context = build_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    association = AE("SCANNER").associate("127.0.0.1", node.node.port, [context], "DICOM_NODE")
    assert association.is_established
    return association


def test_a_study_travels(node: RunningNode, first: Pacs, second: Pacs, tmp_path: Path) -> None:
    paths = make_study(tmp_path / "sent", seed=1)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    job = wait_for_state(node, study_uid, "delivered")
    assert (job.generation, job.instances, job.reason) == (0, 4, "")
    assert set(job.seconds) == {"assemble", "analyze", "report", "deliver"}
    deliveries = [(each.destination, each.status, each.acknowledged) for each in job.deliveries]
    assert deliveries == [("first", "delivered", 2), ("second", "delivered", 2)]
    rows = node.rows(f"select kind, path from results where study_uid = '{study_uid}'")
    assert sorted(kind for kind, _ in rows) == ["measurements", "segmentation"]
    for _, path in rows:
        assert dcmread(node.data / path).StudyInstanceUID == study_uid
    assert sorted(first.arrivals) == sorted(second.arrivals) == result_uids(node, study_uid)
    assert node.runs() == ["4"]
    assert job in jobs.list_jobs(node.settings)
    with pytest.raises(NodeError, match="is delivered; nothing of it has failed"):
        jobs.retry_job(node.settings, study_uid)


def test_late_instances_make_a_new_version(node: RunningNode, first: Pacs, tmp_path: Path) -> None:
    paths = make_study(tmp_path / "sent", seed=2, slices=5)
    study_uid = study_uid_of(paths[0])
    node.send(*paths[:4])
    wait_for_state(node, study_uid, "delivered")
    node.send(paths[4])
    wait_for(lambda: len(first.kept) == 4, "the results of both generations")
    wait_for_state(node, study_uid, "delivered")
    later, earlier = jobs.show_job(node.settings, study_uid)
    assert (earlier.generation, earlier.instances) == (0, 4)
    assert (later.generation, later.instances) == (1, 5)
    assert node.runs() == ["4", "5"]
    assert sorted(first.arrivals) == result_uids(node, study_uid)


def test_what_a_late_instance_does_not_change_is_not_sent_again(
    node: RunningNode, first: Pacs, tmp_path: Path
) -> None:
    paths = make_study(tmp_path / "sent", seed=10)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    wait_for_state(node, study_uid, "delivered")
    late = dcmread(paths[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    late.SeriesInstanceUID = generate_uid()
    late.save_as(tmp_path / "late.dcm")
    node.send(tmp_path / "late.dcm")
    wait_for(lambda: len(jobs.show_job(node.settings, study_uid)) == 2, "the new version")
    later = wait_for_state(node, study_uid, "delivered")
    assert sorted(first.arrivals) == result_uids(node, study_uid)
    assert [each.acknowledged for each in later.deliveries] == [2, 2]
    earlier = jobs.show_job(node.settings, study_uid)[1]
    assert (earlier.state, earlier.deliveries) == ("delivered", later.deliveries)


def test_a_killed_worker_goes_on_where_it_was(
    node: RunningNode, first: Pacs, tmp_path: Path
) -> None:
    kill_and_recover(node, first, make_study(tmp_path / "sent", seed=3))


def kill_and_recover(node: RunningNode, archive: Pacs, paths: tuple[Path, ...]) -> None:
    """kill -9 of infer in an inference, then of work in a delivery: each goes on where it was."""
    study_uid = study_uid_of(paths[0])
    hold = node.gate / "hold"
    hold.touch()
    node.send(*paths)
    wait_for(node.runs, "an inference")
    os.kill(node.node.pid("infer"), 9)
    wait_for(lambda: len(node.runs()) == 2, "the inference after the restart")
    work, killed = node.node.pid("work"), []

    def answer(sop_uid: str) -> int:
        if len(archive.arrivals) == 1 and not killed:  # in the middle of the second instance
            killed.append(sop_uid)
            os.kill(work, 9)
        return 0x0000

    archive.answer = answer
    hold.unlink()
    job = wait_for_state(node, study_uid, "delivered")
    assert killed
    assert len(node.runs()) == 2  # once cut off, once completed; never after its checkpoint
    done, *others = archive.arrivals
    assert done not in others, "acknowledged, recorded, and yet sent again"
    assert sorted({done, *others}) == result_uids(node, study_uid)
    assert {each.acknowledged for each in job.deliveries} == {2}


@pytest.mark.peer
def test_a_database_that_is_away_for_a_while_stops_no_study(
    postgres: Postgres, pacs: Pacs, tmp_path: Path
) -> None:
    def answer(sop_uid: str) -> int:
        if not pacs.arrivals:  # the first object has arrived, and cannot be recorded
            postgres.stop()
        return 0x0000

    pacs.answer = answer
    with start_node(tmp_path, pacs.destination, database=postgres.url) as node:
        paths = make_study(tmp_path / "sent", seed=42)
        node.send(*paths)
        wait_for(lambda: pacs.arrivals, "a delivery")
        postgres.start()
        job = wait_for_state(node, study_uid_of(paths[0]), "delivered")
        assert [each.acknowledged for each in job.deliveries] == [2]
        assert len(pacs.kept) == 2


@pytest.mark.peer
def test_the_same_on_postgres(postgres: Postgres, pacs: Pacs, tmp_path: Path) -> None:
    with start_node(tmp_path, pacs.destination, database=postgres.url) as node:
        kill_and_recover(node, pacs, make_study(tmp_path / "sent", seed=40))
        late = make_study(tmp_path / "late", seed=41, slices=5)
        node.send(*late[:4])
        wait_for_state(node, study_uid_of(late[0]), "delivered")
        node.send(late[4])
        wait_for(lambda: len(pacs.kept) == 6, "the results of all generations")
        assert len(jobs.show_job(node.settings, study_uid_of(late[0]))) == 2


def test_a_dead_archive_is_tried_again_and_blocks_no_other(
    node: RunningNode, first: Pacs, second: Pacs, tmp_path: Path
) -> None:
    studies = [make_study(tmp_path / f"sent-{seed}", seed) for seed in range(4, 7)]
    study_uid = study_uid_of(studies[0][0])
    second.stop()
    for paths in studies:
        node.send(*paths)
    wait_for(lambda: len(first.kept) == 6, "all results in the living archive")

    def tried_twice() -> jobs.Delivery | None:
        job = jobs.show_job(node.settings, study_uid)[0]
        return next((each for each in job.deliveries if each.attempts >= 2), None)

    waiting = wait_for(tried_twice, "a second attempt")
    assert (waiting.destination, waiting.status) == ("second", "waiting")
    assert "no association" in waiting.reason
    assert state(node, study_uid) == "reported"

    full: list[str] = []

    def answer(sop_uid: str) -> int:
        full.append(sop_uid)
        return 0xA700 if len(full) == 1 else 0x0000

    second.answer = answer
    second.start()
    for paths in studies:
        wait_for_state(node, study_uid_of(paths[0]), "delivered")
    assert set(second.kept) == set(first.kept)
    assert len(node.runs()) == 3


def test_a_refusal_is_an_answer_and_a_declined_object_a_dead_letter(
    node: RunningNode, first: Pacs, tmp_path: Path
) -> None:
    single = make_study(tmp_path / "single", seed=7)[:1]
    seven = make_study(tmp_path / "seven", seed=8, slices=7)
    good = make_study(tmp_path / "good", seed=9)
    for paths in (single, seven):
        node.send(*paths)
    cannot = wait_for_state(node, study_uid_of(single[0]), "refused")
    assert "one frame" in cannot.reason
    will_not = wait_for_state(node, study_uid_of(seven[0]), "refused")
    assert will_not.reason == "seven slices are one too many"
    refused = study_uid_of(single[0]), study_uid_of(seven[0])
    answers = (
        "select count(*) from deliveries join results using (sop_uid) where kind = 'refusal' "
        f"and destination = 'first' and status = 'delivered' and study_uid in {refused}"
    )
    wait_for(lambda: node.rows(answers) == [(2,)], "both answers at the archive")

    first.answer = lambda _sop_uid: 0xC123
    node.send(*good)
    study_uid = study_uid_of(good[0])
    declined = wait_for_state(node, study_uid, "failed to deliver")
    assert "answered 0xC123" in declined.reason
    assert declined.deliveries[0].status == "failed"
    first.answer = lambda _sop_uid: 0x0000
    told = jobs.retry_job(node.settings, study_uid)
    assert told == f"study {study_uid}: runs again: deliver first"
    wait_for_state(node, study_uid, "delivered")
    assert node.runs() == ["4"]  # a new delivery is no new inference


def test_stat_first_and_cancel(node: RunningNode, tmp_path: Path) -> None:
    hold = node.gate / "hold"
    hold.touch()
    routine = [make_study(tmp_path / f"{n}", seed=20 + n, slices=n) for n in (3, 4, 5)]
    node.send(*routine[0])
    wait_for(node.runs, "the first inference")
    urgent = make_study(tmp_path / "urgent", seed=26, slices=6)
    for paths in routine[1:]:
        node.send(*paths)
        wait_for_state(node, study_uid_of(paths[0]), "assembled")
    association = associate(node, urgent[0])
    for path in urgent:
        assert association.send_c_store(path, priority=1).Status == 0x0000
    association.release()
    wait_for_state(node, study_uid_of(urgent[0]), "assembled")
    declared = make_study(tmp_path / "declared", seed=27, slices=8)
    node.send(*declared, calling_ae="EMERGENCY")
    wait_for_state(node, study_uid_of(declared[0]), "assembled")
    canceled = study_uid_of(routine[2][0])
    jobs.cancel_job(node.settings, canceled)
    hold.unlink()
    for paths in (*routine[:2], urgent, declared):
        wait_for_state(node, study_uid_of(paths[0]), "delivered")
    assert node.runs() == ["3", "6", "8", "4"]
    assert state(node, canceled) == "canceled"
    jobs.retry_job(node.settings, canceled)
    wait_for_state(node, canceled, "delivered")


def test_an_open_association_keeps_its_study_open(node: RunningNode, tmp_path: Path) -> None:
    paths = make_study(tmp_path / "sent", seed=30)
    other = make_study(tmp_path / "other", seed=31)
    association = associate(node, paths[0])
    for path in paths[:3]:
        assert association.send_c_store(path).Status == 0x0000
    node.send(*other)  # a whole study comes and goes meanwhile
    wait_for_state(node, study_uid_of(other[0]), "delivered")
    assert state(node, study_uid_of(paths[0])) == "received"
    assert association.send_c_store(paths[3]).Status == 0x0000
    association.release()
    job = wait_for_state(node, study_uid_of(paths[0]), "delivered")
    assert (job.generation, job.instances) == (0, 4)


def test_nothing_is_left_over(node: RunningNode) -> None:
    """After all that: no half-written folder, no file in reception, a sound database."""
    assert node.rows("pragma integrity_check") == [("ok",)]
    assert list((node.data / "incoming").iterdir()) == []
    assert [path for path in node.data.rglob("*unfinished*")] == []
    assert node.rows("select count(*) from deliveries where status != 'delivered'") == [(0,)]


def test_a_report_that_is_replayed_names_the_destinations_it_recorded(
    pacs_factory: Callable[..., Pacs], tmp_path: Path
) -> None:
    """Cut off, and the settings changed meanwhile: nothing is "delivered" where nothing was due."""
    old, new = pacs_factory("old"), pacs_factory("new")
    paths = make_study(tmp_path / "sent", seed=50)
    study_uid = study_uid_of(paths[0])
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    with start_node(before, old.destination) as node:
        node.send(*paths)
        wait_for_state(node, study_uid, "delivered")
    (after / "data").symlink_to(before / "data")
    with start_node(after, new.destination, old.destination) as node:
        engine = index.open_engine(node.settings.node.database_url)
        client = index.open_client(engine)
        report = index.workflow_id(study_uid, 0, "report", "")
        client.rewind_workflow(report, start_step=2, queue_name="cpu").get_result()
        client.destroy()
        engine.dispose()
        job = wait_for_state(node, study_uid, "delivered")
        assert [each.destination for each in job.deliveries] == ["old"]
        found = node.rows("select workflow_uuid from workflow_status where name = 'deliver'")
        assert found == [(index.workflow_id(study_uid, 0, "deliver", "0:old"),)]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_serve_says_when_it_is_ready_and_its_roles_end_with_it(
    tmp_path: Path, end: signal.Signals
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n[receive]\nport = 0\n')
    command = [sys.executable, "-P", "-m", "dicom_node", "serve", "--role", "receive"]
    with subprocess.Popen(
        [*command, "--config", str(config)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        assert ready["port"] > 0
        child = ready["roles"]["receive"]
        assert runs(child)
        process.send_signal(end)
        assert process.wait(30) == (0 if end == signal.SIGTERM else -signal.SIGKILL)
        wait_for(lambda: not runs(child), "the end of the receiver")


def runs(pid: int) -> bool:
    """Whether a process is there, and not only its entry for a parent that never asks."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
