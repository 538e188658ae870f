"""Room on the disk: without it the stages wait, as a full disk is no fault of a study and passes.

They wait in their step, each in its slot: whatever else the slots would be given needs the same disk.
"""

import logging
import threading
import time
from pathlib import Path

from dicom_node.disk import fullest
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

MIB = 1 << 20
LOOK_SECONDS = 2.0
PAUSE_SECONDS = 5.0
"""Before a stage that found no room for all it makes is tried again: it may need more than the floor."""


class Room:
    """Whether there is more free than ``Limits.floor_bytes``. Used by many threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._limits = settings.receive.limits
        self._folders = settings.folders
        self._database = settings.node.database_folders
        self._short: set[tuple[Path, ...]] = set()
        self._lock = threading.Lock()

    def wait(self, for_files: bool) -> None:
        """Return when there is room; without files it is the database's disk alone that counts."""
        folders = self._folders if for_files else self._database
        while self._is_short(folders):
            time.sleep(LOOK_SECONDS)

    def wait_for_database(self, stopping: threading.Event) -> None:
        """Return when SQLite has room, or when this process is to stop."""
        while not self.is_for_database() and not stopping.wait(LOOK_SECONDS):
            pass

    def pause(self) -> None:
        """After a stage that found no room."""
        time.sleep(PAUSE_SECONDS)

    def is_for_database(self) -> bool:
        """Whether SQLite has room."""
        return not self._is_short(self._database)

    def _is_short(self, folders: tuple[Path, ...]) -> bool:
        if not folders:
            return False
        try:
            disk = fullest(folders)
        except OSError:
            return False  # gone is another fault, which the stage itself says
        floor = self._limits.floor_bytes(disk.total)
        is_short = disk.free < floor
        with self._lock:
            is_news = is_short != (folders in self._short)
            self._short ^= {folders} if is_news else set()
        if is_news:
            fields = {"folder": str(disk.folder), "free_mib": disk.free // MIB}
            fields |= {"needed_mib": int(floor) // MIB}
            if is_short:
                fields["what"] = "free some; the stages wait, and go on by themselves"
                LOGGER.error("no room on the disk", extra={"fields": fields})
            else:
                LOGGER.info("room on the disk again", extra={"fields": fields})
        return is_short
