"""How large an instance and a web request may be: refused in time, with the reason, leaving nothing."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.deliver import deliver
from dicom_node.errors import Declined
from tests.conftest import RunningNode, free_port, start_node, wait_for
from tests.surroundings import small_disk
from tests.test_receive import US, associate, begin_store, p_data
from tests.test_receive_space import MIB, instance, stored
from tests.test_receive_stow import (
    RELATED,
    Answer,
    audited,
    body_of,
    incoming,
    post,
    uid_of,
)

PORT = free_port()
LIMITS = f"web_port = {PORT}\n[receive.limits]\ninstance_mib = 2\nrequest_mib = 5"


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One that takes 2 MiB an instance, 5 MiB a request."""
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, roles=("receive",), quiet_seconds=600.0, receive=LIMITS) as node:
        yield node


def content(folder: Path, mib: float) -> bytes:
    return instance(folder, mib).read_bytes()


def kept(receiver: RunningNode) -> set[str]:
    return {sop_uid for (sop_uid,) in receiver.rows("select sop_uid from instances")}


def said(sent: bytes, port: int = PORT) -> str:
    """The answer to what is sent, before any more of it is."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(f"POST /studies HTTP/1.1\r\nHost: x\r\nContent-Type: {RELATED}\r\n".encode())
        line.sendall(sent)
        found = b""
        while b"requests" not in found and (more := line.recv(4096)):
            found += more
    return found.decode()


def test_a_request_is_refused_by_its_header(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    lines = LIMITS.replace(str(PORT), str(port))
    with start_node(tmp_path, roles=("receive",), receive=lines) as node:
        answer = said(f"Content-Length: {5 * MIB + 1}\r\n\r\n".encode(), port)
        reason = "the request is larger than 5 MiB (receive.limits.request_mib); send the study in"
        assert answer.startswith("HTTP/1.1 413 ")
        assert reason in answer
        assert "connection: close" in answer.lower()
        wait_for(lambda: reason in audited(node), "the audit trail")
        assert incoming(node) == []
    assert reason in capfd.readouterr().err


def test_a_request_is_refused_as_it_comes(receiver: RunningNode, tmp_path: Path) -> None:
    """In chunks, so that no header says how many. What had come whole stays, and is named."""
    endless = content(tmp_path, 6)[: 5 * MIB]
    chunk = f"{len(endless):x}\r\n".encode() + endless + b"\r\n"
    head = body_of([], end=False) + body_of([b""], end=False)[:-2]
    before = kept(receiver)
    answer = said(
        b"Transfer-Encoding: chunked\r\n\r\n"
        + f"{len(head):x}\r\n".encode()
        + head
        + b"\r\n"
        + chunk
    )
    assert answer.startswith("HTTP/1.1 413 ")
    assert "larger than 5 MiB" in answer
    assert kept(receiver) == before
    wait_for(lambda: "cut off (the request is larger than" in audited(receiver), "the audit trail")
    good = content(tmp_path, 1)
    parts = [good, *(content(tmp_path, mib) for mib in (1, 1.9, 1.9))]
    answer = post((part for part in (body_of(parts),)), port=PORT)
    assert answer.status == 202
    assert list(answer.reasons.values()) == [0, 0, 0, 0xC002]
    assert uid_of(good) in kept(receiver)
    assert incoming(receiver) == []


def test_an_instance_is_refused_and_the_others_are_kept(
    receiver: RunningNode, tmp_path: Path
) -> None:
    good, large = content(tmp_path, 1), content(tmp_path, 2)
    reasons = {uid_of(good): 0, uid_of(large): 0xC002}
    assert post(body_of([large, good]), port=PORT) == Answer(202, reasons)
    assert post(body_of([large]), port=PORT) == Answer(413, {})
    assert kept(receiver) & reasons.keys() == {uid_of(good)}
    assert incoming(receiver) == []
    wait_for(lambda: "(receive.limits.instance_mib)" in audited(receiver), "the audit trail")


def test_the_other_door_has_the_same_limit(receiver: RunningNode, tmp_path: Path) -> None:
    large, good = instance(tmp_path, 2), instance(tmp_path, 1)
    with pytest.raises(Declined, match="0xC002"):
        deliver([large], receiver.destination, "SCANNER")
    deliver([good], receiver.destination, "SCANNER")
    uids = [str(dcmread(path).SOPInstanceUID) for path in (large, good)]
    assert [uid in kept(receiver) for uid in uids] == [False, True]
    wait_for(lambda: incoming(receiver) == [], "an empty incoming folder")


def test_what_is_too_large_is_not_written_on(receiver: RunningNode) -> None:
    association = associate(receiver)
    line = association.dul.socket.socket
    begin_store(line, US, generate_uid())
    for _ in range(17):  # of 128 kB
        line.sendall(p_data(bytes(MIB // 8), 0x00))
    wait_for(lambda: incoming(receiver), "a file being received")
    (path,) = incoming(receiver)
    wait_for(lambda: path.stat().st_size == 0, "what is too large to be dropped")
    line.sendall(p_data(bytes(MIB // 8), 0x00))
    association.abort()
    wait_for(lambda: incoming(receiver) == [], "an empty incoming folder")


def test_silent_connections_take_no_place_for_long(receiver: RunningNode) -> None:
    """As many as there are places, some of them after half a header or a whole request."""
    lines = [socket.create_connection(("127.0.0.1", PORT), timeout=20) for _ in range(64)]
    for line in lines[:10]:
        line.sendall(b"POST /studies HTTP/1.1\r\nHo")
    assert post(b"", kind="text/plain", port=PORT).status == 503
    wait_for(lambda: post(b"", kind="text/plain", port=PORT).status == 415, "a place", 20)
    for line in lines:
        line.close()
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"Not Found"):
            answer += line.recv(4096)
        assert answer.startswith(b"HTTP/1.1 404")
        line.sendall(b"GET / HT")
        assert line.recv(4096) == b"", "the second request was waited for without end"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_disk_that_runs_short_within_a_request(tmp_path: Path) -> None:
    port = free_port()
    lines = f"web_port = {port}\n[receive.limits]\nfree_mib = 40"
    with (
        small_disk(tmp_path / "data", 100),
        start_node(tmp_path, roles=("receive",), quiet_seconds=600.0, receive=lines) as node,
    ):
        # It would fit on the disk, and leave less than the mark.
        assert post(body_of([content(tmp_path, 80)]), port=port).status == 503
        assert stored(node) == []
