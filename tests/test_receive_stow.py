"""STOW-RS, through its door: real HTTP requests, with the promise and the checks of C-STORE."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import HangingProtocolStorage, generate_uid

from tests.conftest import RunningNode, free_port, make_study, start_node, study_uid_of, wait_for

PORT = free_port()
BOUNDARY = "the-boundary"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """Only the receiving role, with its web door open."""
    folder = tmp_path_factory.mktemp("node")
    web = f"web_port = {PORT}"
    with start_node(folder, roles=("receive",), quiet_seconds=600.0, receive=web) as node:
        yield node


@dataclass(frozen=True)
class Answer:
    """The status, and the reasons by SOP Instance UID (0 = stored); "" stands for what has no UID."""

    status: int
    reasons: dict[str, int]


def body_of(parts: Sequence[bytes], end: bool = True) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + part + b"\r\n" for part in parts)
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def post(body: Any, path: str = "/studies", kind: str = RELATED, port: int = PORT) -> Answer:
    """POST a body, in chunks where it is an iterator."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    connection.request("POST", path, body, headers, encode_chunked=not isinstance(body, bytes))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.getheader("content-type") != "application/dicom+json":
        return Answer(answer.status, {})
    module = Dataset.from_json(json.loads(text))
    items = [
        *module.get("ReferencedSOPSequence", ()),
        *module.get("FailedSOPSequence", ()),
        *module.get("OtherFailuresSequence", ()),
    ]
    reasons = {
        str(item.get("ReferencedSOPInstanceUID", "")): int(item.get("FailureReason", 0))
        for item in items
    }
    return Answer(answer.status, reasons)


def changed(path: Path, **changes: object) -> bytes:
    """A file's bytes, of another instance."""
    dataset = dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def uid_of(content: bytes) -> str:
    return str(dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID)


def kept(receiver: RunningNode, study_uid: str) -> set[str]:
    rows = receiver.rows(f"select sop_uid, path from instances where study_uid = '{study_uid}'")
    assert all((receiver.data / path).is_file() for _, path in rows)
    return {sop_uid for sop_uid, _ in rows}


def audited(receiver: RunningNode) -> str:
    return (receiver.data / "audit" / "receive.xml").read_text()


def incoming(receiver: RunningNode) -> list[Path]:
    return list((receiver.data / "incoming").iterdir())


def test_a_study_is_stored(receiver: RunningNode, tmp_path: Path) -> None:
    paths = make_study(tmp_path / "sent", seed=81)
    contents = [path.read_bytes() for path in paths]
    uids = {uid_of(content) for content in contents}
    study_uid = study_uid_of(paths[0])
    body = body_of(contents)
    # In pieces of 37 bytes: wherever a boundary is cut, it is found.
    pieces = (body[start : start + 37] for start in range(0, len(body), 37))
    assert post(pieces) == Answer(200, dict.fromkeys(uids, 0))
    assert kept(receiver, study_uid) == uids
    assert post(body, f"/studies/{study_uid}") == Answer(200, dict.fromkeys(uids, 0))
    assert (kept(receiver, study_uid), incoming(receiver)) == (uids, [])
    # The request was the carrier, and it has ended in order.
    wait_for(lambda: not receiver.rows("select * from associations"), "the end on record")
    released = f"select released, source_ae from studies where study_uid = '{study_uid}'"
    assert receiver.rows(released) == [(1, "STOW-RS")]


