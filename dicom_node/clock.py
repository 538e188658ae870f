"""The wall clock, and whether it was set: against the clock that only ever runs on.

Waiting is measured by rows that other processes wrote, so it must be by the wall clock. Where that is set
(by hand, by a time server after days without one, on waking from suspend), what was waited for so far means
nothing, and is counted anew.
"""

import threading
import time
from types import SimpleNamespace

SET_SECONDS = 2.0
"""More than a time server moves a clock between two looks while it only slows it down or hastens it."""


class Clock:
    """Watches from when it is made. Used by many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = self._apart = _apart()

    def was_set(self) -> float:
        """By how many seconds since this was last asked; 0.0 where it just ran."""
        with self._lock:
            now = _apart()
            moved, self._apart = now - self._apart, now
        return moved if abs(moved) > SET_SECONDS else 0.0

    def cautious(self) -> float:
        """The time for what cannot be undone: never later than by the clock that only ever runs on."""
        return time.monotonic() + min(self._began, _apart())


STEADY = SimpleNamespace(time=time.monotonic)
"""Stands in for the module ``time`` where a library measures time-outs by the wall clock, as pynetdicom does:
set ahead, it would abort every association, and set back, let none time out."""


def _apart() -> float:
    return time.time() - time.monotonic()
