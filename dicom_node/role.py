"""One role, in a process of its own: ``python -P -m dicom_node.role receive|work|infer [CONFIG]``.

receive   the Storage SCP; never imports torch
work      queues cpu and deliver: assemble, report, deliver
infer     queue gpu: the analyses, with torch, loaded at the start
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from dicom_node.errors import NodeError, SettingsError
from dicom_node.logs import log, write_logs
from dicom_node.settings import Settings, load

QUEUES = {"work": ["cpu", "deliver"], "infer": ["gpu"]}
ROLES = ("receive", *QUEUES)

READY_LINE = '{"event": "ready"'
"""How the one line begins that a role says on its standard output."""

DECODERS = ("gdcm", "jpeg_ls", "openjpeg", "libjpeg", "rle", "pylibjpeg", "PIL", "numpy")
"""What pydicom imports for pixels where it is installed: a third of the receiver's memory."""

LOCK_SECONDS = 20.0
"""The previous process of this role may still be finishing its last step."""

FINISH_SECONDS = 10
"""For the steps in hand when asked to stop; what is cut off runs again at the next start."""


def main(role: str, config_path: Path | None) -> int:
    """Run a role until SIGTERM, or until the parent is gone. Returns the exit status."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and passes on SIGTERM
    write_logs(role)
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    try:
        settings = load(config_path)
        with _alone(settings, role):
            finish = _START[role](settings, executor_id(settings, role))
            stop.wait()
            finish()
    except NodeError as error:
        log("role failed", reason=str(error))
        return 2 if isinstance(error, SettingsError) else 1
    log("role stopped")
    return 0


def executor_id(settings: Settings, role: str) -> str:
    """Under which name DBOS knows this process: fixed, so that a restart finds its own work again."""
    if settings.node.database_url.startswith("sqlite"):
        return role  # one machine by nature; a container's host name may change
    return f"{socket.gethostname()}:{role}"


def _alone(settings: Settings, role: str) -> IO[str]:
    """The role's lock file, held while it is open: two processes of one role would take each other's work."""
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


def _watch_parent(stop: threading.Event) -> None:
    """Standard input is a pipe that nobody writes to; it ends when the parent does."""
    sys.stdin.read()
    stop.set()


def _ready(**told: int | str) -> None:
    log("ready", **told)
    sys.stdout.write(json.dumps({"event": "ready", **told}) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _without_decoders() -> Iterator[None]:
    """Let pydicom find no decoder while it is imported: the receiver keeps images and looks into none."""
    hidden = [name for name in DECODERS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None = cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _receive(settings: Settings, name: str) -> Callable[[], None]:
    with _without_decoders():
        from dicom_node.receive import Receiver  # not at the top: the other roles need no SCP

    try:
        receiver = Receiver(settings, name)
    except OSError as error:
        where = f"{settings.receive.host}:{settings.receive.port}"
        if settings.receive.web_port:
            where += f" and :{settings.receive.web_port}"
        raise NodeError(f"cannot listen on {where}: {error.strerror}") from error
    receiver.start()
    _ready(role="receive", port=receiver.port)
    return receiver.stop


def _work_on(role: str) -> Callable[[Settings, str], Callable[[], None]]:
    def start(settings: Settings, name: str) -> Callable[[], None]:
        from dicom_node.pipeline import Worker  # not at the top: the receiver needs no highdicom

        worker = Worker(settings, name, QUEUES[role])
        _ready(role=role)

        def finish() -> None:
            worker.stop(FINISH_SECONDS)
            log("role stopped")
            # A step that is still running would keep the interpreter; it runs again at the next start.
            os._exit(0)

        return finish

    return start


_START = {"receive": _receive, **{role: _work_on(role) for role in QUEUES}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None))
