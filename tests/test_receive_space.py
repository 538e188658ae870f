"""A disk that runs full: nothing truncated, nobody left without an answer, told once; and what is swept."""

import http.client
import os
import resource
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from dicom_node.deliver import deliver, echo
from dicom_node.errors import Busy
from dicom_node.files.content import fingerprint
from tests import attack
from tests.conftest import RunningNode, free_port, start_node, wait_for
from tests.surroundings import small_disk

MIB = 1 << 20


def instance(folder: Path, mib: float) -> Path:
    """A file with an ultrasound image of so many MiB; what fills it is random."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.PixelData = os.urandom(int(mib * MIB))
    dataset["PixelData"].VR = "OB"
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def stored(node: RunningNode) -> list[int]:
    """Sizes of the files kept, after what is unfinished has gone."""
    wait_for(lambda: not any((node.data / "incoming").iterdir()), "an empty incoming folder")
    return sorted(path.stat().st_size for path in (node.data / "store").iterdir())


def rejection(node: RunningNode) -> tuple[int, ...]:
    """What an association request hears: PDU type, result, source, reason."""
    with socket.create_connection(("127.0.0.1", node.node.port), 20) as line:
        line.sendall(attack.request())
        kind, result, source, reason = struct.unpack(">B6xBBB", line.recv(10, socket.MSG_WAITALL))
        return kind, result, source, reason


def post(port: int) -> tuple[int, str | None]:
    """The status of a STOW request, and when to try again."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    connection.request("POST", "/studies", b"--b--\r\n", {"Content-Type": kind})
    answer = connection.getresponse()
    connection.close()
    return answer.status, answer.getheader("Retry-After")


def test_below_the_mark_nothing_is_taken_in_and_that_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a mark that no disk reaches; the same on a disk that is full: the next test."""
    port = free_port()
    lines = f"web_port = {port}\n[receive.limits]\nfree_mib = {1 << 30}"
    with start_node(tmp_path, roles=("receive",), receive=lines) as node:
        assert [rejection(node) for _ in range(3)] == [(attack.REJECT, 2, 3, 1)] * 3
        assert post(port) == (503, "60")
    told = capfd.readouterr().err
    assert told.count('"event": "disk short"') == 1
    assert "association rejected" not in told


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_disk_that_runs_full(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = "[receive.limits]\nfree_mib = 10"
    with (
        small_disk(tmp_path / "data", 64),
        start_node(tmp_path, roles=("receive",), quiet_seconds=600.0, receive=lines) as node,
    ):
        small, large = instance(tmp_path, 1), instance(tmp_path, 80)
        deliver([small], node.destination, "SCANNER")
        with pytest.raises(Busy):  # 0xA700: larger than the disk, found while it comes
            deliver([large], node.destination, "SCANNER")
        assert len(stored(node)) == 1
        filler = node.data / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(node.data).free - 8 * MIB))
        assert [rejection(node) for _ in range(2)] == [(attack.REJECT, 2, 3, 1)] * 2
        filler.unlink()
        deliver([instance(tmp_path, 1)], node.destination, "SCANNER")
        assert len(stored(node)) == len(node.rows("select * from instances")) == 2
    told = capfd.readouterr().err
    assert told.count('"event": "disk short"') == told.count('"event": "disk has room"')
    assert told.count("0xA700") == 1


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, roles=("receive",), quiet_seconds=600.0) as node:
        yield node


def test_a_file_that_cannot_be_written_is_answered(receiver: RunningNode, tmp_path: Path) -> None:
    """On the same association, which goes on: the next instance is taken."""
    pid = receiver.node.pid("receive")
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (8 * MIB, before[1]))
    line = attack.Target(receiver).associate()
    large, small = instance(tmp_path, 9), instance(tmp_path, 1)
    answers = []
    for path in (large, small):
        send(line, str(dcmread(path).SOPInstanceUID), split(path)[1])
        answers.append(status_of(line))
    line.close()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    assert answers == [0xA700, 0x0000]
    assert len(stored(receiver)) == 1
    assert dcmread(next((receiver.data / "store").iterdir())) == dcmread(small)


def test_what_is_hashed_while_it_comes_is_what_lies_on_disk(
    receiver: RunningNode, tmp_path: Path
) -> None:
    """Fragments may be empty, and begin like file meta."""
    line = attack.Target(receiver).associate()
    for mib in (1, 6):
        path = instance(tmp_path, mib)
        sop_uid, content = str(dcmread(path).SOPInstanceUID), split(path)[1]
        line.sendall(attack.store(sop_uid, str(UltrasoundImageStorage)))
        for piece in (content[:1], b"", content[1:99], *pieces_of(content[99:]), b""):
            line.sendall(attack.data(piece, 0))
        line.sendall(attack.data(b"", 2))
        assert status_of(line) == 0x0000
        (kept, sha256), *_ = receiver.rows(
            f"select path, sha256 from instances where sop_uid = '{sop_uid}'"
        )
        assert fingerprint(receiver.data / kept) == sha256
        assert dcmread(receiver.data / kept) == dcmread(path)
    meta_again = struct.pack("<HH2sH", 2, 0x10, b"UI", 18) + b"1.2.840.10008.1.2\0"
    line.sendall(attack.store(sop_uid, str(UltrasoundImageStorage)))
    line.sendall(attack.data(meta_again + content[:5000], 2))
    assert status_of(line) != 0x0000
    line.close()


def pieces_of(content: bytes) -> list[bytes]:
    size = 100_000
    return [content[at : at + size] for at in range(0, len(content), size)]


def split(path: Path) -> tuple[bytes, bytes]:
    """A file's meta and its data set."""
    content = path.read_bytes()
    end = 144 + int.from_bytes(content[140:144], "little")
    return content[:end], content[end:]


