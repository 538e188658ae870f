"""How much one web request may bring: by what its header says, and by what comes."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from dicom_node.errors import Oversized
from dicom_node.settings import Limits

MIB = 1 << 20
LOOK_BYTES = 32 * MIB
"""How often free space is looked at within one body."""

TOO_LARGE = 413
"""Payload Too Large, PS3.18 table 8.5-1."""

LINGER_SECONDS = 5.0
"""For a client that sends all before it listens: at once closed, the line would break under the answer."""


def announced(request: Request, limits: Limits) -> str:
    """Why the body that a request's header announces is too large, or ""."""
    length = int(request.headers.get("content-length", 0))
    return _sentence(limits) if length > limits.request_mib * MIB else ""


class Body:
    """The bytes of one body, counted as they come."""

    def __init__(self, limits: Limits, is_short: Callable[[], bool]) -> None:
        self._limits = limits
        self._is_short = is_short
        self._size = 0

    def add(self, count: int) -> None:
        """So many more. Raises Oversized, and OSError where the disk runs short meanwhile."""
        before, self._size = self._size, self._size + count
        if self._size > self._limits.request_mib * MIB:
            raise Oversized("", _sentence(self._limits))
        if before // LOOK_BYTES < self._size // LOOK_BYTES and self._is_short():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sentence(limits: Limits) -> str:
    return (
        f"the request is larger than {limits.request_mib} MiB (receive.limits.request_mib); "
        "send the study in several requests"
    )


class TooLarge(PlainTextResponse):
    """The answer to what is too large: said before the rest has come, which is dropped, not waited for."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, TOO_LARGE, {"Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, read on for a moment, and close."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})
