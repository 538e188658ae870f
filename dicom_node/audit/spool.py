"""The trail's file as a queue: what has not been sent yet, over restarts and rotations."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

MESSAGES_AT_ONCE = 100
COMPRESSED = (".gz", ".xz", ".bz2", ".zst")


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where messages were sent: a file, which keeps its number when it is renamed, and bytes."""

    inode: int
    offset: int


class Spool:
    """The messages of one process in the order they were written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".sent")

    def saved(self) -> Position | None:
        """Where sending stopped; None before the first message."""
        if not self._mark.exists():
            return None
        told = json.loads(self._mark.read_text())
        return Position(told["inode"], told["offset"])

    def save(self, position: Position) -> None:
        """Remember durably; torn off, the messages before it go out once more."""
        scratch = self._mark.with_suffix(".tmp")
        with scratch.open("w") as file:
            json.dump({"inode": position.inode, "offset": position.offset}, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._mark)

    def is_gone(self, position: Position) -> bool:
        """Whether the file was removed or compressed before all of it was sent."""
        return position.inode not in [inode for inode, _ in self._files()]

    def is_sent(self, path: Path) -> bool:
        """Whether all of a rotated file was sent: the position is in one that was begun after it."""
        position, inodes = self.saved(), [inode for inode, _ in self._files()]
        if position is None or position.inode not in inodes:
            return False
        return inodes.index(path.stat().st_ino) < inodes.index(position.inode)

    def read(self, position: Position | None) -> tuple[list[str], Position | None]:
        """The next messages after a position, and the position after them."""
        files = self._files()
        inodes = [inode for inode, _ in files]
        start = inodes.index(position.inode) if position and position.inode in inodes else 0
        offset = position.offset if position and position.inode in inodes else 0
        for inode, path in files[start:]:
            lines, after = _lines(path, offset)
            if lines:
                return lines, Position(inode, after)
            offset = 0
        return [], position

    def _files(self) -> list[tuple[int, Path]]:
        """The rotated files, the oldest first, and the one that is written."""
        found = []
        for path in self._path.parent.glob(f"{self._path.name}*"):
            if path.suffix not in COMPRESSED:
                status = path.stat()
                found.append((path == self._path, status.st_mtime_ns, status.st_ino, path))
        return [(inode, path) for _, _, inode, path in sorted(found)]


def _lines(path: Path, offset: int) -> tuple[list[str], int]:
    """Whole lines after an offset. A file that is shorter was truncated and begins anew."""
    lines: list[str] = []
    with path.open("rb") as file:
        if offset > os.fstat(file.fileno()).st_size:
            offset = 0
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n") or len(lines) == MESSAGES_AT_ONCE:
                break
            lines.append(line.decode().rstrip("\n"))
            offset += len(line)
    return lines, offset
