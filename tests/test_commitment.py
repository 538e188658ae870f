"""Storage commitment asked of archives: delivered becomes committed, or is sent again, or says why not."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, StoragePresentationContexts, build_role, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_node import jobs
from dicom_node.settings import Destination
from tests.conftest import RunningNode, free_port, make_study, start_node, study_uid_of, wait_for
from tests.dicom_scanner import reference
from tests.test_orthanc import Orthanc, orthanc

__all__ = ["orthanc"]


class Archive:
    """Keeps what it gets; asked for commitment, it answers what and when it is told to."""

    def __init__(self) -> None:
        self.destination = Destination("archive", "ARCHIVE", "127.0.0.1", free_port())
        self.stored: list[str] = []
        self.failing: dict[str, int] = {}
        self.silent, self.reason, self.status = False, 0x0110, 0x0000
        self.asked: list[Dataset] = []
        entity = AE("ARCHIVE")
        entity.supported_contexts = StoragePresentationContexts
        entity.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._asked)]
        address = (self.destination.host, self.destination.port)
        self.server = entity.start_server(address, block=False, evt_handlers=handlers)

    def _store(self, event: Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return self.status

    def _asked(self, event: Event) -> tuple[int, None]:
        self.asked.append(event.action_information)
        if not self.silent:  # on the same association, once the response has left
            threading.Timer(0.1, self._say, (event.assoc, self.report())).start()
        return 0x0000, None

    def report(self) -> Dataset:
        """On all that was asked last; each instance fails for its number of times."""
        said = Dataset()
        said.TransactionUID = self.asked[-1].TransactionUID
        uids = [each.ReferencedSOPInstanceUID for each in self.asked[-1].ReferencedSOPSequence]
        failed = [uid for uid in uids if self.failing.get("any", 0) and uid == uids[0]]
        if failed:
            self.failing["any"] -= 1
            said.FailedSOPSequence = [reference(uid) for uid in failed]
            said.FailedSOPSequence[0].FailureReason = self.reason
        said.ReferencedSOPSequence = [reference(uid) for uid in uids if uid not in failed]
        return said

    def _say(self, association: Any, said: Dataset) -> int:
        event_type = 2 if "FailedSOPSequence" in said else 1
        answer, _ = association.send_n_event_report(
            said, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        return int(answer.Status)

    def answer_later(self, node: RunningNode, said: Dataset) -> int:
        """On an association of its own; the status of the node's response."""
        entity = AE("ARCHIVE")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate(
            "127.0.0.1", node.node.port, ae_title="DICOM_NODE", ext_neg=[role]
        )
        status = self._say(association, said)
        association.release()
        return status


