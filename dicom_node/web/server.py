"""The web role's server: the application on its own port."""

import logging
import socket
import threading

import uvicorn

from dicom_node import index
from dicom_node.access.rules import networks_of
from dicom_node.access.start import web_logins
from dicom_node.access.tls import server_context
from dicom_node.access.web import WebDoor
from dicom_node.pseudonyms import open_pseudonyms
from dicom_node.settings import Settings
from dicom_node.web.app import make_app

CONCURRENT_REQUESTS = 64
IDLE_SECONDS = 5
BUSY_SECONDS = 3.0
"""A database that does not answer within is away: who asks whether the node is ready must hear soon."""


class Web:
    """Listens from the start. Raises OSError when it cannot."""

    def __init__(self, settings: Settings) -> None:
        host, port = settings.web.host, settings.web.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        # asyncio does so only for sockets that it made; without it every answer waits 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._engine = index.open_engine(settings.node.database_url, BUSY_SECONDS)
        app = make_app(settings, self._engine, open_pseudonyms(settings))
        logins = web_logins(settings, host)
        context = server_context(settings.tls)
        self._server = uvicorn.Server(
            uvicorn.Config(
                WebDoor(app, networks_of(settings.access.networks), logins),
                ssl_context_factory=(lambda *_: context) if context else None,
                log_config=None,
                access_log=False,
                lifespan="off",
                http="h11",
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
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join(timeout=2 * IDLE_SECONDS)
        self._socket.close()
        self._engine.dispose()
