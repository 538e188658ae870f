"""A running node, watched: its log, its audit trail, its status page, its metrics, its readiness."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from typer.testing import CliRunner

from dicom_node import index
from dicom_node.cli import app
from dicom_node.migrations import migrate
from dicom_node.pseudonyms import open_pseudonyms
from dicom_node.role import WHOLE
from dicom_node.settings import Limits, Node, Receive, Settings, Web
from dicom_node.web import Web as WebServer
from tests.conftest import (
    Pacs,
    RunningNode,
    free_port,
    make_study,
    start_node,
    study_uid_of,
    wait_for,
)

SCHEMA = Path(__file__).parent / "audit_message.rng"
STAGES = ("received", "assembled", "analyzed", "reported", "delivered")


@dataclass(frozen=True)
class Watched:
    """A node with its window, and what it wrote."""

    node: RunningNode
    url: str
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        try:
            with urllib.request.urlopen(self.url + path) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """One sample; 0.0 where it has not been counted yet."""
        found = 0.0
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == f"dicom_node_{name}" and labels.items() <= sample.labels.items():
                    found += sample.value
        return found

    def reasons(self) -> list[str]:
        """Why it is not ready."""
        status, body = self.get("/readyz")
        told = json.loads(body)
        assert (status == 200) == told["ready"] == (not told["reasons"])
        return list(told["reasons"])

    def audited(self) -> list[str]:
        """Every audit message of every process."""
        files = sorted((self.node.data / "audit").glob("*.xml"))
        return [line for path in files for line in path.read_text().splitlines()]


@pytest.fixture
def watched(tmp_path: Path, pacs: Pacs) -> Iterator[Watched]:
    """A node that is watched, delivering to the archive; what its processes log goes to a file."""
    port, log = free_port(), tmp_path / "log"
    more = f"[web]\nport = {port}\nlost_seconds = 6\n[receive.limits]\nfree_mib = 1\n"
    with log_to(log), start_node(tmp_path, pacs.destination, more=more) as node:
        yield Watched(node, f"http://127.0.0.1:{port}", log)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Standard error of this process and of those that it starts."""
    kept = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def name_patient(files: tuple[Path, ...], name: str) -> None:
    for path in files:
        dataset = dcmread(path)
        dataset.PatientName, dataset.PatientID = f"{name}^Anna", f"{name}-4711"
        dataset.save_as(path)


