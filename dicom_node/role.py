"""One role, in a process of its own: ``python -P -m dicom_node.role ROLE [CONFIG]``.

receive   the Storage SCP
work      queue cpu: assemble, report
deliver   queue deliver; ``work+deliver`` is both in one process
infer     queue gpu: the analyses, which run in a process apart, the only one with torch
web       the status page and the metrics; only looks
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

from dicom_node.audit import recording
from dicom_node.errors import NodeError, SettingsError
from dicom_node.logs import log, write_logs
from dicom_node.pseudonyms import open_pseudonyms
from dicom_node.pulse import pulse
from dicom_node.settings import Settings, load

QUEUES = {"work": "cpu", "deliver": "deliver", "infer": "gpu"}
ROLES = ("receive", *QUEUES, "web")
WHOLE = ("receive", "work+deliver", "infer")
"""A whole node on one machine: delivering needs no process of its own."""

READY_LINE, FAILED_LINE = '{"event": "ready"', '{"event": "failed"'
"""How the lines begin that a role says on its standard output."""

BEGINS_ANEW = 70
"""Exit status of a role that is to be started again at once: its database was away."""

DECODERS = ("gdcm", "jpeg_ls", "openjpeg", "libjpeg", "rle", "pylibjpeg", "PIL", "numpy")
"""What pydicom imports for pixels where it is installed: a third of the receiver's memory."""

LISTEN_ADVICE = "; who holds the port (ss -ltnp)? is the host an address of this machine?"

LOCK_SECONDS = 20.0
"""The previous process of this role may still be finishing its last step."""


def main(role: str, config_path: Path | None) -> int:
    """Run a role until SIGTERM, or until the parent is gone. Returns the exit status.

    Asked to stop, it takes nothing new, finishes what is in hand within ``node.drain_seconds``, and leaves
    the rest to the next start, or to other machines.
    """
    name = role.split("+", 1)[0]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and passes on SIGTERM
    lines = write_logs(name)
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    try:
        settings = load(config_path)
        lines.pseudonyms = open_pseudonyms(settings)
        executor = executor_id(settings, name)
        start = _START.get(name) or _work_on(role)
        with _alone(settings, name), recording(settings, executor, lines.pseudonyms):
            finish = start(settings, executor, stop)
            with pulse(settings, executor, role):
                stop.wait()
            status = finish()
    except NodeError as error:
        log("role failed", reason=str(error))
        _say(event="failed", reason=str(error))
        return 2 if isinstance(error, SettingsError) else 1
    log("role stopped")
    # A step that is still running would keep the interpreter; it runs again at the next start.
    os._exit(status)


def executor_id(settings: Settings, role: str) -> str:
    """Under which name DBOS knows this process: fixed, so that a restart finds its own work again."""
    if settings.node.database_url.startswith("sqlite"):
        return role  # one machine by nature; a container's host name may change
    return f"{settings.node.name or socket.gethostname()}:{role}"


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
    _say(event="ready", **told)


def _say(**told: int | str) -> None:
    """To the parent, which reads our standard output."""
    sys.stdout.write(json.dumps(told) + "\n")
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


def _receive(settings: Settings, name: str, _stop: threading.Event) -> Callable[[], int]:
    with _without_decoders():
        from dicom_node.receive import Receiver  # not at the top: the other roles need no SCP

    try:
        receiver = Receiver(settings, name)
    except OSError as error:
        if error.filename is not None:
            sentence = f"{error.filename}: {error.strerror}; is node.files_dir right, and ours?"
            raise NodeError(sentence) from error
        where = f"{settings.receive.host}:{settings.receive.port}"
        if settings.receive.web_port:
            where += f" and :{settings.receive.web_port}"
        raise NodeError(f"cannot listen on {where}: {error.strerror}{LISTEN_ADVICE}") from error
    receiver.start()
    _ready(role="receive", port=receiver.port)
    return _in_peace(receiver.stop)


def _work_on(role: str) -> Callable[[Settings, str, threading.Event], Callable[[], int]]:
    def start(settings: Settings, name: str, stop: threading.Event) -> Callable[[], int]:
        from dicom_node.keep.keeper import Keeper
        from dicom_node.pipeline import Worker  # not at the top: the receiver needs no highdicom

        words = role.split("+")
        worker = Worker(settings, name, [QUEUES[word] for word in words], stop)
        keeper = Keeper(settings) if "work" in words else None
        _ready(role=words[0])

        def finish() -> int:
            if keeper:
                keeper.stop()
            worker.stop()
            return BEGINS_ANEW if worker.begins_anew else 0

        return finish

    return start


def _watch(settings: Settings, _name: str, _stop: threading.Event) -> Callable[[], int]:
    from dicom_node.web import Web  # not at the top: the other roles draw no pages

    try:
        web = Web(settings)
    except OSError as error:
        where = f"{settings.web.host}:{settings.web.port}"
        raise NodeError(f"cannot listen on {where}: {error.strerror}{LISTEN_ADVICE}") from error
    web.start()
    _ready(role="web", web_port=web.port)
    return _in_peace(web.stop)


def _in_peace(stop: Callable[[], None]) -> Callable[[], int]:
    """A way to stop that gives exit status 0."""

    def finish() -> int:
        stop()
        return 0

    return finish


_START = {"receive": _receive, "web": _watch}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None))
