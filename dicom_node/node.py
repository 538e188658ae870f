"""The switch: starts one process per role, keeps each alive, and stops them.

The parent migrates the database and then only watches. Each role is a fresh interpreter, never a fork. A role
that dies is started again under the same executor id, and goes on where it was cut off. When the parent dies,
its roles notice (their standard input ends) and stop as well.

Standard output is for whoever started the node: one JSON line when all roles are ready, with the bound port.
Standard error is the log: one JSON line per event.
"""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dicom_node.access.start import refuse, warn
from dicom_node.counters import FOLDER_VARIABLE, ROLE_VARIABLE
from dicom_node.errors import NodeError, SettingsError
from dicom_node.listener import VARIABLE, listen
from dicom_node.logs import log, write_logs
from dicom_node.migrations import MIGRATION_ERRORS, migrate
from dicom_node.pseudonyms import open_pseudonyms
from dicom_node.role import BEGINS_ANEW, FAILED_LINE, READY_LINE, ROLES, WHOLE
from dicom_node.settings import Settings
from dicom_node.termination import on_signals

READY_SECONDS = 120.0
"""For the first readiness of all roles; a slow disk loads torch in half a minute."""

HEARD_SECONDS = 1.0
"""For the last words of a role that has ended."""

STOP_SECONDS = 10.0
"""For a role to end, beyond the time it has to finish what is in hand."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
DEFAULTS = {"receive": {"MALLOC_ARENA_MAX": "2"}}
"""Of the environment. A thread for each association would keep a heap of its own: 16 of them, 9 MB."""

HEALTHY_SECONDS = 60.0
"""A role that lived this long before it died is started again at once."""


@dataclass(slots=True)
class _Child:
    """One role's process, as the parent knows it."""

    role: str
    process: subprocess.Popen[str]
    started_at: float
    ready: threading.Event = field(default_factory=threading.Event)
    heard: threading.Event = field(default_factory=threading.Event)
    reason: str = "the log says why"


