"""One role, in a process of its own: ``python -P -m dicom_node.role ROLE [CONFIG]``.

receive   the Storage SCP; receive-2, receive-3 ... are further processes of it, on the same port
work      queue cpu: assemble, report
deliver   queue deliver; ``work+deliver`` is both in one process
infer     queue gpu: the analyses, which run in a process apart, the only one with torch
web       the status page and the metrics; only looks
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from logging import ERROR
from pathlib import Path

from dicom_node.audit import recording
from dicom_node.errors import AskedToStop, CannotListen, NodeError, SettingsError
from dicom_node.listener import alone, inherited
from dicom_node.logs import log, write_logs
from dicom_node.pseudonyms import open_pseudonyms
from dicom_node.pulse import pulse
from dicom_node.settings import Settings, load
from dicom_node.termination import on_signals

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


def main(role: str, config_path: Path | None) -> int:
    """Run a role until SIGTERM, or until the parent is gone. Returns the exit status.

    Asked to stop, it takes nothing new, finishes what is in hand within ``node.drain_seconds``, and leaves
    the rest to the next start, or to other machines.
    """
    name = role.split("+", 1)[0]
    kind = role.partition("-")[0]
    stop = on_signals(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and passes on SIGTERM
    lines = write_logs(name)
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    try:
        settings = load(config_path)
        lines.pseudonyms = open_pseudonyms(settings)
        executor = executor_id(settings, name)
        start = _START.get(kind) or _work_on(role)
        with alone(settings, name), recording(settings, executor, lines.pseudonyms):
            finish = start(settings, executor, stop)
            with pulse(settings, executor, kind):
                stop.wait()
            status = finish()
    except AskedToStop as error:
        log("role stopped", reason=str(error))
        return 0
    except NodeError as error:
        log("role failed", ERROR, reason=str(error))
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
        receiver = Receiver(settings, name, inherited())
    except OSError as error:
        if error.filename is not None:
            sentence = f"{error.filename}: {error.strerror}; is node.files_dir right, and ours?"
            raise NodeError(sentence) from error
        where = f"{settings.receive.host}:{settings.receive.port}"
        raise CannotListen(where, error) from error
    receiver.start()
    _ready(role=name.rpartition(":")[2], port=receiver.port)
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

    web = Web(settings)
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
