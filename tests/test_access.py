"""Access to an encrypted node: who is heard, who comes in, and why others do not; with real DCMTK."""

import contextlib
import http.client
import os
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from typer.testing import CliRunner

from dicom_node.access.tls import server_context
from dicom_node.check import check
from dicom_node.cli import app
from dicom_node.deliver import deliver, echo
from dicom_node.errors import DeliveryError, Unreachable
from dicom_node.receive import door
from dicom_node.settings import Limits, Tls
from tests.certificates import Authority
from tests.conftest import free_port, make_study, peer, wait_for
from tests.dicom_scanner import Scanner, ask_commitment, sop_uids, store
from tests.guarded import BEYOND, ELSEWHERE, HERE, Guarded, post, start_guarded

PEER_PORT = free_port()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """TLS with client certificates, some networks, some callers."""
    rules = f"""
[access]
networks = ["{HERE}", "127.0.0.2/31"]
[[access.callers]]
ae_title = "US1"
certificate_name = "us1"
[[access.callers]]
ae_title = "US2"
networks = ["{ELSEWHERE}/32"]
[[access.callers]]
ae_title = "DCMTK"
[[peers]]
ae_title = "DCMTK"
host = "{HERE}"
port = {PEER_PORT}
tls = true
"""
    with start_guarded(tmp_path_factory.mktemp("tls"), rules, tls=True) as guarded:
        yield guarded


@pytest.mark.peer
def test_dcmtk_comes_in_with_a_certificate_of_ours_alone(
    encrypted: Guarded, tmp_path: Path
) -> None:
    trusted, caller = ["+cf", str(encrypted.authority.path)], ["-aet", "DCMTK"]
    for profile in ("+px", "+py", "+pz"):
        right = [*encrypted.scanner.dcmtk, *trusted, profile, *caller]
        assert encrypted.ask("echoscu", *right) == 0, profile
    (path, *_) = make_study(tmp_path / "sent", seed=61)
    address = ["-aec", "DICOM_NODE", HERE, str(encrypted.node.node.port)]
    subprocess.run([peer("storescu"), *right, *address, str(path)], check=True, timeout=60)
    assert encrypted.node.rows("select calling_ae, count(*) from instances") == [("DCMTK", 1)]

    stranger = Authority(tmp_path / "other", "other").issue("us1")
    refused = {
        "plain": (caller, "wrong version number"),
        "anonymous": (["+tla", "-ic", *caller], "peer did not return a certificate"),
        "another authority": ([*stranger.dcmtk, *trusted, *caller], "unable to get local issuer"),
        "retired profile": ([*encrypted.scanner.dcmtk, *trusted, "+pa", *caller], "no shared"),
    }
    for name, (options, reason) in refused.items():
        assert encrypted.ask("echoscu", *options) != 0, name
        assert reason in encrypted.reason(), name


def negotiated(guarded: Guarded, *options: str) -> str:
    """The version and suite that OpenSSL's client gets, "" where it is refused."""
    where = ["-connect", f"{HERE}:{guarded.node.node.port}"]
    mine = ["-cert", str(guarded.scanner.certificate), "-key", str(guarded.scanner.private_key)]
    command = [peer("openssl"), "s_client", *where, *mine, "-brief", *options]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=60)
    lines = dict(line.split(": ", 1) for line in done.stderr.splitlines() if ": " in line)
    return " ".join(filter(None, (lines.get("Protocol version"), lines.get("Ciphersuite"))))


@pytest.mark.peer
def test_old_versions_and_weak_suites_are_refused(encrypted: Guarded) -> None:
    assert negotiated(encrypted, "-tls1_3").startswith("TLSv1.3 ")
    strong = "ECDHE-RSA-AES128-GCM-SHA256"
    assert negotiated(encrypted, "-tls1_2", "-cipher", strong) == f"TLSv1.2 {strong}"
    anything = ["-cipher", "ALL:@SECLEVEL=0"]
    for version in ("-tls1", "-tls1_1"):
        assert negotiated(encrypted, version, *anything) == ""
        assert "unsupported protocol" in encrypted.reason()
    weak = (
        "DHE-RSA-AES256-GCM-SHA384:AES256-SHA:AES256-GCM-SHA384:ECDHE-RSA-AES256-SHA384:@SECLEVEL=0"
    )
    assert negotiated(encrypted, "-tls1_2", "-cipher", weak) == ""
    assert "no shared cipher" in encrypted.reason()


