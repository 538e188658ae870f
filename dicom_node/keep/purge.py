"""Purging: the site's limits carried out, each study in steps of which every one may be the last."""

import logging
from collections.abc import Iterator

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node import index
from dicom_node.clock import Clock
from dicom_node.files import open_files
from dicom_node.jobs import Memory, state_of
from dicom_node.keep.progress import Progress
from dicom_node.keep.retention import JOBS, TABLES, WORK, Order, Retention
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)


def plan(settings: Settings) -> Iterator[Order]:
    """What would go, and what stays although its time has come; changes nothing. Raises NodeError."""
    with Memory(settings) as memory:
        progress = Progress(memory.engine, memory.client)
        yield from Retention(memory.engine, progress, settings, Clock().cautious()).orders()


def purge(settings: Settings, clock: Clock | None = None) -> Iterator[Order]:
    """Carry the limits out; what went, and what stayed. One event of the log for each study.

    ``clock``: of a process that has run for long, and so sees a clock that was set ahead.
    """
    now = (clock or Clock()).cautious()
    with Memory(settings) as memory:
        purger = _Purger(memory, settings)
        purger.finish()
        for order in Retention(memory.engine, purger.progress, settings, now).orders():
            if order.held or purger.carry_out(order):
                yield order


class _Purger:
    def __init__(self, memory: Memory, settings: Settings) -> None:
        self._memory = memory
        self._engine: sa.Engine = memory.engine
        self._client: DBOSClient = memory.client
        self._files = open_files(settings)
        self.progress = Progress(memory.engine, memory.client)

    def finish(self) -> None:
        """Go on with what was cut off."""
        for table in TABLES.values():
            for study_uid in index.purges_cut_off(self._engine, table):
                count = index.end_purge(self._engine, table, study_uid, self._files.remove)
                self._files.forget(study_uid)
                _tell(study_uid, table.name, count, 0, "was cut off")
        for path in self._files.half_removed("work"):
            self._files.remove_tree(path)

    def carry_out(self, order: Order) -> bool:
        """False where the study has changed meanwhile."""
        study_uid = order.study.study_uid
        if order.what == WORK:
            self._files.remove_tree(f"work/{study_uid}")
        elif order.what == JOBS:
            self._forget_jobs(study_uid)
        else:
            table = TABLES[order.what]
            if not index.begin_purge(self._engine, table, order.study):
                return False
            index.end_purge(self._engine, table, study_uid, self._files.remove)
        self._files.forget(study_uid)
        _tell(study_uid, order.what, order.files, order.bytes, order.why)
        return True

    def _forget_jobs(self, study_uid: str) -> None:
        """What became of each generation first, so that it is told when the rows are gone."""
        runs = self._memory.runs([study_uid])
        for (_, generation), mine in runs.items():
            index.record_outcome(self._engine, study_uid, generation, *state_of(mine))
        self._client.delete_workflows(self.progress.ids(study_uid))
        index.forget_requests(self._engine, study_uid)


def _tell(study_uid: str, what: str, files: int, size: int, why: str) -> None:
    fields = {"study": study_uid, "what": what, "files": files, "bytes": size, "why": why}
    LOGGER.info("purged", extra={"fields": fields})
