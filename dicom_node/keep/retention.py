"""What need not be kept any more: only what every destination has, of studies that are at their end."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.files import open_files
from dicom_node.keep.progress import Progress
from dicom_node.settings import Keep, Settings

DAY_SECONDS, GIB = 86400.0, 1 << 30
PAGE_STUDIES = 200

SOURCES, RESULTS, WORK, JOBS = "sources", "results", "work", "jobs"
TABLES = {SOURCES: index.instances, RESULTS: index.results}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to go of a study, and why; ``held``: why it must stay although its time has come, or ""."""

    study: Any
    what: str
    files: int
    bytes: int
    why: str
    held: str = ""


class Retention:
    """The site's limits, held against what there is now."""

    def __init__(
        self, engine: sa.Engine, progress: Progress, settings: Settings, now: float
    ) -> None:
        self._engine = engine
        self._progress = progress
        self._now = now
        self._keep: Keep = settings.keep
        self._kept = open_files(settings)
        self._committing = [each.name for each in settings.destinations if each.commitment]

    def orders(self) -> Iterator[Order]:
        """Sources and results, the oldest studies first; then arrays between the stages, then job rows."""
        keep = self._keep
        yield from self._files(SOURCES, keep.sources_days, keep.sources_gib)
        yield from self._files(RESULTS, keep.results_days, keep.results_gib)
        if keep.work_days:
            yield from self._work(keep.work_days)
        if keep.jobs_days:
            yield from self._jobs(keep.jobs_days)

    def _files(self, what: str, days: float, gib: float) -> Iterator[Order]:
        if not days and not gib:
            return
        table, before = TABLES[what], self._now - days * DAY_SECONDS
        over = self._total(table) - gib * GIB if gib else 0.0
        for page in self._pages(table):
            held = self.held({row.study_uid: row for row in page})
            for row in page:
                is_old = bool(days) and row.last_at < before
                if not is_old and over <= 0:
                    return
                why = f"older than {days:g} days" if is_old else f"more than {gib:g} GiB of {what}"
                size = int(row.bytes)  # Postgres sums to a decimal number
                yield Order(row, what, row.files, size, why, held.get(row.study_uid, ""))
                if row.study_uid not in held:
                    over -= size

    def _total(self, table: sa.Table) -> int:
        with self._engine.connect() as connection:
            kept = sa.select(sa.func.coalesce(sa.func.sum(table.c.bytes), 0))
            return int(connection.scalar(kept.where(table.c.state == index.KEPT)) or 0)

    def _pages(self, table: sa.Table) -> Iterator[list[sa.Row[Any]]]:
        """Studies that have files, the oldest first."""
        studies = index.studies
        last: tuple[float, str] = (0.0, "")
        here = table.c.state.in_((index.KEPT, index.MISSING))
        of_study = sa.exists().where(table.c.study_uid == studies.c.study_uid, here)
        while True:
            # By the index of times: the sums are made for these studies alone, not for all that come after.
            some = (
                sa.select(studies)
                .where(_after(studies, last), of_study)
                .order_by(studies.c.last_at, studies.c.study_uid)
                .limit(PAGE_STUDIES)
                .subquery()
            )
            columns = (some.c.study_uid, some.c.generation, some.c.closed, some.c.last_at)
            query = (
                sa.select(
                    *columns,
                    sa.func.count().label("files"),
                    sa.func.sum(table.c.bytes).label("bytes"),
                )
                .join(table, table.c.study_uid == some.c.study_uid)
                .where(here)
                .group_by(*columns)
                .order_by(some.c.last_at, some.c.study_uid)
            )
            with self._engine.connect() as connection:
                page = list(connection.execute(query))
            if not page:
                return
            yield page
            last = (page[-1].last_at, page[-1].study_uid)

    def held(self, studies: dict[str, sa.Row[Any]]) -> dict[str, str]:
        """Why studies must stay: open, at work, failed, not delivered, not committed."""
        held = self._undelivered(studies)
        for uid, study in studies.items():
            if not study.closed:
                held[uid] = "it is open"
            elif self._progress.is_going_on(uid):
                held[uid] = "work on it goes on"
            elif uid not in held and self._progress.has_stopped(uid, study.generation):
                held[uid] = "it failed or was canceled; `jobs show` says more"
        return held

    def _undelivered(self, uids: Collection[str]) -> dict[str, str]:
        results, deliveries = index.results, index.deliveries
        not_committed = sa.and_(
            deliveries.c.destination.in_(self._committing), deliveries.c.committed_at.is_(None)
        )
        query = (
            sa.select(results.c.study_uid, deliveries.c.destination, deliveries.c.delivered_at)
            .join(deliveries, deliveries.c.sop_uid == results.c.sop_uid)
            .where(
                results.c.study_uid.in_(list(uids)),
                deliveries.c.status != index.SUPERSEDED,
                sa.or_(deliveries.c.delivered_at.is_(None), not_committed),
            )
            .distinct()
        )
        held = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                word = "delivered" if row.delivered_at is None else "committed"
                held[row.study_uid] = f"not {word} at {row.destination}"
        return held

    def _work(self, days: float) -> Iterator[Order]:
        for page in self._old(self._kept.folders_in("work"), days):
            held = self.held(page)
            for uid, study in page.items():
                yield Order(study, WORK, 1, 0, f"older than {days:g} days", held.get(uid, ""))

    def _jobs(self, days: float) -> Iterator[Order]:
        before = self._now - days * DAY_SECONDS
        for uids in index.ended_before(self._engine, before):
            for page in self._old(uids, days):
                held = self.held(page)
                for uid, study in page.items():
                    if uid not in held:
                        yield Order(study, JOBS, 0, 0, f"older than {days:g} days")

    def _old(self, uids: Sequence[str], days: float) -> Iterator[dict[str, sa.Row[Any]]]:
        """Of some studies those to which nothing has come for so long, page by page."""
        studies, before = index.studies, self._now - days * DAY_SECONDS
        for start in range(0, len(uids), PAGE_STUDIES):
            wanted = studies.c.study_uid.in_(uids[start : start + PAGE_STUDIES])
            query = sa.select(studies).where(wanted, studies.c.last_at < before)
            with self._engine.connect() as connection:
                page = connection.execute(query.order_by(studies.c.last_at)).all()
            yield {study.study_uid: study for study in page}


def _after(studies: sa.Table, last: tuple[float, str]) -> Any:
    at, uid = last
    same = sa.and_(studies.c.last_at == at, studies.c.study_uid <= uid)
    return sa.and_(studies.c.last_at >= at, sa.not_(same))