def test_callers_addresses_and_certificates(encrypted: Guarded, tmp_path: Path) -> None:
    echo(encrypted.destination, "US1")
    other = encrypted.authority.issue("us9")
    borrowed = replace(
        encrypted.destination,
        certificate=str(other.certificate),
        private_key=str(other.private_key),
    )
    for destination, title, reason in (
        (borrowed, "US1", "its certificate has another name"),
        (encrypted.destination, "US3", "access.callers does not name it"),
        (encrypted.destination, "US2", "it calls from another address"),
    ):
        with pytest.raises(DeliveryError, match="Calling AE title not recogni"):
            echo(destination, title)
        assert reason in encrypted.reason()
    assert established(encrypted, "US2", ELSEWHERE)
    assert not established(encrypted, "US2", BEYOND)
    assert "none of access.networks" in encrypted.reason()


def established(guarded: Guarded, title: str, source: str) -> bool:
    """Whether an association from another address of this machine comes about."""
    entity = AE(title)
    entity.add_requested_context(Verification)
    association = entity.associate(
        HERE,
        guarded.node.node.port,
        ae_title="DICOM_NODE",
        tls_args=(guarded.context(), HERE),
        bind_address=(source, 0),
    )
    if not association.is_established:
        return False
    association.release()
    return True


def test_silent_clients_do_not_keep_others_out(encrypted: Guarded) -> None:
    address = (HERE, encrypted.node.node.port)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(12)]
        echo(encrypted.destination, "US1")  # before their deadline; a listener that waits has 36 s
        dripping = stack.enter_context(socket.create_connection(address))
        plain = stack.enter_context(socket.create_connection(address))
        slow = stack.enter_context(encrypted.context().wrap_socket(plain, server_hostname=HERE))
        slow.sendall(b"\x01\x00\x00")  # half of a PDU's header
        with contextlib.suppress(ConnectionError):
            for byte in bytes([22, 3, 1, 0, 255, *bytes(99)]):  # a ClientHello that never ends
                dripping.sendall(bytes([byte]))
                if select.select([dripping], [], [], 0.2)[0]:
                    break  # closed, though it never was silent
            else:
                pytest.fail("it may drip for ever")
        for line in (*silent, slow):
            line.settimeout(5 * door.HANDSHAKE_SECONDS)
            assert line.recv(1) == b""  # closed by its deadline
    timeouts = len(silent) + 1
    wait_for(lambda: encrypted.log.read_text().count("timed out") == timeouts, "the reasons")
    os.truncate(encrypted.log, 0)


