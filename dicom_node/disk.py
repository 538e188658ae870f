"""Free space on the disks that a node writes to; the fullest counts."""

import errno
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a write says that found no room, by the disk's end or by a quota."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder, and the size and free bytes of the disk it lies on."""

    folder: Path
    total: int
    free: int


def disks(folders: Iterable[Path]) -> tuple[Disk, ...]:
    """Each disk that some of these lie on, the one with the least free space first.

    Raises OSError where a folder is gone.
    """
    found: dict[int, Disk] = {}
    for folder in folders:
        usage = shutil.disk_usage(folder)
        found.setdefault(folder.stat().st_dev, Disk(folder, usage.total, usage.free))
    return tuple(sorted(found.values(), key=lambda disk: disk.free))


def fullest(folders: Iterable[Path]) -> Disk:
    """The one of these with the least free space. Raises OSError where one is gone."""
    return disks(folders)[0]
