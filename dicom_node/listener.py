"""One listening socket for several processes of the receiver: whoever is free accepts the next connection.

The parent binds it and each process inherits it. That no other node listens on the port is found out as
always, which it would not be if each process bound the port for itself (SO_REUSEPORT).
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterable
from typing import IO

from dicom_node.errors import CannotListen, NodeError
from dicom_node.settings import Settings

VARIABLE = "DICOM_NODE_LISTENER"
"""Of the environment: the descriptor that a process has inherited."""

LOCK_SECONDS = 20.0
"""The previous process of a role may still be finishing its last step."""


def alone(settings: Settings, role: str) -> IO[str]:
    """The role's lock file, held while it is open: two processes of one role would take each other's work.

    Raises NodeError when another holds it.
    """
    path = settings.node.data_dir / f"{role}.lock"
    file = path.open("w")
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise NodeError(f"another node is running on {settings.node.data_dir}") from None
            time.sleep(0.1)
        else:
            return file


def listen(settings: Settings, roles: Iterable[str]) -> socket.socket:
    """Bind the receiver's port, once those who had it last have gone. Raises CannotListen, NodeError."""
    for role in roles:
        alone(settings, role).close()
    here = settings.receive
    family = socket.AF_INET6 if ":" in here.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((here.host, here.port))
        listener.listen()
        return listener
    except OSError as error:
        listener.close()
        raise CannotListen(f"{here.host}:{here.port}", error) from error


def inherited() -> socket.socket | None:
    """The parent's socket, where there is one for several processes."""
    descriptor = os.environ.get(VARIABLE)
    return socket.socket(fileno=int(descriptor)) if descriptor else None
