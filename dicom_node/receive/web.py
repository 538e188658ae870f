"""The web server beside the SCP, in the same process: one transaction, one index, another door."""

import logging
import socket
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from dicom_node.access.rules import networks_of
from dicom_node.access.start import web_logins
from dicom_node.access.tls import server_context
from dicom_node.access.web import WebDoor
from dicom_node.receive.carriers import Carriers
from dicom_node.receive.intake import Intake
from dicom_node.receive.stow import Stow
from dicom_node.settings import Settings

CONCURRENT_REQUESTS = 64
IDLE_SECONDS = 5
"""Idle connections go soon, as those of the SCP."""


class Web:
    """STOW-RS on the receiver's host and web port. Raises OSError when it cannot listen there."""

    def __init__(self, settings: Settings, intake: Intake, carriers: Carriers) -> None:
        here = settings.receive
        self._stow = Stow(intake, carriers, here.private_sop_classes)
        routes = [
            Route("/studies", self._stow.store, methods=["POST"]),
            Route("/studies/{study}", self._stow.store, methods=["POST"]),
        ]
        logins = web_logins(settings, here.host)
        door = WebDoor(Starlette(routes=routes), networks_of(settings.access.networks), logins)
        context = server_context(settings.tls)
        family = socket.AF_INET6 if ":" in here.host else socket.AF_INET
        self._socket = socket.create_server((here.host, here.web_port), family=family)
        # asyncio does so only for sockets that it made; without it every answer waits 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = uvicorn.Server(
            uvicorn.Config(
                door,
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

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting; a request that does not end soon is cut off."""
        self._server.should_exit = True
        self._thread.join(timeout=2 * IDLE_SECONDS)
        self._socket.close()
