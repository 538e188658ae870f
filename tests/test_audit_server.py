"""The audit trail on its way to a server: real TLS, RFC 5425 framing, a server that goes away and returns."""

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node import audit
from dicom_node.audit.spool import Position, Spool
from dicom_node.audit.trail import recording
from dicom_node.errors import SettingsError
from dicom_node.pseudonyms import Pseudonyms
from dicom_node.settings import Audit, Node, Settings
from tests.conftest import wait_for

HEADER = re.compile(
    rb"<8[45]>1 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ dicom-node receive DICOM\+RFC3881 - "
    rb"\xef\xbb\xbf<AuditMessage>.*</AuditMessage>",
    re.DOTALL,
)
SCANNER = audit.Peer("US3", "10.0.0.9")


class Server:
    """A syslog receiver: reads frames of counted octets, over TLS or plain TCP."""

    def __init__(self, tls: ssl.SSLContext | None, port: int = 0) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.messages: list[bytes] = []
        self.deaf = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection, connection.makefile("rb") as stream:
                while not self.deaf.is_set() and (count := _count(stream)):
                    self.messages.append(stream.read(count))
                while self.deaf.is_set():
                    time.sleep(0.01)
        except (OSError, ValueError):
            return

    def die(self) -> None:
        """As a killed process: nothing is read any more, and every connection is reset."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            linger = b"\1\0\0\0\0\0\0\0"  # reset, not closed in order
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
            finally:
                connection.close()


def _count(stream: object) -> int:
    digits = b""
    while (octet := stream.read(1)) not in (b" ", b""):
        digits += octet
    return int(digits) if digits else 0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server of that name, and a client it has signed."""
    folder = tmp_path_factory.mktemp("certificates")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    make += ["-nodes", "-days", "2"]
    for name, more in (
        ("ca", ["-subj", "/CN=Test Authority", "-addext", "basicConstraints=critical,CA:TRUE"]),
        ("server", ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]),
        ("client", ["-subj", "/CN=node"]),
    ):
        signed = [] if name == "ca" else ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"]
        files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
        subprocess.run([*make, *more, *signed, *files], check=True, capture_output=True)
    return folder


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def settings_for(folder: Path, certificates: Path, port: int, **more: str) -> Settings:
    names = {"ca_file": "ca.pem", "certificate": "client.pem", "private_key": "client.key"}
    files = {key: str(certificates / name) for key, name in names.items()}
    return Settings(
        node=Node(data_dir=folder),
        audit=Audit(**({"host": "localhost", "port": port} | files | more)),
    )


def record(number: int) -> None:
    transfer = audit.Transfer(
        f"1.2.3.4.5.{number}", "P-4711", {"1.2.840.10008.5.1.4.1.1.6.1": number}
    )
    audit.transferred(transfer, "DICOM_NODE", SCANNER, is_received=True)


def numbers(messages: list[bytes]) -> list[int]:
    found = [re.search(rb'NumberOfInstances="(\d+)"', message) for message in messages]
    return [int(match[1]) for match in found if match]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_server_that_dies_gets_everything_over_tls(
    tmp_path: Path, certificates: Path, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Also what it had in its buffers when it was killed, and what a rotation moved away meanwhile."""
    caplog.set_level("INFO", "dicom_node")
    server = Server(tls)
    settings = settings_for(tmp_path, certificates, server.port)
    file = tmp_path / "audit" / "receive.xml"
    with recording(settings, "receive", Pseudonyms(b"k" * 32)):
        record(1)
        wait_for(lambda: numbers(server.messages) == [1], "the first message")
        assert all(HEADER.fullmatch(message) for message in server.messages)
        assert b"1.2.3.4.5" not in b"".join(server.messages)
        server.deaf.set()
        record(2)
        record(3)
        time.sleep(0.5)  # they are in the dead server's buffers now
        server.die()
        wait_for(lambda: "audit server away" in said(caplog), "a word that it is away")
        record(4)
        file.rename(tmp_path / "audit" / "receive.xml.1")
        record(5)
        second = Server(tls, server.port)
        wait_for(lambda: "audit server is back" in said(caplog), "a word that it is back")
        record(6)
    got = numbers(second.messages)
    assert sorted(set(got)) == list(dict.fromkeys(got))  # in order
    assert {2, 3, 4, 5, 6} <= set(got)
    assert b"Application Stop" in second.messages[-1]
    second.die()
    # Another start goes on where this one ended.
    third = Server(tls, server.port)
    with recording(settings, "receive", Pseudonyms(b"k" * 32)):
        record(7)
        wait_for(lambda: 7 in numbers(third.messages), "the last one")
    assert numbers(third.messages) == [7]
    third.die()


def test_who_is_not_the_server_gets_nothing(
    tmp_path: Path, certificates: Path, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dicom_node")
    server = Server(tls)
    settings = settings_for(tmp_path, certificates, server.port, host="127.0.0.1")
    with recording(settings, "receive", Pseudonyms()):
        record(1)
        wait_for(lambda: "audit server away" in said(caplog), "a word that it is not the server")
    assert server.messages == []
    server.die()
    wrong = settings_for(tmp_path, certificates, 1, ca_file="/nowhere.pem")
    with pytest.raises(SettingsError, match=r"\[audit\] certificates cannot be read"):  # noqa: SIM117
        with recording(wrong, "receive", Pseudonyms()):
            pass


@pytest.fixture(params=["tcp", "udp"])
def plain(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, list[bytes]]]:
    """A receiver without encryption: its transport, its port, what it got."""
    if request.param == "tcp":
        server = Server(None)
        yield "tcp", server.port, server.messages
        server.die()
        return
    got: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)

        def read() -> None:
            while not got or b"Application Stop" not in got[-1]:
                got.append(receiver.recv(65536))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield "udp", receiver.getsockname()[1], got
        thread.join(30)


def test_plain_transports(
    plain: tuple[str, int, list[bytes]], tmp_path: Path, certificates: Path
) -> None:
    transport, port, got = plain
    settings = settings_for(tmp_path, certificates, port, transport=transport, host="127.0.0.1")
    with recording(settings, "receive", Pseudonyms()):
        record(1)
    wait_for(lambda: got and b"Application Stop" in got[-1], "the last message")
    assert [bool(HEADER.fullmatch(message)) for message in got] == [True] * 3
    assert b'ParticipantObjectID="P-4711"' in got[1]  # as they are, where the site wants that


def test_a_file_that_is_gone_or_cut_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "work.xml"
    path.write_text("one\ntwo\nhal")
    spool = Spool(path)
    lines, position = spool.read(None)
    assert (lines, position.offset) == (["one", "two"], 8)  # a half line is not a message yet
    spool.save(position)
    assert spool.saved() == position
    path.write_text("new\n")  # logrotate's copytruncate
    assert spool.read(position)[0] == ["new"]
    path.unlink()
    assert spool.is_gone(position)
    path.write_text("next\n")
    assert spool.read(Position(-1, 5))[0] == ["next"]


def test_what_a_sender_made_up_stays_xml(tmp_path: Path) -> None:
    with recording(Settings(node=Node(data_dir=tmp_path)), "receive", Pseudonyms(b"k" * 32)):
        peer = audit.Peer('A"<&\x01\ud800', "host")
        audit.node_not_authenticated(peer, "DICOM_NODE", "study 1.2.3.4.5.6\nis not wanted")
    (line,) = [
        line
        for line in (tmp_path / "audit" / "receive.xml").read_text().splitlines()
        if "110113" in line
    ]
    assert 'UserID="A&quot;&lt;&amp;??"' in line
    assert "1.2.3.4.5.6" not in line
