"""deliver, against archives on real sockets."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from dicom_node.deliver import Receipt, deliver, echo, request_commitment
from dicom_node.deliver import association as association_module
from dicom_node.errors import Busy, Declined, Rejected, Unreachable
from dicom_node.settings import Destination
from tests.conftest import Pacs, free_port, make_study, peer, wait_for


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    return make_study(tmp_path / "files")


def uids(paths: tuple[Path, ...]) -> list[str]:
    return [str(dcmread(path).SOPInstanceUID) for path in paths]


def test_every_instance_arrives_as_it_is(pacs: Pacs, files: tuple[Path, ...]) -> None:
    answers: list[Receipt] = []
    receipts = deliver(files, pacs.destination, "NODE", answers.append)
    assert pacs.arrivals == uids(files) == [receipt.sop_instance_uid for receipt in receipts]
    assert answers == list(receipts)
    assert {receipt.status for receipt in receipts} == {0x0000}
    assert pacs.associations == 1
    for path, sop_uid in zip(files, uids(files), strict=True):
        dataset = path.read_bytes()[-3000:]  # the end of the data set, past the file meta
        assert pacs.kept[sop_uid].endswith(dataset)


@pytest.mark.parametrize("status", [0xA700, 0xA7FE, 0x0110, 0x0213, 0x0210, 0x0124, 0xFF00])
def test_what_is_not_taken_now_keeps_no_other_back(
    status: int, pacs: Pacs, files: tuple[Path, ...]
) -> None:
    answers: list[Receipt] = []
    second = uids(files)[1]
    pacs.answer = lambda sop_uid: status if sop_uid == second else 0x0000
    with pytest.raises(
        Busy, match=rf"destination pacs: .*\(0x{status:04X}\) at instance {second}$"
    ):
        deliver(files, pacs.destination, "NODE", answers.append)
    assert [receipt.sop_instance_uid for receipt in answers] == uids(files)
    assert [receipt.is_deferred for receipt in answers] == [False, True, False, False]
    assert set(pacs.kept) == set(uids(files)) - {second}
    assert pacs.associations == 1


@pytest.mark.parametrize("status", [0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB123])
def test_warnings_are_stored(status: int, pacs: Pacs, files: tuple[Path, ...]) -> None:
    pacs.answer = lambda _sop_uid: status
    receipts = deliver(files[:1], pacs.destination, "NODE")
    assert [(receipt.is_delivered, receipt.is_warning) for receipt in receipts] == [(True, True)]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_abort_at_one_object_keeps_no_other_back(
    place: int, pacs: Pacs, files: tuple[Path, ...]
) -> None:
    chosen, begun = uids(files)[place], []
    pacs.abort_at = {chosen}

    def sending(sop_uid: str) -> bool:
        begun.append(sop_uid)
        return False

    with pytest.raises(Unreachable, match=f"no answer for instance {chosen}") as told:
        deliver(files, pacs.destination, "NODE", sending=sending)
    assert told.value.cause == "association broke"
    assert begun == uids(files)
    assert set(pacs.kept) == set(uids(files)) - {chosen}


def test_an_archive_that_ends_each_association_gets_all(
    pacs: Pacs, files: tuple[Path, ...]
) -> None:
    pacs.abort_at = set(uids(files))
    with pytest.raises(Unreachable, match="and 1 more"):
        deliver(files, pacs.destination, "NODE")
    assert pacs.associations == len(files)


def test_what_was_not_tried_is_said(pacs: Pacs, files: tuple[Path, ...]) -> None:
    def answer(_sop_uid: str) -> int:
        pacs.stop()
        return 0x0000

    pacs.answer = answer
    pacs.abort_at = {uids(files)[0]}
    with pytest.raises(Unreachable, match=r"connection refused.*objects not tried: 3"):
        deliver(files, pacs.destination, "NODE")
    pacs.start()


def test_a_silent_archive_is_left_after_two_objects(
    monkeypatch: pytest.MonkeyPatch, pacs: Pacs, files: tuple[Path, ...]
) -> None:
    monkeypatch.setattr(association_module, "DIMSE_SECONDS", 0.3)
    release = threading.Event()
    pacs.answer = lambda _sop_uid: 0x0000 if release.wait(5) else 0xA700
    with pytest.raises(Unreachable, match=r"no answer in 0.3 s.*objects not tried: 2") as told:
        deliver(files, pacs.destination, "NODE")
    release.set()
    assert told.value.cause == "no answer"


@pytest.mark.parametrize("is_open", [True, False])
def test_a_duplicate_is_believed_after_an_unanswered_send(
    is_open: bool, pacs: Pacs, files: tuple[Path, ...]
) -> None:
    pacs.answer = lambda _sop_uid: 0x0111
    if is_open:
        (receipt,) = deliver(files[:1], pacs.destination, "NODE", sending=lambda _uid: True)
        assert receipt.is_delivered
        return
    with pytest.raises(Declined, match="0x0111, it has an object of this UID"):
        deliver(files[:1], pacs.destination, "NODE")


def test_one_declined_instance_does_not_keep_the_others_back(
    pacs: Pacs, files: tuple[Path, ...]
) -> None:
    first = uids(files)[0]
    pacs.answer = lambda sop_uid: 0xA900 if sop_uid == first else 0x0000
    with pytest.raises(Declined, match=f"instance {first}: answered 0xA900"):
        deliver(files, pacs.destination, "NODE")
    assert set(pacs.kept) == set(uids(files)[1:])


def test_a_kind_that_is_not_taken_is_declined(
    pacs_factory: Callable[..., Pacs], files: tuple[Path, ...]
) -> None:
    picky = pacs_factory()
    picky.stop()
    picky.start(build_context(Verification))
    with pytest.raises(Declined, match="takes none of the kinds"):
        deliver(files, picky.destination, "NODE")


def test_a_wrong_title_is_rejected(
    pacs_factory: Callable[..., Pacs], files: tuple[Path, ...]
) -> None:
    strict = pacs_factory(require_called_aet=True)
    other = replace(strict.destination, ae_title="SOMEBODY")
    with pytest.raises(Rejected, match=r"rejected: Called AE title.*correct ae_title"):
        deliver(files, other, "NODE")


def test_an_archive_without_a_free_slot_is_busy(
    pacs_factory: Callable[..., Pacs], files: tuple[Path, ...]
) -> None:
    full = pacs_factory(maximum_associations=1)
    other = AE().associate("127.0.0.1", full.destination.port, [build_context(Verification)])
    with pytest.raises(Busy, match="association rejected: Local limit exceeded"):
        deliver(files, full.destination, "NODE")
    other.release()


def test_nobody_there_is_unreachable(files: tuple[Path, ...]) -> None:
    port = free_port()
    nobody = Destination("pacs", "ARCHIVE", "127.0.0.1", port)
    with pytest.raises(
        Unreachable, match=f"destination pacs: no association with 127.0.0.1:{port}"
    ):
        deliver(files, nobody, "NODE")
    with pytest.raises(Unreachable):
        echo(Destination("pacs", "ARCHIVE", "no-such-host.invalid", 104), "NODE")


def test_echo(pacs: Pacs) -> None:
    echo(pacs.destination, "NODE")


def test_a_report_is_answered_before_the_association_is_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a machine that is slow in that moment."""
    answers: list[Dataset] = []
    send_msg = DIMSEServiceProvider.send_msg

    def send_slowly(provider: DIMSEServiceProvider, message: Any, context_id: int) -> None:
        if isinstance(message, N_EVENT_REPORT) and message.MessageIDBeingRespondedTo is not None:
            time.sleep(0.2)
        send_msg(provider, message, context_id)

    def say(association: Association, said: Dataset) -> None:
        kinds = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        answers.append(association.send_n_event_report(said, 1, *kinds)[0])

    def asked(event: Event) -> tuple[int, None]:
        threading.Timer(0.05, say, (event.assoc, event.action_information)).start()
        return 0x0000, None

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_slowly)
    entity, port = AE("ARCHIVE"), free_port()
    entity.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_N_ACTION, asked)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    archive = Destination("pacs", "ARCHIVE", "127.0.0.1", port)
    request_commitment(archive, "NODE", "1.2.3", [("1.2", "1.2.4")], lambda _said: 0x0000)
    wait_for(lambda: answers, "our response")
    assert [answer.get("Status") for answer in answers] == [0x0000]
    server.shutdown()


@pytest.mark.peer
@pytest.mark.parametrize("options", [(), ("+xi",), ("--fork",)])
def test_dcmtk_storescp(tmp_path: Path, files: tuple[Path, ...], options: tuple[str, ...]) -> None:
    """+xi takes Implicit VR only: then the instances are converted on the way."""
    program = peer("storescp")
    port = free_port()
    kept = tmp_path / "kept"
    kept.mkdir()
    command = [program, *options, "-od", str(kept), str(port)]
    with subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}) as process:
        try:
            destination = Destination("pacs", "STORESCP", "127.0.0.1", port)

            def sent() -> bool:
                try:
                    return bool(deliver(files, destination, "NODE"))
                except Unreachable:
                    return False

            wait_for(sent, "storescp")
            wait_for(lambda: len(list(kept.iterdir())) == len(files), "the files")
        finally:
            process.terminate()
    originals = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in files}
    for path in kept.iterdir():
        stored = dcmread(path)
        sent_one = originals[stored.SOPInstanceUID]
        assert stored.PixelData == sent_one.PixelData
        assert stored.PatientName == sent_one.PatientName
        if options == ("+xi",):
            assert stored.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