def send(line: socket.socket, sop_uid: str, content: bytes, cut: int = 0) -> None:
    """One instance in fragments, the last ``cut`` of them left out."""
    pieces = pieces_of(content)
    if cut < len(pieces):
        line.sendall(attack.store(sop_uid, str(UltrasoundImageStorage)))
    for number, piece in enumerate(pieces[: len(pieces) - cut]):
        line.sendall(attack.data(piece, 2 if number == len(pieces) - 1 else 0))


def status_of(line: socket.socket) -> int:
    """The status of the next answer."""
    _, length = struct.unpack(">BxL", line.recv(6, socket.MSG_WAITALL))
    told = line.recv(length, socket.MSG_WAITALL)
    return int.from_bytes(told.split(struct.pack("<HHL", 0, 0x0900, 2))[1][:2], "little")


def test_a_slow_sender_keeps_its_file_and_a_gone_one_does_not(
    receiver: RunningNode, tmp_path: Path
) -> None:
    incoming = receiver.data / "incoming"
    path = instance(tmp_path, 1)
    sop_uid, content = str(dcmread(path).SOPInstanceUID), split(path)[1]
    slow, gone = attack.Target(receiver).associate(), attack.Target(receiver).associate()
    send(slow, sop_uid, content, cut=3)
    wait_for(lambda: len(list(incoming.iterdir())) == 1, "the slow one's file")
    mine = next(incoming.iterdir())
    send(gone, sop_uid, content, cut=5)
    wait_for(lambda: len(list(incoming.iterdir())) == 2, "the other's file")
    foreign = incoming / "left.dcm"
    foreign.write_bytes(b"half")
    long_ago = time.time() - 7200
    for each in (mine, foreign):
        os.utime(each, (long_ago, long_ago))
    gone.close()
    wait_for(lambda: list(incoming.iterdir()) == [mine], "the others' files to be swept")
    rest = content[-(len(content) % 100_000 + 200_000) :]
    for at in range(0, len(rest), 100_000):
        slow.sendall(attack.data(rest[at : at + 100_000], 2 if at == 200_000 else 0))
    assert status_of(slow) == 0x0000
    row = receiver.rows(f"select path from instances where sop_uid = '{sop_uid}'")
    assert dcmread(receiver.data / row[0][0]) == dcmread(path)
    echo(receiver.destination, "SCANNER")
    slow.close()
