"""receive, through the front door: real associations with a receiver in its own process."""

import hashlib
import os
import re
import socket
import struct
import subprocess
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from dicom_node.deliver import deliver, echo
from dicom_node.errors import Declined, Rejected, Unreachable
from dicom_node.receive.contexts import STORAGE, TRANSFER_SYNTAXES
from dicom_node.settings import Destination
from tests.conftest import RunningNode, make_study, peer, start_node, study_uid_of, wait_for

US = str(UltrasoundImageStorage)

pytestmark = [
    # our own bad UIDs come back in the answer
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI"),
]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """Only the receiving role, so that nothing but reception can change the database."""
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, roles=("receive",), quiet_seconds=600.0) as node:
        yield node


def received(receiver: RunningNode, *paths: Path) -> int:
    """How many of these files the index has."""
    known = {row[0] for row in receiver.rows("select sop_uid from instances")}
    return len(known & {str(dcmread(path).SOPInstanceUID) for path in paths})


def make_instance(**changes: object) -> Dataset:
    """A minimal ultrasound instance."""
    dataset = Dataset()
    dataset.SOPClassUID = UltrasoundImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.PatientName = "Nobody^Knows"
    dataset.Rows, dataset.Columns = 4, 4
    dataset.PixelData = bytes(16)
    dataset["PixelData"].VR = "OB"
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def encode(dataset: Dataset, implicit: bool = False) -> bytes:
    """The bytes of a data set, also of one that is not allowed."""
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, True
    with disable_value_validation():
        write_dataset(file, dataset)
    return file.getvalue()


def associate(receiver: RunningNode, answers: list[int] | None = None) -> Association:
    """An association for ultrasound images; the status of each answer is appended to ``answers``."""

    def read(event: Event) -> None:
        if answers is not None:
            answers.append(int(event.message.command_set.Status))

    contexts = [build_context(UltrasoundImageStorage, ExplicitVRLittleEndian)]
    association = AE("SCANNER").associate(
        *address_of(receiver), contexts, "DICOM_NODE", evt_handlers=[(evt.EVT_DIMSE_RECV, read)]
    )
    assert association.is_established
    return association


def begin_store(line: socket.socket, sop_class: str, sop_uid: str, has_data: bool = True) -> None:
    """Send a C-STORE command as it stands, allowed or not."""
    command = Dataset()
    with disable_value_validation():
        if sop_class:
            command.AffectedSOPClassUID = sop_class
        command.CommandField, command.MessageID, command.Priority = 0x0001, 1, 0
        command.CommandDataSetType = 0x0001 if has_data else 0x0101
        if sop_uid:
            command.AffectedSOPInstanceUID = sop_uid
    encoded = encode(command, implicit=True)
    group_length = struct.pack("<HHLL", 0, 0, 4, len(encoded))
    line.sendall(p_data(group_length + encoded, 0x03))


def p_data(fragment: bytes, control: int) -> bytes:
    """One P-DATA-TF PDU with one fragment, PS3.8 section 9.3.5."""
    item = struct.pack(">LBB", len(fragment) + 2, 1, control) + fragment
    return struct.pack(">BBL", 4, 0, len(item)) + item


def store_raw(
    receiver: RunningNode, content: bytes | None, sop_uid: str, sop_class: str = US
) -> int | None:
    """C-STORE whatever bytes under whatever identifiers; the status, or None when there was no answer."""
    answers: list[int] = []
    association = associate(receiver, answers)
    line = association.dul.socket.socket
    begin_store(line, sop_class, sop_uid, content is not None)
    if content is not None:
        line.sendall(p_data(content, 0x02))
    wait_for(lambda: answers or not association.is_established, "an answer")
    association.abort()
    return answers[0] if answers else None


def assert_consistent(receiver: RunningNode) -> None:
    """Nothing is left in incoming, every row has its file, every file its row, and the SCP answers."""
    echo(receiver.destination, "SCANNER")
    wait_for(lambda: not any((receiver.data / "incoming").iterdir()), "an empty incoming folder")
    rows = receiver.rows("select path, sha256, bytes from instances")
    files = {f"store/{path.name}" for path in (receiver.data / "store").iterdir()}
    assert {path for path, _, _ in rows} == files
    for path, sha256, size in rows:
        content = (receiver.data / path).read_bytes()
        assert (digest_of(content), len(content)) == (sha256, size)


def digest_of(content: bytes) -> str:
    """The hash of a file's transfer syntax and data set, without what stands around them."""
    begin = 144 + int.from_bytes(content[140:144], "little")  # (0002,0000): length of the file meta
    with warnings.catch_warnings(action="ignore"):  # of pydicom, on what scanners write
        syntax = dcmread(BytesIO(content), stop_before_pixels=True).file_meta.TransferSyntaxUID
    return hashlib.sha256(syntax.encode() + content[begin:]).hexdigest()


