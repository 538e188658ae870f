"""Kept files in a folder: on the local disk, or on one that several machines share."""

import contextlib
import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dicom_node.files.content import CHUNK_BYTES, MALFORMED, fingerprint, is_intact, sync_folder

NEW_PARENTS = 3
"""A folder of a generation may be the first of its study, and of its kind: ``results/STUDY/GENERATION``."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Below one folder; names are paths relative to it, as in the index."""

    root: Path

    @property
    def where(self) -> str:
        return str(self.root)

    @property
    def arriving(self) -> Path:
        """Where a file is being copied to from the local disk, on the file system of the store."""
        return self.root / "arriving"

    @property
    def unfinished(self) -> tuple[Path, ...]:
        """Where what was cut off lies."""
        return (self.arriving,)

    def create(self) -> None:
        """Make what is missing."""
        for folder in ("store", "quarantine", "arriving"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def trouble(self) -> str:
        """A folder that is gone is said by the look at its disk."""
        return ""

    def keep(self, path: Path, name: str, sha256: str) -> None:
        """Make a local file durable under a name; it is gone from where it was. Raises OSError."""
        kept = self.root / name
        if path.stat().st_dev == kept.parent.stat().st_dev:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(kept)
        else:
            self._copy(path, kept, sha256)
        sync_folder(kept.parent)

    def _copy(self, path: Path, kept: Path, sha256: str) -> None:
        """To another file system, under its name only when all of it is there and reads back the same."""
        arriving = self.arriving / uuid.uuid4().hex
        try:
            with path.open("rb") as source, arriving.open("xb") as copy:
                shutil.copyfileobj(source, copy, CHUNK_BYTES)
                copy.flush()
                os.fsync(copy.fileno())
                # What is read back shall come from there, not from this machine's memory.
                os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if arriving.stat().st_size != path.stat().st_size or fingerprint(arriving) != sha256:
                raise OSError(errno.EIO, "the copy differs from what was received")
            arriving.replace(kept)
            path.unlink()
        finally:
            arriving.unlink(missing_ok=True)

    def move(self, name: str, target: str) -> None:
        """Rename, durably. Raises OSError."""
        source, moved = self.root / name, self.root / target
        moved.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as file:
            os.fsync(file.fileno())
        source.replace(moved)
        sync_folder(moved.parent)
        sync_folder(source.parent)

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """A file open to read. Raises OSError."""
        with (self.root / name).open("rb") as file:
            yield file

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def is_here(self, name: str) -> bool:
        return (self.root / name).is_file()

    def is_whole(self, name: str, sha256: str) -> bool:
        """Whether a file has its content; a file that cannot be read has not."""
        try:
            with self.reading(name) as file:
                return is_intact(file, sha256)
        except (OSError, *MALFORMED):
            return False

    def has_size(self, name: str, size: int) -> bool:
        """Whether a file is there with its size; 0 = it is not known."""
        with contextlib.suppress(OSError):
            return self.size(name) == size or not size
        return False

    def age_seconds(self, name: str) -> float:
        """Since a file came to its place; of one that has gone meanwhile 0."""
        with contextlib.suppress(FileNotFoundError):
            return time.time() - (self.root / name).stat().st_ctime
        return 0.0

    def walk(self, folder: str) -> Iterator[str]:
        """Every file below a folder, in no order, without holding them all."""
        for parent, _, names in os.walk(self.root / folder):
            for name in names:
                yield str((Path(parent) / name).relative_to(self.root))

    def folders_in(self, folder: str) -> list[str]:
        """The names of what lies directly in a folder."""
        path = self.root / folder
        return [each.name for each in path.iterdir()] if path.is_dir() else []

    def remove(self, names: list[str]) -> None:
        """Delete files whose time has come, and folders that are then empty. Raises OSError."""
        for name in names:
            (self.root / name).unlink(missing_ok=True)
        for parent in {(self.root / name).parent for name in names}:
            self._remove_empty(parent)

    def _remove_empty(self, folder: Path) -> None:
        while self.root not in (folder, folder.parent):
            try:
                folder.rmdir()
            except OSError:  # not empty, or never there
                return
            folder = folder.parent

    def half_removed(self, folder: str) -> list[str]:
        """Folders whose removal was cut off."""
        found = sorted((self.root / folder).glob(".*.purged"))
        return [str(path.relative_to(self.root)) for path in found]

    def remove_tree(self, name: str) -> None:
        """Delete a folder; it is never seen half: one that was cut off goes with the next."""
        gone = self.root / name
        doomed = gone if gone.suffix == ".purged" else gone.with_name(f".{gone.name}.purged")
        with contextlib.suppress(FileNotFoundError):
            gone.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def forget(self, study_uid: str) -> None:
        """Nothing: there are no copies."""

    @contextmanager
    def local(self, _study_uid: str) -> Iterator["HereAlready"]:
        """The files of a study as paths of this machine: where they lie."""
        yield HereAlready(self.root)


@dataclass(frozen=True, slots=True)
class HereAlready:
    """Files that need not be fetched."""

    root: Path

    def file(self, name: str, _sha256: str) -> Path:
        return self.root / name

    def gather(self, _named: Sequence[tuple[str, str]]) -> None:
        """Nothing: they are at hand."""

    def folder(self, name: str) -> Path:
        return self.root / name

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A folder to write into, which takes its final name, durably, only when all is written."""
        folder = self.root / name
        with unfinished(folder) as scratch:
            yield scratch
            _sync_files(scratch)
            sync_folder(scratch)
            shutil.rmtree(folder, ignore_errors=True)
            scratch.replace(folder)
        for parent in folder.parents[:NEW_PARENTS]:
            sync_folder(parent)

    @contextmanager
    def added(self, name: str, pattern: str) -> Iterator[Path]:
        """A folder to write into, whose files then replace, durably, those of a pattern in another one."""
        folder = self.root / name
        scratch = folder / "unfinished"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
            _sync_files(scratch)
            for path in folder.glob(pattern):
                path.unlink()
            for path in scratch.iterdir():
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        sync_folder(folder)


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """An empty folder beside another one, which it is to replace."""
    scratch = unfinished_name(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:  # half of a result is worth nothing, and on a full disk its space is what others need
        shutil.rmtree(scratch, ignore_errors=True)


def unfinished_name(folder: Path) -> Path:
    """Where what shall become a folder is written."""
    return folder.with_name(f"{folder.name}.unfinished")


def _sync_files(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
