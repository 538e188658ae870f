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
from dicom_node.errors import Busy, Declined, Unreachable
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


def test_a_warning_is_delivered_with_a_warning(pacs: Pacs, files: tuple[Path, ...]) -> None:
    pacs.answer = lambda _sop_uid: 0xB000
    receipts = deliver(files[:1], pacs.destination, "NODE")
    assert [(receipt.is_delivered, receipt.is_warning) for receipt in receipts] == [(True, True)]


def test_out_of_resources_is_busy(pacs: Pacs, files: tuple[Path, ...]) -> None:
    answers: list[Receipt] = []
    second = uids(files)[1]
    pacs.answer = lambda sop_uid: 0xA700 if sop_uid == second else 0x0000
    with pytest.raises(Busy, match=r"destination pacs: out of resources \(0xA700\)"):
        deliver(files, pacs.destination, "NODE", answers.append)
    assert [receipt.sop_instance_uid for receipt in answers] == uids(files)[:1]


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


def test_a_wrong_title_is_declined(
    pacs_factory: Callable[..., Pacs], files: tuple[Path, ...]
) -> None:
    strict = pacs_factory(require_called_aet=True)
    other = replace(strict.destination, ae_title="SOMEBODY")
    with pytest.raises(Declined, match="association rejected: Called AE title not recogni"):
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
