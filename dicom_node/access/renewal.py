"""Certificates, keys and revocation lists that change while the node runs: taken at the next handshake."""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.settings import Tls

LOGGER = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


class Renewal:
    """The ``sni_callback`` of a server's context: OpenSSL calls it at each handshake, named or not.

    Files that are wrong, or half written, change nothing: the former are used, and the log says why.
    """

    def __init__(
        self, tls: Tls, context: ssl.SSLContext, make: Callable[[Tls], ssl.SSLContext]
    ) -> None:
        self._tls = tls
        self._context = context
        self._make = make
        password = tls.key_password_from.removeprefix("file:")
        paths = (tls.certificate, tls.private_key, tls.ca, tls.crl, password)
        self._paths = tuple(Path(path) for path in paths if path)
        self._stamps = self._look()
        self._renewed_at = 0
        self._lock = threading.Lock()

    def __call__(
        self, line: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _first: ssl.SSLContext
    ) -> int | None:
        """Give a connection that shakes hands what the files hold now; an alert ends it."""
        with self._lock:
            if (stamps := self._look()) != self._stamps:
                self._stamps = stamps
                self._renew()
        line.context = self._context
        # A session of TLS 1.2 that is resumed was verified when it began, not now; its client begins anew.
        session = line.session if line.session_reused else None
        if session and session.time <= self._renewed_at:
            return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        return None

    def _renew(self) -> None:
        try:
            self._context = self._make(self._tls)
        except SettingsError as error:
            fields = {"reason": f"{error}; the former are used"}
            LOGGER.warning("failed to take new certificates", extra={"fields": fields})
        else:
            self._renewed_at = int(time.time())
            LOGGER.info("new certificates taken", extra={"fields": {}})

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_ino, status.st_size
