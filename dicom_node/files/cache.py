"""Local copies of what lies in an object store: bounded in size, the longest unused study goes first.

One folder for each study, as a stage needs one study. Who is at work on it holds a lock on its folder, which
the end of a process releases, however it ends; what is locked is not removed.
"""

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LOCK, GONE = ".lock", ".gone-"

UNUSED_SECONDS = 86400.0
"""After a day a study is at its end, or waits for people; what was purged meanwhile shall not stay here."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The copies of one machine, shared by its processes; ``largest_bytes`` of what nobody is at work on."""

    root: Path
    largest_bytes: int

    @contextmanager
    def of_study(self, study_uid: str) -> Iterator[Path]:
        """The folder of a study, which stays while the block runs. Raises OSError."""
        with self._locked(self.root / study_uid) as home:
            yield home
        self.trim()

    @contextmanager
    def _locked(self, home: Path) -> Iterator[Path]:
        while True:
            home.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                try:
                    file = stack.enter_context((home / LOCK).open("w"))  # now it was used last
                    fcntl.flock(file, fcntl.LOCK_SH)
                    is_mine = _is(file, home)
                except FileNotFoundError:  # removed in this very moment
                    continue
                if is_mine:
                    os.utime(file.fileno())
                    yield home
                    return

    def trim(self) -> None:
        """Remove studies until what is left is small enough; the longest unused first."""
        for rest in self.root.glob(f"{GONE}*"):  # of a process that was cut off
            shutil.rmtree(rest, ignore_errors=True)
        homes, now = [], time.time()
        for home in self.root.iterdir():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                homes.append(((home / LOCK).stat().st_mtime, home, _bytes(home)))
        left = sum(size for _, _, size in homes)
        for used_at, home, size in sorted(homes):
            if left <= self.largest_bytes and now - used_at < UNUSED_SECONDS:
                return
            if self.forget(home.name):
                left -= size

    def forget(self, study_uid: str) -> bool:
        """Remove the copies of a study, unless somebody is at work on them."""
        home = self.root / study_uid
        with contextlib.suppress(FileNotFoundError, BlockingIOError), (home / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(file, home):
                gone = self.root / f"{GONE}{uuid.uuid4().hex}"
                home.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
                return True
        return False


def _is(file: IO[str], home: Path) -> bool:
    """Whether an open lock is still the one of the folder."""
    return os.path.samestat(os.fstat(file.fileno()), (home / LOCK).stat())


def _bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total
