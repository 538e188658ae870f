"""Certificates that are revoked, renewed or out of date, while the node runs; with real DCMTK."""

import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_node import index
from dicom_node.access.certificates import REVOCATION
from dicom_node.check import check
from dicom_node.deliver import echo
from dicom_node.errors import Unreachable
from dicom_node.files import open_files
from dicom_node.settings import Web as Page
from dicom_node.web import Web
from dicom_node.web.gauges import registry
from dicom_node.web.readiness import reasons
from tests.certificates import Pem
from tests.conftest import wait_for
from tests.guarded import HERE, Guarded, post, start_guarded


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with start_guarded(tmp_path_factory.mktemp("crl"), "", tls=True, crl=True) as made:
        yield made


def rings(guarded: Guarded, pem: Pem) -> bool:
    """Whether DCMTK comes in with a certificate."""
    return guarded.ask("echoscu", *pem.dcmtk, "+cf", str(guarded.authority.path)) == 0


def browses(guarded: Guarded, pem: Pem) -> bool:
    context = ssl.create_default_context(cafile=guarded.authority.path)
    context.load_cert_chain(pem.certificate, pem.private_key)
    line = http.client.HTTPSConnection(HERE, guarded.web_port, timeout=60, context=context)
    try:
        return post(line).status == 415
    except (ssl.SSLError, ConnectionError):
        return False


def events(guarded: Guarded, event: str) -> int:
    return guarded.log.read_text().count(f'"{event}"')


def not_ready(guarded: Guarded) -> str:
    """What /readyz says of [tls], and that /metrics says until when the list holds."""
    settings = guarded.settings
    engine = index.open_engine(settings.node.database_url)
    found = reasons(settings, engine, open_files(settings))
    told = "".join(text for text in found if text.startswith("[tls]"))
    scraped = generate_latest(registry(settings, engine)).decode()
    assert f'expiry_timestamp_seconds{{path="{settings.tls.crl}"' in scraped
    engine.dispose()
    return told


@pytest.mark.peer
def test_who_is_revoked_stays_out_and_who_is_in_stays_in(guarded: Guarded) -> None:
    lost = guarded.authority.issue("lost")
    assert rings(guarded, lost)
    assert browses(guarded, lost)
    entity = AE("LOST")
    entity.add_requested_context(Verification)
    context = ssl.create_default_context(cafile=guarded.authority.path)
    context.load_cert_chain(lost.certificate, lost.private_key)
    where = (HERE, guarded.node.node.port)
    association = entity.associate(*where, ae_title="DICOM_NODE", tls_args=(context, HERE))
    assert association.is_established

    guarded.authority.revoke(lost)
    assert not rings(guarded, lost)
    assert not browses(guarded, lost)
    wait_for(lambda: "certificate revoked" in guarded.log.read_text(), "the reason")
    assert rings(guarded, guarded.scanner)
    assert browses(guarded, guarded.scanner)
    assert association.send_c_echo().Status == 0
    association.release()
    assert events(guarded, "new certificates taken") == 2  # the port of DICOM, and that of the web
    assert not_ready(guarded) == ""
    revoked = replace(guarded.destination, crl=str(guarded.authority.revoke(guarded.ours)))
    with pytest.raises(Unreachable, match="certificate revoked"):
        echo(revoked, "US1")


@pytest.mark.peer
def test_a_list_that_is_out_of_date_or_wrong(guarded: Guarded) -> None:
    path = guarded.authority.revoke(days=-1)
    assert not rings(guarded, guarded.scanner)
    wait_for(lambda: "CRL has expired" in guarded.log.read_text(), "the reason")
    (found,) = (each for each in check(guarded.settings) if each.what == REVOCATION)
    assert not found.good
    assert "until the new list is in its place" in found.sentence
    assert found.sentence in not_ready(guarded)

    guarded.authority.revoke()
    assert rings(guarded, guarded.scanner)
    good = path.read_bytes()
    for wrong, words in (
        (good + guarded.authority.path.read_bytes(), "and nothing else"),
        (good[:200], "is damaged"),
        (b"", "and nothing else"),
    ):
        os.truncate(guarded.log, 0)
        path.write_bytes(wrong)
        assert rings(guarded, guarded.scanner)  # by the former
        assert words in guarded.reason()
    guarded.authority.revoke()


def test_a_renewed_certificate_is_shown_at_once(guarded: Guarded) -> None:
    renewed = guarded.authority.issue("renewed", password="secret")
    new = renewed.certificate.read_text()
    for source, target in (
        (renewed.certificate, guarded.ours.certificate),
        (renewed.private_key, guarded.ours.private_key),
    ):
        scratch = target.with_suffix(".new")
        scratch.write_bytes(source.read_bytes())
        scratch.replace(target)
    context = guarded.context()
    for port in (guarded.node.node.port, guarded.web_port):
        with shaken(context, port) as line:
            shown = line.getpeercert(binary_form=True)
            assert shown is not None
            assert ssl.DER_cert_to_PEM_cert(shown) == new


@pytest.mark.parametrize("wanted", [True, False])
def test_the_page_without_a_certificate_where_the_site_says_so(
    guarded: Guarded, wanted: bool
) -> None:
    page = Page(port=0, client_certificates=wanted)
    web = Web(replace(guarded.settings, web=page))
    web.start()
    context = ssl.create_default_context(cafile=guarded.authority.path)
    line = http.client.HTTPSConnection(HERE, web.port, timeout=60, context=context)
    refused = pytest.raises((ssl.SSLError, ConnectionError)) if wanted else contextlib.nullcontext()
    with refused:
        line.request("GET", "/healthz")
        assert line.getresponse().status == 200
    line.close()
    web.stop()


def test_a_session_from_before_a_revocation_is_not_resumed(guarded: Guarded) -> None:
    context = guarded.context()
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        context.maximum_version = version
        for port in (guarded.node.node.port, guarded.web_port):
            with shaken(context, port) as first:  # a server forgets a session that ends badly
                session = first.session
                guarded.authority.revoke(guarded.scanner)
                with pytest.raises((ssl.SSLError, ConnectionError)), shaken(context, port, session):
                    pass
                guarded.authority.revoke()
                with shaken(context, port) as again:
                    assert not again.session_reused


@contextlib.contextmanager
def shaken(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    """A connection; who would resume a session hears in TLS 1.3 only after the handshake that it may not."""
    plain = socket.create_connection((HERE, port), 60)
    with plain, context.wrap_socket(plain, server_hostname=HERE, session=session) as line:
        if session and not line.recv(1):
            raise ConnectionResetError
        yield line