def test_a_study_is_on_disk_and_in_the_index(receiver: RunningNode, tmp_path: Path) -> None:
    paths = make_study(tmp_path / "sent", seed=1)
    receiver.send(*paths)
    receiver.send(paths[0])  # an identical resend is a success, and nothing new
    assert_consistent(receiver)
    study_uid = study_uid_of(paths[0])
    rows = receiver.rows(
        "select sop_uid, path, calling_ae, generation from instances "
        f"where study_uid = '{study_uid}'"
    )
    sent = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in paths}
    assert {row[0] for row in rows} == set(sent)
    for sop_uid, path, calling_ae, generation in rows:
        assert dcmread(receiver.data / path) == sent[sop_uid]
        assert (calling_ae, generation) == ("SCANNER", 0)
    assert enqueued(receiver, study_uid) == [("DELAYED", 5)]
    # No association is open any more.
    wait_for(lambda: not receiver.rows("select * from associations"), "the release on record")


def enqueued(receiver: RunningNode, study_uid: str) -> list[tuple]:
    return receiver.rows(
        f"select status, priority from workflow_status where workflow_uuid like '{study_uid}:%'"
    )


def test_high_priority_makes_a_study_stat(receiver: RunningNode) -> None:
    instance = make_instance()
    association = associate(receiver)
    assert association.send_c_store(instance, priority=1).Status == 0x0000
    association.release()
    assert enqueued(receiver, instance.StudyInstanceUID) == [("DELAYED", 1)]


def test_each_bad_input_has_its_own_answer(receiver: RunningNode) -> None:
    before = receiver.rows("select * from instances")
    good = make_instance()
    content, sop_uid = encode(good), good.SOPInstanceUID
    no_uids = encode(make_instance(SOPInstanceUID="", SOPClassUID="", StudyInstanceUID=""))
    with disable_value_validation():
        bad_study = encode(make_instance(SOPInstanceUID=sop_uid, StudyInstanceUID="1.2..3"))
    expected = {
        "garbage": (os.urandom(5000), sop_uid, 0xC000),
        "empty": (b"", sop_uid, 0xC000),
        "no data set": (None, sop_uid, 0xC000),
        "no UIDs inside": (no_uids, sop_uid, 0xC000),
        "study UID is none": (bad_study, sop_uid, 0xC000),
        "cut off": (content[:-5], sop_uid, 0xC000),
        "another UID inside": (content, generate_uid(), 0xA900),
        "path as UID": (content, "../../../tmp/x", 0xC000),
        "absolute path as UID": (content, "/etc/passwd", 0xC000),
    }
    answers = {name: store_raw(receiver, *case[:2]) for name, case in expected.items()}
    assert answers == {name: case[2] for name, case in expected.items()}
    other_class = encode(make_instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    assert store_raw(receiver, other_class, uid_inside(other_class)) == 0xA900
    assert_consistent(receiver)
    assert receiver.rows("select * from instances") == before
    assert store_raw(receiver, content, sop_uid) == 0x0000
    assert_consistent(receiver)


def uid_inside(content: bytes) -> str:
    """The SOP Instance UID of an encoded data set."""
    return str(dcmread(BytesIO(content), force=True).SOPInstanceUID)


def test_other_content_under_a_known_uid_is_set_aside(receiver: RunningNode) -> None:
    first = make_instance()
    second = make_instance(
        SOPInstanceUID=first.SOPInstanceUID, StudyInstanceUID=first.StudyInstanceUID, Rows=8
    )
    assert store_raw(receiver, encode(first), first.SOPInstanceUID) == 0x0000
    assert store_raw(receiver, encode(second), first.SOPInstanceUID) == 0xC001
    assert_consistent(receiver)
    aside = [dcmread(path) for path in (receiver.data / "quarantine").iterdir()]
    assert [each.Rows for each in aside if each.SOPInstanceUID == first.SOPInstanceUID] == [8]


def test_a_command_without_uids_and_a_broken_transfer_leave_nothing(
    receiver: RunningNode,
) -> None:
    before = receiver.rows("select * from instances")
    content = encode(make_instance())
    assert store_raw(receiver, content, "", "") is None
    assert (
        store_raw(receiver, content, "1." + "2" * 70) is None
    )  # pynetdicom cannot write its file meta
    association = associate(receiver)
    line = association.dul.socket.socket
    begin_store(line, US, generate_uid())
    line.sendall(p_data(bytes(1000), 0x00))  # not the last fragment
    wait_for(lambda: any((receiver.data / "incoming").iterdir()), "a file being received")
    line.shutdown(socket.SHUT_RDWR)
    association.abort()
    assert_consistent(receiver)
    assert receiver.rows("select * from instances") == before


def test_slow_and_lying_clients_do_not_stop_the_others(receiver: RunningNode) -> None:
    address = ("127.0.0.1", receiver.node.port)
    with socket.create_connection(address) as slow, socket.create_connection(address) as liar:
        slow.sendall(b"\x01\x00\x00")
        liar.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF))
        echo(receiver.destination, "SCANNER")
        liar.settimeout(10)
        assert liar.recv(10) == b""  # closed at the header, nothing was buffered
        slow.settimeout(15)
        assert slow.recv(10) == b""  # closed by the deadline of a PDU


