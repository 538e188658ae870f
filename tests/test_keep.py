"""Index and files of one mind: what is wrong is found and mended, and what goes is what every archive has."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node import index, jobs
from dicom_node.errors import SettingsError
from dicom_node.keep import keeper
from dicom_node.keep.command import check_deep, run_purge
from dicom_node.migrations import migrate
from dicom_node.settings import Keep, Node, load
from tests.conftest import (
    Pacs,
    RunningNode,
    make_study,
    peer,
    start_node,
    study_uid_of,
    wait_for,
)

MOMENT_DAYS = 1e-6
ALL_BY_AGE = Keep(
    sources_days=MOMENT_DAYS, results_days=MOMENT_DAYS, work_days=MOMENT_DAYS, jobs_days=MOMENT_DAYS
)

Study = tuple[Path, ...]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs, Any]]:
    """A node with three studies that an archive has, and one that it has declined."""
    archive = Pacs("archive")
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, archive.destination) as node:
        studies = [make_study(folder / f"sent-{n}", seed=200 + n) for n in range(4)]
        for paths in studies[:-1]:
            node.send(*paths)
        for paths in studies[:-1]:
            wait_for_state(node, paths, "delivered")
        archive.answer = lambda _uid: 0xC123
        node.send(*studies[-1])
        wait_for_state(node, studies[-1], "failed to deliver")
        archive.answer = lambda _uid: 0x0000
        yield node, archive, studies
    archive.stop()


@pytest.fixture
def node(world: Any) -> RunningNode:
    return world[0]


@pytest.fixture
def archive(world: Any) -> Pacs:
    return world[1]


@pytest.fixture
def studies(world: Any) -> list[Study]:
    return world[2]


def job_of(node: RunningNode, paths: Study) -> jobs.Job:
    return jobs.show_job(node.settings, study_uid_of(paths[0]))[0]


def wait_for_state(node: RunningNode, paths: Study, wanted: str) -> None:
    wait_for(lambda: job_of(node, paths).state == wanted, wanted)


def execute(node: RunningNode, statement: str) -> None:
    engine = sa.create_engine(node.settings.node.database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


def forget_jobs(node: RunningNode, study_uid: str) -> None:
    with jobs.Memory(node.settings) as memory:
        runs = memory.client.list_workflows(workflow_id_prefix=f"{study_uid}:")
        memory.client.delete_workflows([run.workflow_id for run in runs])


def paths_of(node: RunningNode, table: str, paths: Study) -> list[Path]:
    study_uid = study_uid_of(paths[0])
    rows = node.rows(f"select path from {table} where study_uid = '{study_uid}' order by path")
    return [node.data / row[0] for row in rows]


def states(node: RunningNode, table: str) -> dict[str, int]:
    return dict(node.rows(f"select state, count(*) from {table} group by state"))


def checked(node: RunningNode, capsys: pytest.CaptureFixture[str], repair: bool = False) -> str:
    """What the deep check prints, with its exit status first."""
    status = check_deep(node.settings, repair)
    return f"{status}\n{capsys.readouterr().out}"


def test_the_deep_check_finds_what_is_wrong_and_repair_mends_it(
    node: RunningNode, archive: Pacs, studies: list[Study], capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(node, capsys) == "0\nIndex and files are of one mind.\n"
    assert keeper.look(node.settings)["studies_with_lost_files"] == []
    gone = paths_of(node, "instances", studies[0])[0]
    gone.unlink()
    spoiled = paths_of(node, "results", studies[1])[0]
    spoiled.write_bytes(b"x" * 200)
    stranger = spoiled.parent / "stranger.dcm"  # may be about to be recorded: it came just now
    stranger.write_bytes(b"x")
    forget_jobs(node, study_uid_of(studies[2][0]))
    execute(
        node,
        "update deliveries set status = 'pending', delivered_at = null where sop_uid in "
        f"(select sop_uid from results where study_uid = '{study_uid_of(studies[0][0])}')",
    )
    told = checked(node, capsys)
    for words in (
        f"missing: {gone.relative_to(node.data)}: send the study again",
        f"damaged: {spoiled.relative_to(node.data)}: --repair sets it aside",
        "no workflow: generation 0: --repair enqueues",
        "delivery not enqueued: deliver archive: --repair enqueues",
        "4 problems, 4 left",
    ):
        assert words in told
    lost = keeper.look(node.settings)["studies_with_lost_files"]
    assert lost == sorted(study_uid_of(paths[0]) for paths in studies[:2])

    archive.arrivals.clear()
    told = checked(node, capsys, repair=True)
    assert told.startswith("1\n")
    assert "4 problems, 2 left" in told
    assert (node.data / "lost+found" / spoiled.relative_to(node.data)).read_bytes() == b"x" * 200
    wait_for(lambda: len(archive.arrivals) == 2, "the delivery that was forgotten")
    wait_for_state(node, studies[2], "delivered")
    assert "1 instances missing" in job_of(node, studies[0]).reason
    assert "1 results missing" in job_of(node, studies[1]).reason

    node.send(*studies[0])  # again, as the check has advised
    assert gone.exists()
    assert "missing" not in job_of(node, studies[0]).reason
    told = checked(node, capsys)
    assert "1 problems, 1 left" in told, "the result that nobody sends again"
    assert spoiled.name in told
    stranger.unlink()


def test_only_what_every_archive_has_is_purged(
    node: RunningNode, studies: list[Study], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    committing = tuple(replace(each, commitment=True) for each in node.settings.destinations)
    settings = replace(node.settings, keep=ALL_BY_AGE)
    before = states(node, "instances")
    run_purge(replace(settings, destinations=committing), dry_run=False)
    assert "but not committed at archive" in capsys.readouterr().out
    assert states(node, "instances") == before

    run_purge(settings, dry_run=True)
    planned = capsys.readouterr().out
    assert states(node, "instances") == before
    assert planned.count("would go") == 12, "sources, results, arrays, job rows of three studies"
    assert "but not delivered at archive" in planned
    run_purge(settings, dry_run=False)
    assert capsys.readouterr().out.splitlines()[:-1] == [
        line.replace("would go", "gone") for line in planned.splitlines()[:-1]
    ]
    assert states(node, "instances") == {"purged": 12, "kept": 4}
    failed = study_uid_of(studies[-1][0])
    for folder in ("work", "results"):
        assert [path.name for path in (node.data / folder).iterdir()] == [failed]
    assert {path.name for path in (node.data / "store").iterdir()} == {
        path.name for path in paths_of(node, "instances", studies[-1])
    }
    assert job_of(node, studies[0]).state == "delivered"
    assert node.rows(
        "select count(distinct substr(workflow_uuid, 1, 40)) from workflow_status"
    ) == [(1,)]
    assert checked(node, capsys).startswith("0\n")


def test_what_was_purged_and_comes_again_is_kept_again(
    node: RunningNode, studies: list[Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = studies[0]
    before, late = (dcmread(path) for path in first[-2:])
    late.ImagePositionPatient = [  # the next frame of the sweep
        2 * last - other
        for last, other in zip(late.ImagePositionPatient, before.ImagePositionPatient, strict=True)
    ]
    late.InstanceNumber = len(first) + 1
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    late.save_as(tmp_path / "late.dcm")
    node.send(tmp_path / "late.dcm")
    wait_for_state(node, first, "refused")
    assert "of 5 instances that came, 4 purged; send the study again" in job_of(node, first).reason
    ran = len(node.runs())
    node.send(*first)
    assert states(node, "instances") == {"purged": 8, "kept": 9}
    assert checked(node, capsys).startswith("0\n")
    jobs.retry_job(node.settings, study_uid_of(first[0]))
    wait_for(lambda: len(node.runs()) == ran + 1, "the analysis of the whole study")
    run_purge(replace(node.settings, keep=Keep(sources_gib=2e-5)), dry_run=True)
    assert "more than 2e-05 GiB of sources" in capsys.readouterr().out


@pytest.mark.peer
@pytest.mark.parametrize(
    ("words", "call", "number"),
    [("purge", "unlink", 3), ("purge", "fdatasync", 2), ("check --repair", "rename", 1)],
)
def test_killed_in_the_middle_it_goes_on(
    words: str,
    call: str,
    number: int,
    node: RunningNode,
    studies: list[Study],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """kill -9 at a system call of purge and repair: what is left is mended, and nothing is lost."""
    node.send(*studies[1])
    spoiled = paths_of(node, "instances", studies[1])[0]
    content = spoiled.read_bytes()
    config = node.data.parent / "keep.toml"
    config.write_text(
        (node.data.parent / "node.toml").read_text() + f"\n[keep]\nsources_days = {MOMENT_DAYS}\n"
    )
    if call == "rename":
        spoiled.write_bytes(b"x")
    trace = [peer("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    trace += ["-e", f"inject={call}:signal=SIGKILL:when={number}"]
    program = [sys.executable, "-P", "-m", "dicom_node", *words.split(), "--config", str(config)]
    done = subprocess.run([*trace, *program], capture_output=True, text=True, timeout=120)
    assert done.returncode in (-9, 137), done.stderr
    told = checked(node, capsys, repair=True)
    if call == "rename":
        aside = node.data / "lost+found" / spoiled.relative_to(node.data)
        assert aside.read_bytes() == b"x"
        assert f"moved to {aside.relative_to(node.data)}" in told
        node.send(*studies[1])
        assert spoiled.read_bytes() == content
    else:
        assert told.startswith("0\n"), told
        assert states(node, "instances").get("purging") is None
    assert checked(node, capsys).startswith("0\n")


def test_an_instance_that_comes_while_its_study_is_purged_stays(tmp_path: Path) -> None:
    """Either it is kept, or the purge has taken it before, which the receiver then sees."""
    url = Node(data_dir=tmp_path).database_url
    migrate(url)
    engine = index.open_engine(url)
    client = index.open_client(engine)
    files = ("2.1", "2.2")
    arrivals = {
        uid: index.Arrival(uid, "1.5", "2", "2.9", "1.6", uid * 3, 1, f"store/{uid}", "US", "host")
        for uid in files
    }
    rules, carrier = index.Rules(60.0, 0.0), index.Carrier("one", "receive", 5)

    def arrive(uid: str) -> index.Kept:
        return index.accept(engine, client, arrivals[uid], carrier, rules)

    for uid in files:
        assert arrive(uid).is_new
    with engine.connect() as connection:
        study = connection.execute(sa.select(index.studies)).one()
    assert not index.begin_purge(engine, index.instances, study), "the study is open"
    index.close_now(engine, "2")
    assert index.begin_purge(engine, index.instances, study)
    again = arrive("2.1")
    assert (again.is_new, again.state, again.path) == (False, index.PURGING, "store/2.1")
    removed: list[str] = []
    assert index.end_purge(engine, index.instances, "2", removed.extend) == 1
    assert removed == ["store/2.2"]
    assert not index.begin_purge(engine, index.instances, study), "it has changed since"
    assert index.files_not_kept(engine, "2", 0) == "1 instances purged"
    client.destroy()
    engine.dispose()


def test_the_audit_trail_goes_by_weeks_and_not_before_its_time(
    node: RunningNode, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = node.data / "audit"
    long_ago = time.time() - 401 * 86400
    for name in ("work.xml.2020-W01", "work.xml.2020-W02", "receive.xml.1"):
        (folder / name).write_text("<AuditMessage/>\n")
        os.utime(folder / name, (long_ago, long_ago))
    moved = (folder / "receive.xml").stat().st_ino
    settings = replace(node.settings, keep=Keep(audit_days=500))
    run_purge(settings, dry_run=False)
    assert "audit/" not in capsys.readouterr().out
    run_purge(replace(settings, keep=Keep(audit_days=400)), dry_run=False)
    assert capsys.readouterr().out.count("gone  audit/") == 3
    left = {path.name.rpartition(".")[2] for path in folder.glob("*.xml.*")}
    assert len(left) == 1, "moved aside more than once in a week"
    assert moved == (folder / f"receive.xml.{left.pop()}").stat().st_ino
    node.send(*make_study(tmp_path / "sent", seed=299))
    wait_for((folder / "receive.xml").exists, "a new file")
    path = tmp_path / "node.toml"
    path.write_text("[keep]\naudit_days = 30")
    with pytest.raises(SettingsError, match="allowed: 0, or 365 to 36500"):
        load(path, {})
