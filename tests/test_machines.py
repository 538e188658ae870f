"""Several machines on one Postgres and one shared folder: what a lost one had begun, the others finish."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import sqlalchemy as sa

from dicom_node import index, jobs
from tests.conftest import ROOT, Pacs, Postgres, RunningNode, make_study, start_node, study_uid_of
from tests.conftest import wait_for as patiently

pytestmark = pytest.mark.peer
LOST_SECONDS = 3.0
ANOTHER_VERSION = (
    "import sys; from pathlib import Path; from dicom_node import index, role;"
    "from dicom_node.index import rescues;"
    "index.VERSION = rescues.VERSION = 'pipeline-2'; sys.exit(role.main('infer', Path(sys.argv[1])))"
)


class Cluster:
    """Machine b, a whole node, and what others are started beside it."""

    def __init__(self, node: RunningNode, pacs: Pacs, folder: Path) -> None:
        self.node, self.pacs, self.folder = node, pacs, folder

    def machine(self, name: str, *command: str) -> subprocess.Popen[str]:
        """Another machine: its own name and disk, the same configuration."""
        disk = self.folder / name
        disk.mkdir(exist_ok=True)
        environment = dict(os.environ) | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "DICOM_NODE_TEST_GATE": str(self.node.gate),
            "DICOM_NODE__NODE__NAME": name,
            "DICOM_NODE__NODE__DATA_DIR": json.dumps(str(disk)),
        }
        with (disk / "log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-P", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=environment,
            )

    @property
    def config(self) -> str:
        return str(self.folder / "node.toml")

    def log(self, name: str) -> str:
        return (self.folder / name / "log").read_text()

    def owners(self, status: str) -> dict[str, str]:
        """Of the analyses in a status: the executor of each."""
        query = "select workflow_uuid, executor_id from dbos.workflow_status where name = 'analyze'"
        return dict(self.node.rows(f"{query} and status = '{status}'"))

    def state(self, study_uid: str) -> str:
        return jobs.show_job(self.node.settings, study_uid)[0].state

    def send(self, folder: Path, seed: int, slices: int) -> str:
        paths = make_study(folder / str(seed), seed=seed, slices=slices)
        self.node.send(*paths)
        return study_uid_of(paths[0])


def said(lines: IO[str] | None) -> dict[str, Any]:
    """The word of readiness, after what libraries say."""
    assert lines is not None
    for line in lines:
        if line.startswith("{"):
            return json.loads(line)
    raise AssertionError("it ended without a word")


def kill(process: subprocess.Popen[str]) -> None:
    """As when the machine burns down."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def cluster(
    postgres_for_all: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The shared folder lies on another file system than the machines' own disks, as it does in life."""
    pacs, folder = Pacs(), tmp_path_factory.mktemp("cluster")
    shared_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared_memory) as shared:
        own = f'name = "b"\nfiles_dir = "{shared}"\nlost_seconds = {LOST_SECONDS}'
        url = postgres_for_all.url
        with start_node(folder, pacs.destination, database=url, own=own) as node:
            yield Cluster(node, pacs, folder)
        assert not any(Path(shared, "arriving").iterdir())
    pacs.stop()


def test_a_lost_machine_and_a_living_one(cluster: Cluster, tmp_path: Path) -> None:
    node, hold = cluster.node, cluster.node.gate / "hold"
    serve = ("-m", "dicom_node", "serve", "--config", cluster.config)
    twin = cluster.machine("b", "-m", "dicom_node.role", "infer", cluster.config)
    other = cluster.machine("a", *serve, "--role", "infer")
    assert said(other.stdout)["roles"].keys() == {"infer"}
    hold.touch()
    uids = [cluster.send(tmp_path, seed=60 + slices, slices=slices) for slices in (3, 4)]
    patiently(lambda: len(node.runs()) == 2, "an analysis on each machine")
    owners = cluster.owners("PENDING")
    assert sorted(owners.values()) == ["a:infer", "b:infer"]
    time.sleep(2 * LOST_SECONDS)  # long enough to be taken for lost, and alive
    assert cluster.owners("PENDING") == owners
    kill(other)
    hold.unlink()
    for uid in uids:
        patiently(lambda uid=uid: cluster.state(uid) == "delivered", "both studies")
    assert len(node.runs()) == 3, "only what the lost machine had in hand runs again"
    assert set(cluster.owners("SUCCESS").values()) == {"b:infer"}
    assert node.rows("select count from rescues") == [(1,)]
    assert twin.wait(180) == 1
    assert "a worker called b:infer is running already" in cluster.log("b")
    twin.communicate()


