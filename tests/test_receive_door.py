"""Who does not come as far as a request: told with what to do, counted for the alarm, audited."""

import contextlib
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.receive.door import OTHER_ADVICE, advice_for
from dicom_node.receive.refusals import HANDSHAKE, NETWORK
from tests.certificates import Authority, Pem
from tests.conftest import ROOT, wait_for
from tests.guarded import BEYOND, HERE, Guarded, start_guarded
from tests.test_receive_requests import request
from tests.turned_away import audited, counted

RULES = f'[access]\nnetworks = ["{HERE}"]'


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """TLS with client certificates, for one address."""
    with start_guarded(tmp_path_factory.mktemp("tls"), RULES, tls=True) as guarded:
        yield guarded


def shake(guarded: Guarded, pem: Pem | None, ca: Path | None = None) -> None:
    """A handshake that fails, on this side or on the other."""
    context = ssl.create_default_context(cafile=ca or guarded.authority.path)
    if pem:
        context.load_cert_chain(pem.certificate, pem.private_key)
    with (
        pytest.raises((ssl.SSLError, ConnectionError, AssertionError)),
        socket.create_connection((HERE, guarded.node.node.port), 20) as plain,
        context.wrap_socket(plain, server_hostname=HERE) as line,
    ):
        assert line.recv(1)  # in TLS 1.3 a server says here that it does not take a certificate


def test_a_handshake_that_fails_is_counted_and_says_what_to_do(
    encrypted: Guarded, tmp_path: Path
) -> None:
    node, scanner = encrypted.node, encrypted.scanner
    elsewhere = Authority(tmp_path / "elsewhere", "elsewhere")
    address = (HERE, node.node.port)

    def plain() -> None:
        with socket.create_connection(address, 20) as line:
            line.sendall(request())
            with contextlib.suppress(ConnectionResetError):
                assert line.recv(6)[:1] != b"\2"

    def web() -> None:
        line = http.client.HTTPConnection(*address, timeout=20)
        line.request("GET", "/")
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            line.getresponse()

    for attempt, reason, advice in (
        (plain, "wrong version number", "switch TLS on at the sender"),
        (web, "http request", "receive.web_port"),
        (lambda: shake(encrypted, None), "did not return a certificate", r"signed by \[tls\] ca"),
        (lambda: shake(encrypted, elsewhere.issue("us1")), "local issuer", r"\[tls\] ca must hold"),
        (
            lambda: shake(encrypted, scanner, elsewhere.path),
            "unknown ca",
            "give it our authority",
        ),
    ):
        counts, messages = counted(node), audited(node)
        attempt()
        told = encrypted.line()
        assert (told["event"], told["level"], told["peer"]) == (
            "connection refused",
            "warning",
            HERE,
        )
        assert reason in told["reason"]
        assert re.search(advice, told["what"]), told
        assert counted(node) - counts == {HANDSHAKE: 1}
        (message,) = wait_for(lambda seen=messages: audited(node)[len(seen) :], "a message")
        assert reason in message


def test_a_refused_network_is_counted_and_says_what_to_do(encrypted: Guarded) -> None:
    counts = counted(encrypted.node)
    address = (HERE, encrypted.node.node.port)
    with socket.create_connection(address, 20, source_address=(BEYOND, 0)) as line:
        assert line.recv(1) == b""
    told = encrypted.line()
    assert (told["event"], told["peer"]) == ("connection refused", BEYOND)
    assert "access.networks" in told["reason"]
    assert "add its address" in told["what"]
    assert counted(encrypted.node) - counts == {NETWORK: 1}


def test_every_reason_is_counted_from_zero_so_that_the_alarm_sees_it_grow(
    encrypted: Guarded,
) -> None:
    """A count that appears with its first value has not increased."""
    rules = (ROOT / "deploy" / "alerts.yml").read_text()
    expected = 'sum by (reason) (increase(dicom_node_associations_total{outcome="rejected"}[15m]))'
    assert expected in rules
    reasons = counted(encrypted.node, zeros=True)
    assert {HANDSHAKE, NETWORK, "Called AE title not recognised", "Local limit exceeded"} <= {
        *reasons
    }
    assert len(reasons) < 20


def test_advice_fits_the_reason_or_is_general() -> None:
    assert "authority" in advice_for("tlsv1 alert unknown ca")
    assert "clock" in advice_for("certificate is not yet valid")
    assert advice_for("something new") == OTHER_ADVICE
