"""Syslog to the audit record repository: RFC 5424 messages over TLS (RFC 5425), TCP or UDP (RFC 5426).

PS3.15 sections A.6 and A.7: facility 10, MSGID ``DICOM+RFC3881``, the XML in UTF-8 after a byte order mark.
The standard library's own handler knows neither RFC 5424 nor TLS, and no library that does is kept up.
"""

import contextlib
import os
import re
import socket
import ssl
from typing import Protocol

from dicom_node.errors import SettingsError
from dicom_node.settings import Audit

SECURITY, NOTICE, WARNING = 10, 5, 4
"""Facility and severities, RFC 5424 section 6.2.1."""

MESSAGE_ID = "DICOM+RFC3881"
CONNECT_SECONDS, SEND_SECONDS, CLOSE_SECONDS = 5.0, 30.0, 2.0
WHEN = re.compile(r'EventDateTime="([^"]+)"')
SUCCEEDED = 'EventOutcomeIndicator="0"'


class Link(Protocol):
    """A way to the server. Every method raises OSError when it is gone."""

    def send(self, message: bytes) -> None:
        """Hand one message over."""

    def check(self) -> None:
        """Whether the server is still there, as far as can be known."""

    def finish(self) -> None:
        """End in order: returns when the server has read all, or raises."""

    def drop(self) -> None:
        """End at once; raises nothing."""


def syslog_message(xml: str, process: str) -> bytes:
    """One message without framing, RFC 5424 section 6; its time is that of the event."""
    when = WHEN.search(xml)
    priority = SECURITY * 8 + (NOTICE if SUCCEEDED in xml else WARNING)
    header = [f"<{priority}>1", when[1] if when else "-", os.uname().nodename, "dicom-node"]
    return " ".join([*header, process, MESSAGE_ID, "-", "\ufeff" + xml]).encode()


def connector(settings: Audit) -> "Connector":
    """Raises SettingsError when a certificate cannot be read."""
    return Connector(settings, _tls(settings) if settings.transport == "tls" else None)


class Connector:
    """Makes links."""

    def __init__(self, settings: Audit, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._tls = tls

    def connect(self) -> Link:
        """Raises OSError."""
        host, port = self._settings.host, self._settings.port
        if self._settings.transport == "udp":
            return _Datagrams(host, port)
        connection = socket.create_connection((host, port), CONNECT_SECONDS)
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_hostname=host)
        except OSError:
            connection.close()
            raise
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return _Stream(connection)


class _Stream:
    """Octet counting, RFC 5425 section 4.3 and RFC 6587 section 3.4.1."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: bytes) -> None:
        self._connection.settimeout(SEND_SECONDS)
        self._connection.sendall(f"{len(message)} ".encode() + message)

    def check(self) -> None:
        """A server says nothing; what can be read is its end."""
        self._connection.settimeout(0)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            if not self._connection.recv(1024):
                raise ConnectionResetError("the server has closed the connection")

    def finish(self) -> None:
        self._connection.settimeout(CLOSE_SECONDS)
        # Many servers close without TLS's own farewell; unread data would have been a reset.
        with contextlib.suppress(ssl.SSLEOFError):
            if isinstance(self._connection, ssl.SSLSocket):
                self._connection = self._connection.unwrap()
            self._connection.shutdown(socket.SHUT_WR)
            while self._connection.recv(1024):
                pass

    def drop(self) -> None:
        self._connection.close()


class _Datagrams:
    """One message per datagram: nobody knows whether it arrives."""

    def __init__(self, host: str, port: int) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[
            0
        ]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.connect(address)

    def send(self, message: bytes) -> None:
        self._socket.send(message)

    def check(self) -> None:
        return

    def finish(self) -> None:
        return

    def drop(self) -> None:
        self._socket.close()


def _tls(settings: Audit) -> ssl.SSLContext:
    """BCP 195: TLS 1.2 or later, and the server must be who it says."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.private_key or None)
    except OSError as error:
        raise SettingsError(f"[audit] certificates cannot be read: {error}") from error
    return context