def make_lost(cluster: Cluster, workflow_id: str, rescues: int) -> None:
    """As a machine leaves it that was lost in this stage, not for the first time."""
    engine = index.open_engine(cluster.node.settings.node.database_url)
    with engine.begin() as connection:
        named = {"id": workflow_id}
        connection.execute(
            sa.text("delete from dbos.operation_outputs where workflow_uuid = :id"), named
        )
        connection.execute(
            sa.text(
                "update dbos.workflow_status set status = 'PENDING', executor_id = 'ghost', "
                "priority = 3 where workflow_uuid = :id"
            ),
            named,
        )
        connection.execute(
            index.METADATA.tables["rescues"]
            .insert()
            .values(workflow_id=workflow_id, count=rescues, rescued_at=0.0)
        )
    engine.dispose()


def test_rescued_work_keeps_its_queue_and_is_set_aside_in_the_end(
    cluster: Cluster, tmp_path: Path
) -> None:
    uid = cluster.send(tmp_path, seed=70, slices=4)
    patiently(lambda: cluster.state(uid) == "delivered", "a study")
    delivery = index.workflow_id(uid, 0, "deliver", "0:pacs")
    analysis = index.workflow_id(uid, 0, "analyze", "")
    before = cluster.node.rows("select count(*) from rescues")
    for name, rescues in ((delivery, 1), (analysis, 5)):
        make_lost(cluster, name, rescues)
    query = (
        "select queue_name, queue_partition_key, priority, executor_id, status "
        "from dbos.workflow_status where workflow_uuid = "
    )

    def ended(name: str) -> tuple[Any, ...] | None:
        (row,) = cluster.node.rows(f"{query}'{name}'")
        return row if row[-1] in ("SUCCESS", "ERROR") else None

    row = patiently(lambda: ended(delivery), "the rescued delivery")
    assert row == ("deliver", "pacs", 3, "b:work", "SUCCESS")
    row = patiently(lambda: ended(analysis), "the end of the analysis")
    assert (row[0], row[2], row[4]) == ("gpu", 3, "ERROR")
    job = jobs.show_job(cluster.node.settings, uid)[0]
    assert job.state == "failed to analyze"
    assert job.reason == "its worker was lost 6 times in this stage; it is not tried again"
    assert cluster.node.rows("select count(*) from rescues") == [(before[0][0] + 2,)]


def test_two_versions_do_each_their_own_work(cluster: Cluster, tmp_path: Path) -> None:
    """A rolling upgrade: the old worker finishes what it knows, the new one takes nothing of it."""
    node, hold = cluster.node, cluster.node.gate / "hold"
    done = cluster.send(tmp_path, seed=90, slices=5)
    patiently(lambda: cluster.state(done) == "delivered", "a study")
    node.forget()
    new = cluster.machine("c", "-c", ANOTHER_VERSION, cluster.config)
    assert said(new.stdout)["role"] == "infer"
    hold.touch()
    uids = [cluster.send(tmp_path, seed=80 + slices, slices=slices) for slices in (3, 4)]
    for uid in uids:
        patiently(lambda uid=uid: cluster.state(uid) == "assembled", "both scans")
    patiently(node.runs, "the first analysis")
    again = index.workflow_id(done, 0, "analyze", "9")
    engine = index.open_engine(node.settings.node.database_url)
    client = index.open_client(engine)
    order: Any = {"workflow_name": "analyze", "queue_name": "gpu", "workflow_id": again}
    client.enqueue(order | {"app_version": "pipeline-2", "priority": 5}, done, 0, 5)
    patiently(lambda: len(node.runs()) == 2, "the analysis of the new version")
    assert cluster.owners("PENDING")[again] == "c:infer"
    assert index.of_other_versions(client) == {"pipeline-2": 1}
    limits = {"analyze": -1.0}
    assert {each.executor for each in index.stalled(client, limits)} == {"b:infer", "c:infer"}
    assert index.stalled(client, {"analyze": 600.0}) == ()
    client.destroy()
    engine.dispose()
    hold.unlink()
    for uid in uids:
        patiently(lambda uid=uid: cluster.state(uid) == "delivered", "the old version's studies")
    new.send_signal(signal.SIGTERM)
    assert new.wait(60) == 0
    new.communicate()
    owners = cluster.owners("SUCCESS")
    assert owners.pop(again) == "c:infer"
    assert set(owners.values()) == {"b:infer"}
