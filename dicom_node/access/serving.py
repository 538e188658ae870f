"""A web server behind the door: STOW-RS and the status page are guarded alike, as both listen here."""

import asyncio
import logging
import socket
import threading
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from dicom_node.access.rules import networks_of
from dicom_node.access.start import web_logins
from dicom_node.access.tls import server_context
from dicom_node.access.web import Refused, WebDoor
from dicom_node.errors import CannotListen
from dicom_node.settings import Settings

CONCURRENT_REQUESTS = 64
IDLE_SECONDS = 5
"""Idle connections go soon, as those of the SCP."""


class Impatient(H11Protocol):
    """Closes a connection on which no request comes; else silent ones would take every place for ever."""

    request_seconds = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_after(None)

    def _wait_after(self, last: Any) -> None:
        self.loop.call_later(self.request_seconds, self._look, last)

    def _look(self, last: Any) -> None:
        """Close when the last request is the same as at the last look, and answered."""
        if self.transport.is_closing():
            return
        is_over = self.cycle is None or self.cycle.response_complete
        if is_over and self.cycle is last:
            self.transport.close()
        else:
            self._wait_after(self.cycle)


class Guarded:
    """An application on a port, in a thread of its own. Raises CannotListen."""

    def __init__(
        self, settings: Settings, app: ASGIApp, host: str, port: int, refused: Refused
    ) -> None:
        logins = web_logins(settings, host)
        context = server_context(settings.tls)
        seconds = settings.receive.limits.request_seconds
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise CannotListen(f"{host}:{port}", error) from error
        # asyncio does so only for sockets that it made; without it every answer waits 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = uvicorn.Server(
            uvicorn.Config(
                WebDoor(app, networks_of(settings.access.networks), logins, refused),
                ssl_context_factory=(lambda *_: context) if context else None,
                log_config=None,
                access_log=False,
                lifespan="off",
                http=type("Http", (Impatient,), {"request_seconds": seconds}),
                limit_concurrency=CONCURRENT_REQUESTS,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=IDLE_SECONDS,
            )
        )
        for handler in logging.getLogger("dicom_node").handlers:  # what goes wrong there is ours
            logging.getLogger("uvicorn.error").addHandler(handler)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), daemon=True
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting; a request that does not end soon is cut off."""
        self._server.should_exit = True
        self._thread.join(timeout=2 * IDLE_SECONDS)
        self._socket.close()
