"""Instances on their way to disk: hashed while they come, and answered also where the disk is full.

pynetdicom receives a data set into a file that it gets from ``NamedTemporaryFile``; when that cannot be
written, its thread dies without an answer, and a file whose sender has gone stays open until the garbage is
collected. An ``Incoming`` stands in for it: it keeps the failure for the answer, and knows who fills it.
"""

import hashlib
import os
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from dicom_node.files.content import META_GROUP, transfer_syntax_of

META_LENGTH_AT, META_AT = 140, 144
"""Where (0002,0000) has its value, and where what it counts begins, PS3.10 section 7.1."""

LOOK_BYTES = 32 << 20
"""How often free space is looked at within one instance."""


WRITE_BACK_BYTES = 8 << 20
"""How often the system is asked to begin writing to disk what it holds of one instance."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What ends the writing of an instance: more bytes than are taken, or a disk that is short of space."""

    most_bytes: int
    is_short: Callable[[], bool]


class Incoming:
    """One file being received. Written by one thread, then finished by another."""

    def __init__(self, path: Path, bound: Bound) -> None:
        self.name = str(path)
        self.writer = threading.current_thread()
        self.failure = ""
        self.file = self  # what pynetdicom flushes
        self.bytes = 0
        self._bound = bound
        self._head: bytes | None = b""
        self._hash: hashlib._Hash | None = None
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            self.failure = error.strerror or type(error).__name__

    def write(self, data: bytes) -> int:
        """Append; what the disk does not take, or is too much, is dropped, and the instance with it."""
        before, self.bytes = self.bytes, self.bytes + len(data)
        if self.failure or before > self._bound.most_bytes:
            return len(data)
        try:
            if self.bytes > self._bound.most_bytes:
                os.ftruncate(self._descriptor, 0)
            else:
                self._append(data, before)
        except OSError as error:
            self._fail(error.strerror or type(error).__name__)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> str:
        """The fingerprint of what was received; "" where it must be read from the file."""
        self._write_back()  # while the header is looked at
        return self._hash.hexdigest() if self._hash else ""

    def close(self) -> None:
        """Give the descriptor back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _append(self, data: bytes, before: int) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if self._hash is None:
            self._begin(data)
        else:
            self._hash.update(data)
        if before // WRITE_BACK_BYTES < self.bytes // WRITE_BACK_BYTES:
            self._write_back()
        if before // LOOK_BYTES < self.bytes // LOOK_BYTES and self._bound.is_short():
            self._fail("the disk is short of space")

    def _write_back(self) -> None:
        """Let the disk work while bytes still come: the fsync at the end then waits for what is left.

        At this advice Linux begins to write what is not written yet, and forgets what is; it is no promise.
        """
        if self._descriptor >= 0:
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _begin(self, data: bytes) -> None:
        """Hash from the data set on; one that begins like more file meta is hashed from the file."""
        if self._head is None:
            return
        self._head += data
        end = META_AT + int.from_bytes(self._head[META_LENGTH_AT:META_AT], "little")
        if len(self._head) <= max(end, META_AT):
            return
        if self._head[end] != META_GROUP:
            self._hash = hashlib.sha256(transfer_syntax_of(BytesIO(self._head)))
            self._hash.update(self._head[end:])
        self._head = None

    def _fail(self, reason: str) -> None:
        """Keep the reason, and give the space back at once."""
        self.failure = reason
        os.ftruncate(self._descriptor, 0)


OWNED = re.compile(r"(receive(?:-\d+)?)\.")
"""How the name of a file begins that a process is receiving; what begins otherwise is the first's."""


class Arrivals:
    """The files being received by one process, the owner, by path. Used by many threads at once."""

    def __init__(self, folder: Path, owner: str, bound: Bound) -> None:
        self._folder = folder
        self._owner = owner
        self._bound = bound
        self._open: dict[str, Incoming] = {}
        self._lock = threading.Lock()

    def begin(self, **_options: Any) -> Incoming:
        """A new file; stands in for ``NamedTemporaryFile`` and takes its arguments."""
        incoming = Incoming(self._folder / f"{self._owner}.{uuid.uuid4().hex}.dcm", self._bound)
        with self._lock:
            self._open[incoming.name] = incoming
        return incoming

    def take(self, path: Path) -> Incoming | None:
        """A file that has come whole: from now on the caller's; None when it was swept away."""
        with self._lock:
            return self._open.pop(str(path), None)

    def knows(self, path: Path) -> bool:
        """Whether a file is being received."""
        with self._lock:
            return str(path) in self._open

    def owns(self, path: Path) -> bool:
        """Whether a file in the folder is, or was before a restart, received by this process."""
        owned = OWNED.match(path.name)
        return (owned[1] if owned else "receive") == self._owner

    def sweep(self) -> int:
        """Remove what was left by threads that have ended; how many."""
        with self._lock:
            left = [each for each in self._open.values() if not each.writer.is_alive()]
            for each in left:
                del self._open[each.name]
        for each in left:
            each.close()
            Path(each.name).unlink(missing_ok=True)
        return len(left)
