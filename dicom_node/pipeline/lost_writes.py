"""Writes that SQLite could not do, its disk being full or failing.

DBOS gives up at such an error: a stage in hand is then neither done nor failed in its tables, and nobody goes
on with it until its process starts again.
"""

import sqlite3
import threading

import sqlalchemy as sa

LOST = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""Primary result codes; the extended ones carry them in their lowest byte."""


class LostWrites:
    """Remembers whether this process has lost one; of another database than SQLite never."""

    def __init__(self, engine: sa.Engine) -> None:
        self._lost = threading.Event()
        sa.event.listen(engine, "handle_error", self._note)

    @property
    def any(self) -> bool:
        return self._lost.is_set()

    def _note(self, context: sa.engine.ExceptionContext) -> None:
        code = getattr(context.original_exception, "sqlite_errorcode", 0)
        if code & 0xFF in LOST:
            self._lost.set()