class Node:
    """A running node: the parent's side. Use as a context manager, or start(), wait_ready(), stop()."""

    def __init__(
        self, settings: Settings, config_path: Path | None, roles: Sequence[str] = ()
    ) -> None:
        if unknown := set(roles) - set(ROLES):
            raise SettingsError(f"--role {sorted(unknown)[0]!r}; allowed: {', '.join(ROLES)}")
        self._settings = settings
        self._config_path = config_path
        if "web" in roles and not settings.web.port:
            raise SettingsError("--role web needs [web] port")
        # What is named is taken at its word; on several machines each does what it is told to.
        self._roles = {role.split("+", 1)[0]: role for role in roles or roles_of(settings)}
        self._receiving = receiving(settings) if "receive" in self._roles else ()
        self._roles |= {role: role for role in self._receiving}
        self._listener: socket.socket | None = None
        self._counts = ""
        self._children: dict[str, _Child] = {}
        self._port = settings.receive.port
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._all_ready = threading.Event()
        self._failed = ""

    @property
    def port(self) -> int:
        """The bound DICOM port, also where the settings say 0; known once the node is ready."""
        return self._port

    @property
    def is_ready(self) -> bool:
        """Whether every role is at work. Raises NodeError when one could not start at all."""
        if self._failed:
            raise NodeError(self._failed)
        return self._all_ready.is_set()

    def pid(self, role: str) -> int:
        """The process id of a role, now."""
        with self._lock:
            return self._children[role].process.pid

    def pids(self) -> dict[str, int]:
        """The process id of every role, now."""
        return {role: self.pid(role) for role in self._roles}

    def start(self) -> None:
        """Migrate the database and start the roles. Raises NodeError when it may not, or cannot."""
        refuse(self._settings, self._roles)
        warn(self._settings)
        self._settings.node.data_dir.mkdir(parents=True, exist_ok=True)
        _migrate(self._settings)
        if len(self._receiving) > 1:
            self._listener = listen(self._settings, self._receiving)
            self._port = self._listener.getsockname()[1]
        # Mapped files of this run: on a local disk, wherever the data lie.
        self._counts = tempfile.mkdtemp(prefix="dicom-node-")
        for role in self._roles:
            self._spawn(role)
            threading.Thread(target=self._keep_alive, args=(role,), daemon=True).start()

    def wait_ready(self, seconds: float = READY_SECONDS) -> int:
        """Wait until every role is at work; returns the DICOM port. Raises NodeError."""
        end = time.monotonic() + seconds
        while not self.is_ready:
            if time.monotonic() > end:
                with self._lock:
                    children = list(self._children.values())
                late = [child.role for child in children if not child.ready.is_set()]
                raise NodeError(f"not ready after {seconds:.0f} s: {', '.join(late)}; see the log")
            self._all_ready.wait(0.05)
        return self._port

    def stop(self) -> None:
        """Ask every role to stop, and wait; a role that does not is killed, which loses no study."""
        self._stopping.set()
        if self._listener:
            self._listener.close()
        with self._lock:
            children = list(self._children.values())
        for child in children:
            child.process.terminate()
        end = time.monotonic() + self._settings.node.drain_seconds + STOP_SECONDS
        for child in children:
            try:
                child.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                log("role killed", logging.WARNING, role=child.role)
                child.process.kill()
                child.process.wait()
        shutil.rmtree(self._counts, ignore_errors=True)

    def __enter__(self) -> "Node":
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self, role: str) -> _Child:
        # -P: another folder called "models" in the working directory must not win.
        command = [sys.executable, "-P", "-m", "dicom_node.role", self._roles[role]]
        if self._config_path:
            command.append(str(self._config_path.absolute()))
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment(role),
            pass_fds=self._inherited(role),
        )
        child = _Child(role, process, time.monotonic())
        with self._lock:
            self._children[role] = child
        assert process.stdout is not None
        reader = threading.Thread(target=self._listen, args=(child, process.stdout), daemon=True)
        reader.start()
        return child

    def _inherited(self, role: str) -> tuple[int, ...]:
        """The descriptor of the socket that the receiver's processes share, where they are several."""
        if self._listener is None or role not in self._receiving:
            return ()
        return (self._listener.fileno(),)

    def _environment(self, role: str) -> dict[str, str]:
        # A receiver that is started again must be found where it was, also where the settings say port 0.
        # Threads that wait must sleep: spinning ones made an analysis three times slower on two processors.
        told = {
            "DICOM_NODE__RECEIVE__PORT": str(self._port),
            FOLDER_VARIABLE: self._counts,
            ROLE_VARIABLE: role,
            "DICOM_NODE__NODE__DATA_DIR": json.dumps(str(self._settings.node.data_dir.absolute())),
        }
        told |= {VARIABLE: str(each) for each in self._inherited(role)}  # noqa: B035 - at most one
        if role in self._receiving[1:]:
            told["DICOM_NODE__RECEIVE__WEB_PORT"] = "0"  # the first has it
        defaults = DEFAULTS["receive"] if role in self._receiving else {}
        return defaults | {"OMP_WAIT_POLICY": "PASSIVE"} | dict(os.environ) | told

    def _listen(self, child: _Child, lines: IO[str]) -> None:
        """A role says on its standard output that it is ready, and where; or why it cannot be."""
        for line in lines:
            if line.startswith(FAILED_LINE):
                child.reason = json.loads(line)["reason"]
            if not line.startswith(READY_LINE):
                continue  # a library's words; unread, they would fill the pipe and stop the role
            told: dict[str, Any] = json.loads(line)
            self._port = told.get("port", self._port)
            child.ready.set()
            with self._lock:
                ready = [item for item in self._children.values() if item.ready.is_set()]
            if len(ready) == len(self._roles):
                self._all_ready.set()
        lines.close()
        child.heard.set()

    def _keep_alive(self, role: str) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            with self._lock:
                child = self._children[role]
            status = child.process.wait()
            assert child.process.stdin is not None
            child.process.stdin.close()
            if self._stopping.is_set():
                return
            if status in (1, 2) and not self._all_ready.is_set():
                child.heard.wait(HEARD_SECONDS)
                self._failed = f"role {role} could not start: {child.reason}"
                return
            lived = time.monotonic() - child.started_at
            if lived > HEALTHY_SECONDS or status == BEGINS_ANEW:
                pause = FIRST_PAUSE_SECONDS
            level = logging.WARNING if status == BEGINS_ANEW else logging.ERROR
            log("role died", level, role=role, status=status, lived=round(lived, 1), pause=pause)
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            self._spawn(role)


def roles_of(settings: Settings) -> tuple[str, ...]:
    """Which roles a node has that is not told which: web only where it has a port."""
    return (*WHOLE, "web") if settings.web.port else WHOLE


def receiving(settings: Settings) -> tuple[str, ...]:
    """The processes of the receiver, by name: receive, receive-2 and so on."""
    return ("receive", *(f"receive-{n}" for n in range(2, settings.receive.processes + 1)))


def _migrate(settings: Settings) -> None:
    try:
        migrate(settings.node.database_url)
    except MIGRATION_ERRORS as error:
        reason = str(error).splitlines()[0]
        raise NodeError(f"node.database cannot be opened or migrated: {reason}") from error


def serve(settings: Settings, config_path: Path | None, roles: Sequence[str] = ()) -> None:
    """Run the node until SIGTERM or SIGINT. Raises NodeError."""
    write_logs("node").pseudonyms = open_pseudonyms(settings)
    if not settings.destinations:
        log("results stay here", what="nobody gets them until there is a [[destinations]] block")
    stop = on_signals(signal.SIGTERM, signal.SIGINT)
    with Node(settings, config_path, roles) as node:
        announced = False
        while not stop.wait(1.0 if announced else 0.05):
            if not announced and node.is_ready:
                _announce({"event": "ready", "port": node.port, "roles": node.pids()})
                announced = True
    log("stopped")


def _announce(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
