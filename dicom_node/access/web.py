"""The door of a web server: address, then HTTP Basic, before the application behind it is asked.

``serving.Guarded`` puts it before an application on a port.

``logins`` is None where nobody must log in (on loopback); ``start.web_logins`` decides that. Basic, since
it is what every DICOMweb client can do, and over TLS it is as good as a token. Requests are answered with 403
(address), 401 (no login, or a wrong one) or 429 (too many wrong ones, RFC 6585); web sockets are closed.
``scope["state"]["user"]`` names who has logged in, for an audit trail.
"""

import base64
import logging
from collections.abc import Callable, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from dicom_node.access.logins import WINDOW_SECONDS, Logins, Verdict
from dicom_node.access.rules import Network, admits

LOGGER = logging.getLogger(__name__)

UNAUTHORIZED, FORBIDDEN, TOO_MANY_REQUESTS = 401, 403, 429
NO_LOGIN = "no login"
Refused = Callable[[str, str, str], None]
"""Told of each refusal: the address, the user that was named or "", and why."""

CHALLENGE = {"WWW-Authenticate": 'Basic realm="dicom-node", charset="UTF-8"'}


class WebDoor:
    """An ASGI application that lets through to another one whom the rules let in."""

    def __init__(
        self, app: ASGIApp, networks: Sequence[Network], logins: Logins | None, refused: Refused
    ) -> None:
        self._app = app
        self._refused = refused
        self._networks = networks
        self._logins = logins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer in place of the application."""
        refusal = None if scope["type"] == "lifespan" else await self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            await refusal(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        address = scope["client"][0] if scope.get("client") else ""
        if not admits(self._networks, address):
            reason = "its address is in none of access.networks"
            return self._refuse(FORBIDDEN, reason, address)
        if self._logins is None:
            return None
        header = Headers(scope=scope).get("authorization")
        if header is None:
            self._refused(address, "", NO_LOGIN)
            return PlainTextResponse("log in", UNAUTHORIZED, CHALLENGE)  # how every login begins
        name, passcode = _basic(header)
        verdict = await run_in_threadpool(self._logins.check, address, name, passcode)
        if verdict is Verdict.TOO_MANY:
            return self._refuse(TOO_MANY_REQUESTS, verdict.value, address, name)
        if verdict is Verdict.WRONG:
            return self._refuse(UNAUTHORIZED, verdict.value, address, name)
        scope.setdefault("state", {})["user"] = name
        return None

    def _refuse(self, status: int, reason: str, address: str, user: str = "") -> Response:
        self._refused(address, user, reason)
        LOGGER.info("request refused", extra={"fields": {"peer": address, "reason": reason}})
        wait = {"Retry-After": f"{WINDOW_SECONDS:.0f}"}
        more = {UNAUTHORIZED: CHALLENGE, TOO_MANY_REQUESTS: wait}
        return PlainTextResponse(reason, status, more.get(status))


def _basic(header: str) -> tuple[str, str]:
    """User and passcode of an Authorization header, RFC 7617; a damaged one is nobody's."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return "", ""
    name, _, passcode = text.partition(":")
    return name, passcode