@pytest.fixture(scope="module")
def world(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    archive = Archive()
    to = [replace(each.destination, commitment=True) for each in (orthanc, archive)]
    with start_node(tmp_path_factory.mktemp("node"), *to) as node:
        put(
            orthanc,
            "modalities/node",
            {"AET": "DICOM_NODE", "Host": "127.0.0.1", "Port": node.node.port},
        )
        yield node, orthanc, archive
    archive.server.shutdown()


@pytest.fixture
def node(world: Any) -> RunningNode:
    return world[0]


@pytest.fixture
def archive(world: Any) -> Archive:
    return world[2]


def put(orthanc: Orthanc, path: str, said: Any, method: str = "PUT") -> Any:
    request = urllib.request.Request(
        f"{orthanc.rest}/{path}", data=json.dumps(said).encode(), method=method
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or "null")


def job_of(node: RunningNode, study_uid: str) -> jobs.Job:
    return jobs.show_job(node.settings, study_uid)[0]


def statuses(node: RunningNode, study_uid: str) -> dict[str, str]:
    return {each.destination: each.status for each in job_of(node, study_uid).deliveries}


@pytest.mark.peer
def test_committed_by_orthanc_and_on_the_same_association(
    node: RunningNode, archive: Archive, tmp_path: Path
) -> None:
    """Orthanc answers on an association of its own; the other archive on ours, and loses one object first."""
    archive.failing["any"] = 1
    paths = make_study(tmp_path / "sent", seed=91)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    wait_for(lambda: job_of(node, study_uid).state == "committed", "commitment")
    job = job_of(node, study_uid)
    assert statuses(node, study_uid) == {"orthanc": "committed", "archive": "committed"}
    assert {each.acknowledged for each in job.deliveries} == {2}
    assert (len(archive.asked), len(archive.stored), len(set(archive.stored))) == (2, 3, 2)
    assert len(archive.asked[1].ReferencedSOPSequence) == 1, "asked again for what was committed"


def test_a_duplicate_counts_once_the_archive_has_committed_to_it(
    node: RunningNode, archive: Archive, tmp_path: Path
) -> None:
    """It says that it has all; whether that is ours, it says by storage commitment."""
    archive.status = 0x0111
    paths = make_study(tmp_path / "sent", seed=98)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    wait_for(lambda: job_of(node, study_uid).state == "committed", "commitment")
    archive.status = 0x0000


def test_what_sending_again_does_not_mend_is_a_dead_letter(
    node: RunningNode, archive: Archive, tmp_path: Path
) -> None:
    archive.failing["any"], archive.reason = 1, 0x0119  # class conflict
    paths = make_study(tmp_path / "sent", seed=92)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    wait_for(lambda: job_of(node, study_uid).state == "failed to deliver", "the dead letter")
    assert "not committed: 0x0119" in job_of(node, study_uid).reason
    jobs.retry_job(node.settings, study_uid)
    wait_for(lambda: job_of(node, study_uid).state == "committed", "commitment after the retry")


def test_what_is_not_kept_three_times_is_a_dead_letter(
    node: RunningNode, archive: Archive, tmp_path: Path
) -> None:
    """Sent again twice, then given up; the other object stays committed, and a retry has three more."""
    archive.failing["any"], archive.reason = 3, 0x0110  # processing failure
    archive.asked.clear()
    archive.stored.clear()
    paths = make_study(tmp_path / "sent", seed=97)
    study_uid = study_uid_of(paths[0])
    node.send(*paths)
    wait_for(lambda: job_of(node, study_uid).state == "failed to deliver", "the dead letter")
    assert "not committed: 0x0110" in job_of(node, study_uid).reason
    assert (len(archive.asked), len(archive.stored)) == (3, 4), "not sent again twice"
    query = (
        "select status from deliveries join results using (sop_uid) where destination = 'archive'"
    )
    found = sorted(node.rows(f"{query} and study_uid = '{study_uid}'"))
    assert found == [("committed",), ("failed",)]
    archive.failing["any"] = 2
    jobs.retry_job(node.settings, study_uid)
    wait_for(lambda: job_of(node, study_uid).state == "committed", "commitment after the retry")
    assert (len(archive.asked), len(archive.stored)) == (6, 7)


def test_the_answer_may_come_much_later_and_holds_nobody_up(
    node: RunningNode, archive: Archive, tmp_path: Path
) -> None:
    archive.silent = True
    archive.asked.clear()
    studies = [make_study(tmp_path / f"sent-{seed}", seed=seed) for seed in (93, 94, 95)]
    uids = [study_uid_of(paths[0]) for paths in studies]
    for paths in studies:  # more than there are slots for a destination
        node.send(*paths)
    for uid in uids:
        wait_for(lambda uid=uid: job_of(node, uid).state == "delivered", "delivery")
        wait_for(lambda uid=uid: statuses(node, uid)["orthanc"] == "committed", "the other one")
        assert statuses(node, uid)["archive"] == "delivered"
    wait_for(lambda: len(archive.asked) == 3, "three requests")
    said = archive.report()
    unknown = archive.report()
    unknown.TransactionUID = "1.2.3.4"
    assert archive.answer_later(node, unknown) == 0x0112
    assert archive.answer_later(node, said) == 0x0000
    done = "select count(*) from deliveries where destination = 'archive' and status = 'delivered'"
    wait_for(lambda: node.rows(done) == [(4,)], "the one that was answered")
    wait_for(lambda: any(job_of(node, uid).state == "committed" for uid in uids), "committed")
    assert len(archive.asked) == 3, "asked again while the answer may still come"
    archive.silent = False


@pytest.mark.peer
def test_orthanc_asks_us(node: RunningNode, world: Any, tmp_path: Path) -> None:
    """Success only for what is on disk with its content in that moment."""
    orthanc = world[1]
    paths = make_study(tmp_path / "sent", seed=96)
    keys = []
    for path in paths:
        request = urllib.request.Request(
            f"{orthanc.rest}/instances", data=path.read_bytes(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            keys.append(json.loads(answer.read())["ID"])
    put(orthanc, "modalities/node/store", {"Resources": keys}, "POST")

    def ask() -> tuple[str, int, int]:
        asked = put(orthanc, "modalities/node/storage-commitment", {"Resources": keys}, "POST")

        def answered() -> Any:
            found = orthanc.get(f"storage-commitment/{asked['ID']}")
            return found if found["Status"] != "Pending" else None

        found = wait_for(answered, "our report")
        return found["Status"], len(found["Success"]), len(found["Failures"])

    assert ask() == ("Success", 4, 0)
    ((path,),) = node.rows(
        f"select path from instances where study_uid = '{study_uid_of(paths[0])}' limit 1"
    )
    content = (node.data / path).read_bytes()
    (node.data / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert ask() == ("Failure", 3, 1)
    (node.data / path).write_bytes(content)
    assert ask() == ("Success", 4, 0)
