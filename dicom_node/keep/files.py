"""The files of a node: where they lie, and how one is set aside without ever being deleted."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.receive.store import is_intact, sync_folder

LOST = "lost+found"
"""Where files go that nobody knows; a person decides about them."""

FOLDERS = ("store", "results", "answers")
"""Where every file has a row."""


@dataclass(frozen=True, slots=True)
class Files:
    """Below one data folder; paths are relative to it, as in the index."""

    data: Path

    def walk(self, folder: str) -> Iterator[str]:
        """Every file below a folder, in no order, without holding them all."""
        for parent, _, names in os.walk(self.data / folder):
            for name in names:
                yield str((Path(parent) / name).relative_to(self.data))

    def is_here(self, path: str) -> bool:
        return (self.data / path).is_file()

    def is_whole(self, path: str, sha256: str) -> bool:
        """Whether a file has its content; a file that cannot be read has not."""
        try:
            return is_intact(self.data / path, sha256)
        except (OSError, EOFError, ValueError):
            return False

    def has_size(self, path: str, size: int) -> bool:
        """Whether a file is there with its size; 0 = it is not known."""
        with contextlib.suppress(OSError):
            return (self.data / path).stat().st_size == size or not size
        return False

    def age_seconds(self, path: str) -> float:
        """Since a file came to its place; of one that has gone meanwhile 0."""
        with contextlib.suppress(FileNotFoundError):
            return time.time() - (self.data / path).stat().st_ctime
        return 0.0

    def set_aside(self, path: str) -> str:
        """Move a file to lost+found, durably; returns where it is now. Raises OSError."""
        target = self.data / LOST / path
        target.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        while target.exists():
            number += 1
            target = self.data / LOST / f"{path}.{number}"
        (self.data / path).rename(target)
        sync_folder(target.parent)
        sync_folder((self.data / path).parent)
        return str(target.relative_to(self.data))

    def put_back(self, moved: str, path: str) -> None:
        """Undo ``set_aside``."""
        (self.data / moved).rename(self.data / path)
        sync_folder((self.data / path).parent)

    def remove(self, paths: list[str]) -> None:
        """Delete files whose time has come, and folders that are then empty. Raises OSError."""
        for path in paths:
            (self.data / path).unlink(missing_ok=True)
        for parent in {(self.data / path).parent for path in paths}:
            self._remove_empty(parent)

    def _remove_empty(self, folder: Path) -> None:
        while self.data not in (folder, folder.parent):
            try:
                folder.rmdir()
            except OSError:  # not empty, or never there
                return
            folder = folder.parent

    def half_removed(self, folder: str) -> list[str]:
        """Folders whose removal was cut off."""
        found = sorted((self.data / folder).glob(".*.purged"))
        return [str(path.relative_to(self.data)) for path in found]

    def remove_tree(self, path: str) -> None:
        """Delete a folder; it is never seen half: one that was cut off goes with the next."""
        gone = self.data / path
        doomed = gone if gone.suffix == ".purged" else gone.with_name(f".{gone.name}.purged")
        with contextlib.suppress(FileNotFoundError):
            gone.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
