"""TLS by the profiles of PS3.15: B.12 (BCP 195, RFC 8996 and 9325) and B.13 (the same, modified).

TLS 1.2 and 1.3, never less; of 1.2 only suites with forward secrecy and authenticated encryption. Peers of
the retired profiles B.9 to B.11 (BCP 195, non-downgrading, extended) have some of them, and connect as well.
"""

import re
import socket
import ssl
from pathlib import Path

from dicom_node.access.renewal import Renewal
from dicom_node.access.secret import read_secret
from dicom_node.errors import SettingsError
from dicom_node.settings import Destination, Identity, Peer, Tls

SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-CCM",
)
"""Of TLS 1.2, as OpenSSL writes them, the preferred first; those of TLS 1.3 are OpenSSL's own choice.

The first four are what RFC 9325 recommends. B.13 also lists Camellia, which OpenSSL does not offer in GCM,
and CCM_8, whose authentication tag is half as long."""

SECURITY_LEVEL = 2
"""Of OpenSSL: RSA and Diffie-Hellman of 2048 bits, curves of 224, no SHA-1 in signatures."""

PROBE_SECONDS = 3.0


def server_context(tls: Tls) -> ssl.SSLContext | None:
    """For every port of the node; None without a certificate. Raises SettingsError that names the file.

    Files that change are taken at the next handshake; associations that are open stay so.
    """
    if not tls.certificate:
        return None
    context = _server_context(tls)
    context.sni_callback = Renewal(tls, context, _server_context)
    return context


def _server_context(tls: Tls) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls)
    # Who resumes a session is not verified again, although revoked since; for TLS 1.2 see Renewal.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    if tls.client_certificates:
        _trust(context, tls)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_arguments(link: Destination | Peer) -> tuple[ssl.SSLContext, str] | None:
    """``tls_args`` of ``AE.associate`` for a peer; None where it speaks no TLS. Raises SettingsError."""
    if not link.tls:
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT, link)
    if link.ca:
        _trust(context, link)
    else:
        context.load_default_certs()
    return context, link.server_name or link.host


def handshake_failure(host: str, port: int, arguments: tuple[ssl.SSLContext, str]) -> str:
    """Why a peer and we do not agree on TLS, as a sentence; "" where we do, or where nobody answers."""
    context, name = arguments
    try:
        with (
            socket.create_connection((host, port), PROBE_SECONDS) as line,
            context.wrap_socket(line, server_hostname=name) as secured,
        ):
            secured.recv(1)  # in TLS 1.3 a peer says here that it does not take our certificate
    except ssl.SSLError as error:
        return f"TLS: {said(error)}"
    except OSError:
        return ""  # nobody there; or silence, which is right: it waits for us to speak
    return ""


def said(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or type(error).__name__).replace("_", " ").lower()


def _context(protocol: ssl._SSLMethod, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join((*SUITES, f"@SECLEVEL={SECURITY_LEVEL}")))
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if identity.certificate:
        _present(context, identity)
    return context


def _present(context: ssl.SSLContext, identity: Identity) -> None:
    for what, path in (
        ("certificate", identity.certificate),
        ("private_key", identity.private_key),
    ):
        _readable(what, path)
    password = identity.key_password_from and read_secret(identity.key_password_from)
    try:
        # Without a password OpenSSL would ask on the terminal.
        context.load_cert_chain(identity.certificate, identity.private_key, lambda: password)
    except ssl.SSLError as error:
        files = f"certificate {identity.certificate} with private_key {identity.private_key}"
        raise SettingsError(f"{files}: {_mistake(error, identity)}") from error


def _mistake(error: ssl.SSLError, identity: Identity) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    if b"ENCRYPTED" not in Path(identity.private_key).read_bytes():
        return "one of them is no PEM file"
    if not identity.key_password_from:
        return "the key has a password; key_password_from must say where it is"
    return "the key's password is wrong; key_password_from says where it is"


def _trust(context: ssl.SSLContext, identity: Identity) -> None:
    _readable("ca", identity.ca)
    try:
        context.load_verify_locations(identity.ca)
    except ssl.SSLError as error:
        raise SettingsError(f"ca {identity.ca}: no certificates in PEM form are in it") from error
    if identity.crl:
        _look_at_revocation(context, identity.crl)


def _look_at_revocation(context: ssl.SSLContext, crl: str) -> None:
    _readable("crl", crl)
    blocks = set(re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", Path(crl).read_bytes()))
    # OpenSSL would trust a certificate in it, and lists often come by plain HTTP.
    if blocks != {b"X509 CRL"}:
        raise SettingsError(
            f"crl {crl}: revocation lists in PEM form, and nothing else, must be in it"
        )
    try:
        context.load_verify_locations(crl)
    except ssl.SSLError as error:
        raise SettingsError(f"crl {crl}: a revocation list in it is damaged") from error
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _readable(what: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"{what} {path} cannot be read: {error.strerror}") from error