def test_a_wrong_ae_title_is_rejected(receiver: RunningNode) -> None:
    with pytest.raises(Rejected, match="AE title not recogni"):
        echo(Destination("node", "OTHER", "127.0.0.1", receiver.node.port), "SCANNER")


def test_every_listed_context_is_accepted(receiver: RunningNode) -> None:
    """Of each class in one transfer syntax, of some in each; 128 contexts an association."""
    chunks = [STORAGE[start : start + 128] for start in range(0, len(STORAGE), 128)]
    offers = [(chunk, TRANSFER_SYNTAXES[0]) for chunk in chunks]
    offers += [(STORAGE[-8:], syntax) for syntax in TRANSFER_SYNTAXES]
    for classes, syntax in offers:
        contexts = [build_context(sop_class, syntax) for sop_class in classes]
        association = AE("SCANNER").associate(*address_of(receiver), contexts, "DICOM_NODE")
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        association.release()
        assert accepted == set(classes)


def address_of(receiver: RunningNode) -> tuple[str, int]:
    return "127.0.0.1", receiver.node.port


def test_the_receiver_has_no_torch_in_its_memory(receiver: RunningNode, tmp_path: Path) -> None:
    receiver.send(*make_study(tmp_path / "sent", seed=2))
    loaded = Path(f"/proc/{receiver.node.pid('receive')}/maps").read_text()
    assert "sqlalchemy" in loaded  # the maps do show what is loaded
    assert not re.search("libtorch|SimpleITK|monai|numpy|gdcm", loaded)


def test_what_was_received_survives_the_receiver(receiver: RunningNode, tmp_path: Path) -> None:
    port, pid = receiver.node.port, receiver.node.pid("receive")
    (receiver.data / "incoming" / "left-over.dcm").write_bytes(b"half")
    paths = make_study(tmp_path / "sent", seed=3)
    receiver.send(*paths)
    os.kill(pid, 9)
    wait_for(lambda: receiver.node.pid("receive") != pid, "a new receiver")

    def answers() -> bool:
        try:
            echo(receiver.destination, "SCANNER")
        except Unreachable:
            return False
        return True

    wait_for(answers, "C-ECHO")
    assert receiver.node.port == port
    assert received(receiver, *paths) == 4
    wait_for(lambda: not receiver.rows("select * from associations"), "what was cut off on record")
    assert_consistent(receiver)


@pytest.mark.peer
@pytest.mark.parametrize("options", [(), ("-R",), ("-xi",)])
def test_dcmtk_storescu(receiver: RunningNode, tmp_path: Path, options: tuple[str, ...]) -> None:
    paths = make_study(tmp_path / "sent", seed=10 + len("".join(options)))
    command = [peer("storescu"), *options, "-aec", "DICOM_NODE", *map(str, address_of(receiver))]
    done = subprocess.run(
        [*command, *map(str, paths)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_consistent(receiver)
    assert received(receiver, *paths) == len(paths)


@pytest.mark.skipif(
    "DICOM_NODE_TEST_DATA" not in os.environ, reason="DICOM_NODE_TEST_DATA is not set"
)
def test_real_ultrasound_files(receiver: RunningNode) -> None:
    """Each file of the collection is stored, or declined with a reason; C-ECHO answers afterwards."""
    stored: set[str] = set()
    before = len(receiver.rows("select * from instances"))
    for path in sorted(Path(os.environ["DICOM_NODE_TEST_DATA"], "us_dicom").rglob("*.dcm")):
        try:
            deliver([path], receiver.destination, "SCANNER")
        except Declined:
            continue
        with warnings.catch_warnings(action="ignore"):  # of pydicom, on what scanners write
            dataset = dcmread(path, specific_tags=["SOPInstanceUID"])
        in_meta = (
            dataset.file_meta.MediaStorageSOPInstanceUID
        )  # where a hand-held scanner has it alone
        stored.add(str(dataset.get("SOPInstanceUID") or in_meta))
    # Many files of the collection are one object in several encodings: the first one is kept.
    assert len(stored) >= 10
    assert len(receiver.rows("select * from instances")) == before + len(stored)
    assert_consistent(receiver)
