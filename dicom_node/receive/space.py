"""Free space on the disk of the data folder: below the mark nothing is taken in, and that is said once."""

import logging
import threading
from pathlib import Path

from pynetdicom.events import Event

from dicom_node.counters import ASSOCIATIONS
from dicom_node.disk import fullest
from dicom_node.receive.refusals import rejection
from dicom_node.settings import Limits

LOGGER = logging.getLogger(__name__)

MIB = 1 << 20
RECOVERED = 1.05
"""There must be so much more than the mark again: what hovers around it would be told all the time."""

TRANSIENT, PRESENTATION, CONGESTION = 2, 3, 1
"""Result, source and reason of the rejection, PS3.8 table 9-21: the scanner should try again."""


class Space:
    """The watermark. Used by many threads at once."""

    def __init__(self, folders: tuple[Path, ...], limits: Limits) -> None:
        self._folders = folders
        self._limits = limits
        self._lock = threading.Lock()
        self._short = False
        self._refused = 0

    def is_short(self) -> bool:
        """Whether nothing may be taken in now; also while the folder is gone."""
        try:
            disk = fullest(self._folders)
            total, free = disk.total, disk.free
        except OSError:
            total, free = 0, -1
        mark = self._limits.needed_bytes(total)
        with self._lock:
            was = self._short
            self._short = free < mark * (RECOVERED if was else 1)
            is_short, refused = self._short, self._refused
            if was and not is_short:
                self._refused = 0
        figures = {"free_mib": free // MIB, "needed_mib": int(mark) // MIB}
        if is_short and not was:
            what = "nothing is taken in; free some, or lower receive.limits.free_mib"
            LOGGER.error("disk short", extra={"fields": figures | {"what": what}})
        if was and not is_short:
            LOGGER.info("disk has room", extra={"fields": figures | {"refused": refused}})
        return is_short

    def on_requested(self, event: Event) -> None:
        """Reject an association while there is no room; bound to EVT_REQUESTED."""
        association = event.assoc
        if association.is_rejected or association.is_aborted or not self.is_short():
            return
        with self._lock:
            self._refused += 1
        association.acse.send_reject(TRANSIENT, PRESENTATION, CONGESTION)
        ASSOCIATIONS.labels("rejected", rejection(association)).inc()
        association.kill()  # waits until the rejection is sent; else the closing overtakes it