def test_handshakes_count_among_the_connections_of_an_address(
    encrypted: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_SECONDS", 60.0)
    ours = encrypted.authority.issue("ours")
    tls = Tls(
        certificate=str(ours.certificate),
        private_key=str(ours.private_key),
        client_certificates=False,
    )
    entity = AE("NODE")
    entity.add_supported_context(Verification)
    listener = entity.make_server(
        (HERE, 0), ssl_context=server_context(tls), server_class=door.DoorServer
    )
    listener.limits = Limits(associations_per_address=2)
    threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
    address = listener.server_address
    with socket.create_connection(address) as one, socket.create_connection(address) as two:
        wait_for(lambda: listener._starting[HERE] == 2, "two handshakes")
        with socket.create_connection(address, timeout=30) as third:
            assert third.recv(1) == b""
        for line in (one, two):
            line.setblocking(False)
            with pytest.raises(BlockingIOError):
                line.recv(1)
    wait_for(lambda: not listener._starting[HERE], "their end")
    listener.shutdown()


def test_the_web_speaks_tls_alone(encrypted: Guarded) -> None:
    context = ssl.create_default_context(cafile=encrypted.authority.path)
    with pytest.raises((ssl.SSLError, ConnectionError)):  # without a certificate
        post(http.client.HTTPSConnection(HERE, encrypted.web_port, timeout=60, context=context))
    context.load_cert_chain(encrypted.scanner.certificate, encrypted.scanner.private_key)
    there = (HERE, encrypted.web_port)
    line = http.client.HTTPSConnection(*there, timeout=60, context=context)
    assert post(line).status == 415
    assert "multipart/related" in encrypted.reason()
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        post(http.client.HTTPConnection(*there, timeout=60))
    line = http.client.HTTPSConnection(
        *there, timeout=60, context=context, source_address=(BEYOND, 0)
    )
    assert post(line).status == 403
    assert "none of access.networks" in encrypted.reason()


def test_an_answer_to_commitment_is_brought_over_tls(encrypted: Guarded, tmp_path: Path) -> None:
    scanner = Scanner("DCMTK", (encrypted.context(), HERE))
    paths = make_study(tmp_path / "sent", seed=64)
    association = scanner.associate(encrypted.node)
    store(association, *paths)
    mine = encrypted.scanner
    tls = Tls(
        certificate=str(mine.certificate),
        private_key=str(mine.private_key),
        ca=str(encrypted.authority.path),
    )
    with scanner.listening(PEER_PORT, server_context(tls)):
        assert ask_commitment(association, sop_uids(paths)) == 0x0000
        association.release()
        assert scanner.report() == (1, sop_uids(paths), {})


def test_check_knows_a_running_node_behind_its_door(encrypted: Guarded) -> None:
    found = {each.what: each for each in check(encrypted.settings)}
    assert found["port"].good
    assert "a node is running and shows our certificate" in found["port"].sentence
    assert "89 days left" in found["certificate"].sentence
    wait_for(lambda: "refused" in encrypted.log.read_text(), "our look in the log")
    os.truncate(encrypted.log, 0)


@pytest.mark.peer
def test_delivery_over_tls_to_dcmtk(encrypted: Guarded, tmp_path: Path) -> None:
    """storescp that wants our certificate and has one of the house."""
    port, kept = free_port(), tmp_path / "kept"
    kept.mkdir()
    paths = make_study(tmp_path / "sent", seed=63)
    trusted = ["+cf", str(encrypted.authority.path)]
    pacs = encrypted.authority.issue("pacs")
    command = [peer("storescp"), *pacs.dcmtk, *trusted, "-od", str(kept), str(port)]
    right = replace(encrypted.destination, name="pacs", ae_title="PACS", port=port)
    with subprocess.Popen(command) as process:
        try:

            def sent() -> bool:
                try:
                    return bool(deliver(paths, right, "NODE"))
                except Unreachable:
                    return False

            wait_for(sent, "storescp")
            wait_for(lambda: len(list(kept.iterdir())) == len(paths), "the files")
            stranger = Authority(tmp_path / "other", "other")
            for changes, reason in (
                ({"ca": str(stranger.path)}, "certificate in certificate chain"),
                ({"server_name": "pacs.example"}, "Hostname mismatch"),
                ({"certificate": "", "private_key": ""}, "handshake failure|certificate required"),
                ({"ca": str(tmp_path / "none")}, "cannot be read"),
                ({"tls": False}, "no association"),
            ):
                with pytest.raises(Unreachable, match=reason):
                    deliver(paths, replace(right, **changes), "NODE")
        finally:
            process.terminate()
    assert len(list(kept.iterdir())) == len(paths)


@pytest.mark.peer
def test_send_speaks_tls_as_the_node_does(encrypted: Guarded, tmp_path: Path) -> None:
    paths = make_study(tmp_path / "sent", seed=65)
    authority, mine = encrypted.authority.path, encrypted.scanner
    ours = ["--ca", authority, "--certificate", mine.certificate, "--key", mine.private_key]
    config = tmp_path / "node.toml"
    config.write_text(f'[tls]\n{mine.toml}\nca = "{authority}"\n')

    def send(port: int, *options: str | Path) -> str:
        where = ["--to", f"DICOM_NODE@{HERE}:{port}", "--calling", "DCMTK"]
        done = CliRunner().invoke(app, ["send", *map(str, (*paths, *where, *options))])
        return str(done.exception or "")

    node = encrypted.node.node.port
    assert send(node, "--tls", *ours) == ""
    assert send(node, "--tls", "--config", config) == ""
    for options, words in (
        ((), "no association"),
        (("--tls", "--ca", authority), "certificate required"),
        (("--tls",), "in certificate chain"),
        (("--tls", "--certificate", mine.certificate), "--certificate and --key go together"),
        (("--ca", authority), "mean something only with --tls"),
    ):
        assert words in send(node, *options), options
    os.truncate(encrypted.log, 0)

    port, kept = free_port(), tmp_path / "kept"
    kept.mkdir()
    pacs = encrypted.authority.issue("pacs")
    command = [peer("storescp"), *pacs.dcmtk, "+cf", str(authority), "-od", str(kept), str(port)]
    with subprocess.Popen(command) as process:
        try:
            wait_for(lambda: send(port, "--tls", *ours) == "", "storescp")
        finally:
            process.terminate()
    assert len(list(kept.iterdir())) == len(paths)
