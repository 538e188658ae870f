"""Beside the work of a node: a quick look at the start, and once an hour what the limits ask for."""

import logging
import threading
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.clock import Clock
from dicom_node.errors import NodeError
from dicom_node.files import open_files
from dicom_node.keep.purge import purge
from dicom_node.keep.trail import purge_trail
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

PURGE_SECONDS = 3600.0
NEWEST = 200
"""Rows whose files are looked at at the start: what a crash can have hurt is new."""


class Keeper:
    """A thread of the role that owns the data folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = Clock()
        self._stopping = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        self._try(lambda: look(self._settings), "failed to look at the index")
        while True:
            self._try(self._purge, "failed to purge")
            if self._stopping.wait(PURGE_SECONDS):
                return

    def _purge(self) -> None:
        for _order in purge(self._settings, self._clock):
            if self._stopping.is_set():
                return
        for _path in purge_trail(self._settings, self._clock.cautious()):
            pass  # each is an event of the log

    def _try(self, work: Any, event: str) -> None:
        try:
            work()
        except (*index.DATABASE_ERRORS, NodeError, OSError) as error:
            LOGGER.warning(event, extra={"fields": {"reason": type(error).__name__}})


def look(settings: Settings) -> dict[str, Any]:
    """Counts, and whether the newest files are there with their size; one event of the log."""
    engine = index.open_engine(settings.node.database_url)
    files = open_files(settings)
    tables = (index.studies, index.instances, index.results)
    try:
        with engine.connect() as connection:
            found: dict[str, Any] = {
                table.name: connection.scalar(sa.select(sa.func.count()).select_from(table))
                for table in tables
            }
            rows = [
                row
                for table, at in (
                    (index.instances, index.instances.c.received_at),
                    (index.results, index.results.c.made_at),
                )
                for row in connection.execute(
                    sa.select(table.c.study_uid, table.c.path, table.c.bytes)
                    .where(table.c.state == index.KEPT)
                    .order_by(at.desc())
                    .limit(NEWEST)
                )
            ]
    finally:
        engine.dispose()
    wrong = {row.study_uid for row in rows if not files.has_size(row.path, row.bytes)}
    found |= {"looked_at": len(rows), "studies_with_lost_files": sorted(wrong)}
    if wrong:
        found["advice"] = "dicom-node check --deep says more"
    LOGGER.log(
        logging.WARNING if wrong else logging.INFO, "index and files", extra={"fields": found}
    )
    return found