@pytest.mark.peer
def test_what_is_seen_of_a_study(watched: Watched, pacs: Pacs, tmp_path: Path) -> None:
    """One study that is analyzed, one that is refused, one that is not taken, one caller turned away."""
    node = watched.node
    good, refused = make_study(tmp_path / "a", 1), make_study(tmp_path / "b", 2, slices=7)
    name_patient(good, "Muster")
    name_patient(refused, "Secretum")
    node.send(*good)
    node.send(*refused)
    again = dcmread(good[0])
    again.Rows, again.PixelData = 32, again.PixelData[: len(again.PixelData) // 2]
    again.save_as(tmp_path / "again.dcm")
    with suppress(Exception):
        node.send(tmp_path / "again.dcm")
    caller = AE("STRANGER")
    caller.add_requested_context(Verification)
    assert caller.associate("127.0.0.1", node.node.port, ae_title="WRONG").is_rejected
    uids = [study_uid_of(good[0]), study_uid_of(refused[0])]
    wait_for(lambda: len(pacs.kept) == 3, "the results", 180)
    wait_for(
        lambda: watched.metric("stage_seconds_count", stage="deliver") == 2, "both deliveries", 180
    )
    undelivered = "select count(*) from deliveries where delivered_at is null"
    wait_for(lambda: node.rows(undelivered) == [(0,)], "every answer in the index", 180)
    pseudonyms = open_pseudonyms(node.settings)

    wait_for(lambda: not watched.reasons(), "readiness")
    page, alive = watched.get("/"), watched.get("/healthz")
    name = pseudonyms.of(uids[0])
    detail = watched.get(f"/studies/{name}")
    assert (page[0], alive, detail[0]) == (200, (200, "ok\n"), 200)
    assert [watched.get(path)[0] for path in ("/studies/1.2.3", "/other")] == [404, 404]
    check_page(page[1], [pseudonyms.of(uid) for uid in uids])
    assert "delivered: 2 of 2 objects" in detail[1]
    check_metrics(watched)
    check_lookup(node, uids[0], name)
    messages = watched.audited()
    check_audit(messages, pseudonyms.of(uids[0]))
    validate(messages, tmp_path)

    log = watched.log.read_text()
    check_log(log, [pseudonyms.of(uid) for uid in uids])
    # Nothing of a study or a patient anywhere.
    own = {*uids, *(str(dcmread(path).SOPInstanceUID) for path in (*good, *refused)), *pacs.kept}
    everything = "\n".join([log, page[1], detail[1], *messages, watched.get("/metrics")[1]])
    assert [
        word for word in (*own, "Muster", "Secretum", "4711", "Anna") if word in everything
    ] == []
    assert (node.data / "identifiers.key").stat().st_mode & 0o777 == 0o600


def check_page(page: str, names: list[str]) -> None:
    rows = re.findall(r'<tr><th scope="row"><a href="/studies/(\w+)">.*?</tr>', page, re.DOTALL)
    assert set(rows) == set(names)
    assert 'lang="en"' in page
    assert page.count("<caption>") == 4
    for row in re.findall(r'<tr><th scope="row"><a .*?</tr>', page, re.DOTALL):
        cells = re.findall(r'<td class="(\w+)">.*?<span class="text">(.*?)</span>', row, re.DOTALL)
        kinds, texts = [kind for kind, _ in cells], [text for _, text in cells]
        if names[0] in row:
            assert (kinds, texts[0], texts[4]) == (["done"] * 5, "4 instances", "pacs")
        else:
            assert kinds == ["done", "done", "stopped", "done", "done"]
            assert (texts[2], texts[3]) == ("refused", "reason reported")


def check_metrics(watched: Watched) -> None:
    metric = watched.metric
    assert metric("instances_total", outcome="taken") == 11
    assert metric("instances_total", outcome="refused", status="0xC001") == 1
    assert metric("received_bytes_total") > 11 * 64 * 64
    assert metric("associations_total", outcome="accepted") == 3
    assert metric("associations_total", outcome="rejected") == 1
    assert metric("refusals_total", reason="unsuitable") == 1
    assert metric("sent_objects_total", destination="pacs", status="delivered") == 3
    for word, outcome in (
        ("receive", "received"),
        ("assemble", "assembled"),
        ("analyze", "refused"),
    ):
        assert metric("stage_seconds_count", stage=word, outcome=outcome) >= 1, word
    assert metric("stage_seconds_sum", stage="report") > 0
    assert metric("worker_up") == 4
    assert metric("delivery_lag_seconds", destination="pacs") == 0
    assert metric("database_up") == 1
    assert metric("free_disk_bytes") > metric("wanted_disk_bytes") > 0


def check_lookup(node: RunningNode, uid: str, name: str) -> None:
    """IT finds the study of the log, and the log's name of a study."""
    config = str(node.data.parent / "node.toml")
    shown = CliRunner().invoke(app, ["jobs", "show", name, "--config", config])
    assert shown.exit_code == 0
    assert uid in shown.output
    assert name in CliRunner().invoke(app, ["jobs", "show", uid, "--config", config]).output


def check_audit(messages: list[str], study: str) -> None:
    def those(code: str, *also: str) -> list[str]:
        wanted = (f'<EventID csd-code="{code}"', *also)
        return [line for line in messages if all(word in line for word in wanted)]

    assert len(those("110100", "110120")) == 4  # started: four processes
    received = those("110104", 'EventActionCode="C"', study, 'EventOutcomeIndicator="0"')
    assert len(received) == 1
    assert 'UID="1.2.840.10008.5.1.4.1.1.6.1" NumberOfInstances="4"' in received[0]
    assert 'AlternativeUserID="AETITLES=SCANNER"' in received[0]
    (declined,) = those("110104", 'EventOutcomeIndicator="4"')
    assert "1 refused: known with other content" in declined
    assert len(those("110102", study)) == len(those("110104", 'EventActionCode="R"', study)) == 1
    (rejected,) = those("110113", "110126")
    assert 'UserID="STRANGER"' in rejected
    assert len(those("110103", study)) == 1


def validate(messages: list[str], folder: Path) -> None:
    """Against the schema of PS3.15 section A.5.1."""
    paths = []
    for number, message in enumerate(messages):
        paths.append(folder / f"message-{number}.xml")
        paths[-1].write_text(message)
    command = ["xmllint", "--noout", "--relaxng", SCHEMA, *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_log(log: str, names: list[str]) -> None:
    """One event for each stage of each study, with its seconds and its counts."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    for name, outcome in zip(names, ("analyzed", "refused"), strict=True):
        mine = [line for line in lines if line.get("study") == name]
        for event in ("assembled", outcome, "reported", "delivered"):
            (line,) = [line for line in mine if line["event"] == event]
            assert line["seconds"] >= 0
            assert {"instances", "scans", "objects"} & set(line), line
    received = [line for line in lines if line["event"] == "received"]
    assert len(received) == 11
    (declined,) = [line for line in lines if line["event"] == "instance refused"]
    assert all("seconds" in line for line in (*received, declined))


def test_readiness_tells_who_is_lost_and_deliveries_who_is_away(
    watched: Watched, pacs: Pacs, tmp_path: Path
) -> None:
    node = watched.node
    wait_for(lambda: not watched.reasons(), "readiness")
    pacs.stop()
    node.send(*make_study(tmp_path / "study"))
    wait_for(lambda: watched.metric("undelivered_objects", destination="pacs") == 2, "two due", 180)
    lag = wait_for(lambda: watched.metric("delivery_lag_seconds", destination="pacs"), "a lag")
    wait_for(
        lambda: watched.metric("failures_total", stage="deliver", reason="connection refused"),
        "a failed attempt",
        180,
    )
    assert watched.metric("delivery_lag_seconds", destination="pacs") > lag
    assert watched.reasons() == []  # an archive that is away is not our own unreadiness

    worker = node.node.pid("infer")
    os.kill(worker, signal.SIGSTOP)  # as a machine that hangs: killed, it is started again at once
    (reason,) = wait_for(watched.reasons, "unreadiness")
    assert reason.startswith("role infer: no sign of life of infer for ")
    assert watched.metric("worker_up", executor="infer") == 0
    assert "silent for" in watched.get("/")[1]
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not watched.reasons(), "the worker's return")
    assert watched.metric("worker_starts", executor="infer") == 2
    pacs.start()
    wait_for(
        lambda: watched.metric("delivery_lag_seconds", destination="pacs") == 0, "delivery", 180
    )
    assert watched.metric("sent_objects_total", destination="pacs", status="delivered") == 2


def test_readiness_names_disk_database_and_what_never_started(tmp_path: Path) -> None:
    free_mib = shutil.disk_usage(tmp_path).free >> 20
    settings = Settings(
        node=Node(data_dir=tmp_path),
        receive=Receive(limits=Limits(free_mib=2 * free_mib)),
        web=Web(port=free_port(), pending_minutes=0.1),
    )
    web = WebServer(settings)
    web.start()
    try:
        watched = Watched(
            RunningNode(None, settings, tmp_path), f"http://127.0.0.1:{web.port}", tmp_path
        )
        disk, database = watched.reasons()
        assert "GiB free in" in disk
        assert "(receive.limits)" in disk
        assert database.startswith("database: cannot be asked")
        assert watched.metric("database_up") == 0
        status, page = watched.get("/")
        assert (status, "Not ready" in page, "receive.limits" in page) == (200, True, True)
        migrate(settings.node.database_url)
        assert [reason.partition(";")[0] for reason in watched.reasons()[1:]] == [
            f"role {role}: never started" for role in ("receive", "work", "deliver", "infer")
        ]
        assert "No study has been received yet." in watched.get("/")[1]
        engine = index.open_engine(settings.node.database_url)
        for role in WHOLE:
            index.begin_heartbeat(engine, f"us-node-1:{role.split('+', 1)[0]}", role)
        assert len(watched.reasons()) == 1  # the disk alone
        with engine.begin() as connection:
            connection.execute(
                sa.text("update heartbeats set seen_at = seen_at - 99 where role = 'infer'")
            )
        lost = watched.reasons()[1]
        assert lost.startswith("role infer: no sign of life of us-node-1:infer for ")
        # Another machine of that role is enough; the lost one is an alarm still.
        index.begin_heartbeat(engine, "us-node-2:infer", "infer")
        assert len(watched.reasons()) == 1
        assert watched.metric("worker_up", executor="us-node-1:infer") == 0
        assert watched.metric("worker_up", executor="us-node-2:infer") == 1
        engine.dispose()
    finally:
        web.stop()
