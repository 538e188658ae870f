"""Index and files of one mind: what is wrong is found and mended, and what goes is what every archive has."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node import jobs
from tests.conftest import Pacs, RunningNode, make_study, start_node, study_uid_of, wait_for

STUDIES = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs, list[Any]]]:
    """A node with studies that an archive has, all but the last, which it has declined."""
    archive = Pacs("archive")
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, archive.destination) as node:
        studies = [make_study(folder / f"sent-{n}", seed=200 + n) for n in range(STUDIES + 1)]
        for paths in studies[:-1]:
            node.send(*paths)
        for paths in studies[:-1]:
            wait_for(lambda paths=paths: state(node, paths) == "delivered", "delivery")
        archive.answer = lambda _uid: 0xC123
        node.send(*studies[-1])
        wait_for(lambda: state(node, studies[-1]) == "failed to deliver", "the dead letter")
        yield node, archive, studies
    archive.stop()


@pytest.fixture
def node(world: Any) -> RunningNode:
    return world[0]


@pytest.fixture
def studies(world: Any) -> list[tuple[Path, ...]]:
    return world[2]


def state(node: RunningNode, paths: tuple[Path, ...]) -> str:
    return job_of(node, paths).state


def job_of(node: RunningNode, paths: tuple[Path, ...]) -> jobs.Job:
    return jobs.show_job(node.settings, study_uid_of(paths[0]))[0]


def command(node: RunningNode, *words: str, **keep: str) -> list[str]:
    """A command line on the node's settings, with other limits."""
    lines = (node.data.parent / "node.toml").read_text() + "\n[keep]\n"
    config = node.data.parent / "keep.toml"
    config.write_text(lines + "\n".join(f"{key} = {value}" for key, value in keep.items()))
    return [sys.executable, "-P", "-m", "dicom_node", *words, "--config", str(config)]


def run(node: RunningNode, *words: str, status: int = 0, **keep: str) -> str:
    done = subprocess.run(command(node, *words, **keep), capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def execute(node: RunningNode, statement: str) -> None:
    engine = sa.create_engine(node.settings.node.database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


def paths_of(node: RunningNode, table: str, study_uid: str) -> list[str]:
    query = f"select path from {table} where study_uid = '{study_uid}' order by path"
    return [row[0] for row in node.rows(query)]


def age(path: Path) -> None:
    """Let the deep check believe that a file is in its place for long: its change time is the one of the clock."""
    wait_for(lambda: time.time() - path.stat().st_ctime > 0, "a moment")


def test_the_deep_check_finds_what_is_wrong_and_repair_mends_it(
    node: RunningNode, studies: list[tuple[Path, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "of one mind" in run(node, "check", "--deep")
    monkeypatch.setenv("DICOM_NODE_TEST_SETTLED", "1")
    lost, damaged, forgotten = (study_uid_of(paths[0]) for paths in studies[:3])
    gone = paths_of(node, "instances", lost)[0]
    content = (node.data / gone).read_bytes()
    (node.data / gone).unlink()
    spoiled = paths_of(node, "results", damaged)[0]
    (node.data / spoiled).write_bytes(b"x" * 200)
    stranger = node.data / "results" / damaged / "stranger.dcm"
    stranger.write_bytes(b"who is this")
    execute(node, f"delete from workflow_status where workflow_uuid like '{forgotten}:%'")
    execute(
        node,
        "update deliveries set status = 'pending', delivered_at = null where sop_uid in "
        f"(select sop_uid from results where study_uid = '{lost}')",
    )
    told = run(node, "check", "--deep", status=1)
    for words in (
        f"missing: {gone}: send the study again",
        f"damaged: {spoiled}: --repair sets it aside",
        "no workflow: generation 0: --repair enqueues",
        "delivery not enqueued: deliver archive: --repair enqueues",
    ):
        assert words in told
    assert "stranger" not in told, "it may be about to be recorded: it came just now"
    mended = run(node, "check", "--repair", status=1)
    assert f"moved to lost+found/{spoiled}" in mended
    assert (node.data / "lost+found" / spoiled).read_bytes() == b"x" * 200
    assert "1 instances missing" in job_of(node, studies[0]).reason
    assert "1 results missing" in job_of(node, studies[1]).reason
