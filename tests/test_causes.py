"""Why a peer is not reached: each cause by its own name, with advice that fits, against real servers."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_node.access.tls import server_context
from dicom_node.check import check
from dicom_node.deliver import association, causes, echo
from dicom_node.errors import DeliveryError, Rejected, Unreachable
from dicom_node.settings import Destination, Node, Receive, Settings, Tls
from tests.certificates import Authority, Pem
from tests.conftest import Pacs, free_port, peer, wait_for

HERE = "127.0.0.1"
ABORT = bytes.fromhex("07000000000400000200")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Pem:
    return authority.issue("ours")


@contextlib.contextmanager
def tls_archive(authority: Authority, ours: Pem, client_certificates: bool) -> Iterator[int]:
    tls = Tls(
        certificate=str(ours.certificate),
        private_key=str(ours.private_key),
        ca=str(authority.path),
        client_certificates=client_certificates,
    )
    entity, port = AE("ARCHIVE"), free_port()
    entity.add_supported_context(Verification)
    server = entity.start_server((HERE, port), block=False, ssl_context=server_context(tls))
    yield port
    server.shutdown()


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does one thing with each connection."""
    with socket.create_server((HERE, 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with contextlib.suppress(OSError):
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HERE, port)):
        return True
    return False


def failure(destination: Destination) -> DeliveryError:
    with pytest.raises(DeliveryError) as told:
        echo(destination, "NODE")
    return told.value


def at(port: int, host: str = HERE, **options: object) -> Destination:
    return Destination("pacs", "ARCHIVE", host, port, **options)  # type: ignore[arg-type]


def told_by_check(destination: Destination, folder: Path) -> str:
    """The same cause is told by `check`."""
    node = Node(data_dir=folder / "data", analyses=("tests.plain_analysis:analysis",))
    settings = Settings(node, Receive(port=0), destinations=(destination,))
    (found,) = [each for each in check(settings) if each.what == "destination pacs"]
    assert not found.good
    return found.sentence


def test_nobody_there(tmp_path: Path) -> None:
    refused = failure(at(free_port()))
    assert isinstance(refused, Unreachable)
    assert refused.cause == causes.REFUSED
    assert "connection refused; nothing listens there: start it" in refused.reason
    unresolved = at(104, host="no-such-host.invalid")
    assert failure(unresolved).cause == causes.UNRESOLVED
    assert "correct the host" in told_by_check(unresolved, tmp_path)


def test_tls_against_plain_and_plain_against_tls(
    authority: Authority, ours: Pem, pacs: Pacs, tmp_path: Path
) -> None:
    with tls_archive(authority, ours, client_certificates=False) as port:
        speaks = failure(at(port))
        assert (type(speaks), speaks.cause) == (Unreachable, causes.SPEAKS_TLS)
        assert "set tls = true" in told_by_check(at(port), tmp_path)
        echo(at(port, tls=True, ca=str(authority.path)), "NODE")
    plain = replace(pacs.destination, tls=True, ca=str(authority.path))
    assert failure(plain).cause == causes.NO_TLS
    assert "set tls = false" in told_by_check(plain, tmp_path)


def test_certificates_that_do_not_fit(authority: Authority, ours: Pem, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "other", "other")
    with tls_archive(authority, ours, client_certificates=True) as port:
        mistrusted = failure(at(port, tls=True, ca=str(stranger.path)))
        assert mistrusted.cause == causes.TLS
        assert "self-signed certificate" in mistrusted.reason
        anonymous = failure(at(port, tls=True, ca=str(authority.path)))
        assert anonymous.cause == causes.TLS
        assert "certificate" in anonymous.reason
        assert failure(at(port)).cause == causes.SPEAKS_TLS


@pytest.mark.parametrize(
    ("rule", "cause", "advice"),
    [
        ({"require_called_aet": True}, causes.CALLED, "is not called OTHER; correct ae_title"),
        ({"require_calling_aet": ["OTHER"]}, causes.CALLING, "does not know NODE; enter it there"),
    ],
)
def test_titles_that_are_not_known(
    rule: dict, cause: str, advice: str, pacs_factory: Callable[..., Pacs]
) -> None:
    strict = pacs_factory(**rule)
    rejected = failure(replace(strict.destination, ae_title="OTHER"))
    assert (type(rejected), rejected.cause) == (Rejected, cause)
    assert advice in rejected.reason


def test_a_port_that_speaks_no_dicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(association, "ACSE_SECONDS", 0.5)
    monkeypatch.setattr(causes, "PROBE_SECONDS", 0.5)

    def abort(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(ABORT)
        connection.close()

    def close(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.close()

    def banner(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
        connection.close()

    kept: list[socket.socket] = []
    for answer, cause in (
        (abort, causes.ABORTED),
        (close, causes.CLOSED),
        (banner, causes.CLOSED),
        (kept.append, causes.SILENT),
    ):
        with answering(answer) as port:
            assert failure(at(port)).cause == cause


@pytest.mark.peer
@pytest.mark.parametrize("encrypted", [False, True])
def test_dcmtk_storescp(encrypted: bool, authority: Authority, ours: Pem, tmp_path: Path) -> None:
    port = free_port()
    options = [*ours.dcmtk, "-ic"] if encrypted else []
    command = [peer("storescp"), *options, "-od", str(tmp_path), str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: listens(port), "storescp")
            told = failure(at(port, tls=not encrypted, ca=str(authority.path)))
        finally:
            process.terminate()
    assert told.cause == (causes.SPEAKS_TLS if encrypted else causes.NO_TLS), told.reason