def test_each_bad_part_has_its_own_reason(receiver: RunningNode, tmp_path: Path) -> None:
    path = make_study(tmp_path / "sent", seed=82)[0]
    good = path.read_bytes()
    elsewhere = changed(path, StudyInstanceUID=generate_uid())
    foreign = changed(path, SOPClassUID=HangingProtocolStorage)
    mismatch = bytearray(changed(path))
    uid = uid_of(bytes(mismatch))
    at = mismatch.rindex(uid.encode())  # in the data set, not in the file meta
    mismatch[at + len(uid) - 1] ^= 1
    unknown = changed(path).replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.9\x00")
    same_uid = dcmread(path)
    same_uid.Rows, same_uid.PixelData = 32, same_uid.PixelData[: len(same_uid.PixelData) // 2]
    buffer = BytesIO()
    same_uid.save_as(buffer)
    study = f"/studies/{study_uid_of(path)}"
    assert post(body_of([good, elsewhere, b"garbage"]), study) == Answer(
        202, {uid_of(good): 0, uid_of(elsewhere): 0xA900, "": 0xC000}
    )
    assert post(body_of([foreign])) == Answer(409, {uid_of(foreign): 0x0122})
    assert post(body_of([bytes(mismatch)])) == Answer(409, {uid: 0xA900})
    assert post(body_of([unknown])) == Answer(409, {sop_uid_in_meta(unknown): 0xC122})
    assert post(body_of([buffer.getvalue()])) == Answer(409, {uid_of(good): 0xC001})
    assert kept(receiver, study_uid_of(path)) == {uid_of(good)}
    assert incoming(receiver) == []


def sop_uid_in_meta(content: bytes) -> str:
    return str(dcmread(BytesIO(content), specific_tags=[]).file_meta.MediaStorageSOPInstanceUID)


def test_bad_requests_are_told_so(receiver: RunningNode) -> None:
    assert post(b"", kind="application/dicom").status == 415
    assert post(b"", kind=RELATED.replace("application/dicom", "application/pdf")).status == 415
    assert post(b"", kind='multipart/related; type="application/dicom"').status == 400
    assert post(b"").status == 400
    assert post(body_of([]), "/studies/..").status in (400, 404)
    assert post(b"no multipart at all").status == 409
    foreign = body_of([b"x"]).replace(b"application/dicom", b"text/plain")
    assert post(foreign).status == 409
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}/studies", timeout=10)
    assert incoming(receiver) == []
    for words in (
        "must be multipart/related",
        "no boundary",
        "cut off",
        "is not application/dicom",
    ):
        wait_for(lambda words=words: words in audited(receiver), f"{words} in the audit trail")


def test_what_is_cut_off_leaves_nothing(receiver: RunningNode, tmp_path: Path) -> None:
    path = make_study(tmp_path / "sent", seed=83)[0]
    first, second = path.read_bytes(), changed(path)
    whole = body_of([first, second])
    assert post(body_of([first], end=False) + whole[: len(second)]) == Answer(
        202, {uid_of(first): 0, "": 0xC000}
    )
    with socket.create_connection(("127.0.0.1", PORT), timeout=10) as line:
        head = f"POST /studies HTTP/1.1\r\nHost: x\r\nContent-Type: {RELATED}\r\n"
        line.sendall(f"{head}Content-Length: {len(whole)}\r\n\r\n".encode() + whole[:-2000])
        wait_for(lambda: incoming(receiver), "a file being received")
    wait_for(lambda: not incoming(receiver), "its removal")
    assert kept(receiver, study_uid_of(path)) == {uid_of(first)}
    # Cut off is not released.
    study = f"select released from studies where study_uid = '{study_uid_of(path)}'"
    wait_for(lambda: receiver.rows(study) == [(0,)], "the end on record")


def test_memory_stays_flat(receiver: RunningNode, tmp_path: Path) -> None:
    path = make_study(tmp_path / "sent", seed=84)[0]
    frames = 64
    big = changed(
        path, Rows=1024, Columns=1024, NumberOfFrames=frames, PixelData=bytes(frames << 20)
    )
    before = peak_mib(receiver)
    assert post(body_of([big])) == Answer(200, {uid_of(big): 0})
    assert peak_mib(receiver) - before < 24


def peak_mib(receiver: RunningNode) -> float:
    status = Path(f"/proc/{receiver.node.pid('receive')}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


@pytest.mark.peer
def test_orthanc_as_the_client(receiver: RunningNode, tmp_path: Path) -> None:
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if program is None or not plugin.exists():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (orthanc, orthanc-dicomweb)")
    paths = make_study(tmp_path / "sent", seed=85)
    port = free_port()
    configuration = {
        "HttpPort": port,
        "DicomServerEnabled": False,
        "StorageDirectory": str(tmp_path / "db"),
        "IndexDirectory": str(tmp_path / "db"),
        "RemoteAccessAllowed": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Servers": {"node": {"Url": f"http://127.0.0.1:{PORT}/"}}},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(configuration))
    base = f"http://127.0.0.1:{port}"

    def call(path: str, body: bytes | None = None) -> Any:
        try:
            with urllib.request.urlopen(f"{base}{path}", body, timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError((error.code, error.read())) from error
        except (ConnectionError, urllib.error.URLError):
            return None

    with subprocess.Popen(
        [program, str(tmp_path / "orthanc.json")], stderr=subprocess.DEVNULL, env=os.environ
    ) as server:
        try:
            wait_for(lambda: call("/system"), "Orthanc")
            for path in paths:
                call("/instances", path.read_bytes())
            study = call("/studies")[0]
            order = json.dumps({"Resources": [study], "Synchronous": True}).encode()
            call("/dicom-web/servers/node/stow", order)
        finally:
            server.terminate()
    assert kept(receiver, study_uid_of(paths[0])) == {uid_of(path.read_bytes()) for path in paths}
