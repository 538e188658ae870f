"""Is every row's file there with its content, every file known, every study on its way or at its end?

Looks at studies in pages, and at files one by one: memory does not grow with the number of either. What
seems wrong is looked at once more before it is said, so that a node may go on working meanwhile.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.files import Files
from dicom_node.keep.files import FOLDERS
from dicom_node.keep.progress import ACTIVE, CANCELED, FAILED, Progress

PAGE_STUDIES, PAGE_FILES = 200, 20_000
"""Each page of files is held against all rows, as no index knows their paths."""

SETTLE_SECONDS = 60.0
"""A file may be in its place for so long before its row is: longer than a receiver waits for its database."""

MISSING, DAMAGED, BACK, ORPHAN, CUT_OFF, NO_WORKFLOW, NOT_DUE, NOT_ENQUEUED = (
    *("missing", "damaged", "back", "orphan", "purge cut off"),
    *("no workflow", "due nowhere", "delivery not enqueued"),
)

ADVICE = {
    MISSING: "send the study again from its source; the file is then kept again",
    DAMAGED: "--repair sets it aside; then send the study again from its source",
    BACK: "--repair notes that it is here again",
    ORPHAN: "no row knows it: its sender heard no answer, or the database is an older one; --repair "
    "moves it to lost+found, from where it can be sent again",
    CUT_OFF: "`dicom-node purge` or --repair finishes it",
    NO_WORKFLOW: "--repair enqueues the study",
    NOT_DUE: "--repair makes it due where its report said",
    NOT_ENQUEUED: "--repair enqueues the delivery",
}
"""What to do, for each kind of problem."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``what``: a path or a stage; ``table``: the one of its row, if any."""

    kind: str
    study_uid: str
    what: str
    generation: int = 0
    destination: str = ""
    table: str = ""

    @property
    def sentence(self) -> str:
        where = f" {self.destination}" if self.destination else ""
        return f"{self.kind}: {self.what}{where}"


class Deep:
    """One look at everything; ``looked`` is called with each number of rows and files done."""

    def __init__(
        self, engine: sa.Engine, progress: Progress, files: Files, settle_seconds: float
    ) -> None:
        self._engine = engine
        self._progress = progress
        self._files = files
        self._settle_seconds = settle_seconds
        self.looked: Callable[[int], object] = lambda _count: None

    def count(self) -> int:
        """How many rows and files there are to look at, about."""
        total = 0
        with self._engine.connect() as connection:
            for table in (index.instances, index.results):
                total += connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        return 2 * total

    def problems(self) -> Iterator[Problem]:
        """Study by study, then the files that belong to none."""
        for page in self._pages():
            yield from self._of_page(page)
        for folder in FOLDERS:
            yield from self._orphans(folder)

    def _pages(self) -> Iterator[list[sa.Row[Any]]]:
        last = ""
        while True:
            with self._engine.connect() as connection:
                page = connection.execute(
                    sa.select(index.studies)
                    .where(index.studies.c.study_uid > last)
                    .order_by(index.studies.c.study_uid)
                    .limit(PAGE_STUDIES)
                ).all()
            if not page:
                return
            yield list(page)
            last = page[-1].study_uid

    def _of_page(self, page: Sequence[sa.Row[Any]]) -> Iterator[Problem]:
        uids = [study.study_uid for study in page]
        instances, results = (self._rows(table, uids) for table in (index.instances, index.results))
        due = self._due(uids)
        begun = self._progress.known(
            [
                index.workflow_id(study.study_uid, study.generation, word, detail)
                for study in page
                for word, detail in (("report", ""), ("report", ":answer"))
            ]
        )
        for study in page:
            uid = study.study_uid
            yield from self._of_files(index.instances, instances[uid])
            yield from self._of_files(index.results, results[uid])
            yield from self._of_work(study, begun)
            yield from self._of_deliveries(study, results[uid], due[uid])

    def _rows(self, table: sa.Table, uids: Sequence[str]) -> dict[str, list[sa.Row[Any]]]:
        found: dict[str, list[sa.Row[Any]]] = defaultdict(list)
        with self._engine.connect() as connection:
            query = sa.select(table).where(table.c.study_uid.in_(uids)).order_by(table.c.path)
            for row in connection.execute(query):
                found[row.study_uid].append(row)
        return found

    def _due(self, uids: Sequence[str]) -> dict[str, dict[tuple[str, str], bool]]:
        """For each study: whether an object is still on its way to a destination."""
        results, deliveries = index.results, index.deliveries
        found: dict[str, dict[tuple[str, str], bool]] = defaultdict(dict)
        query = (
            sa.select(results.c.study_uid, deliveries)
            .join(deliveries, deliveries.c.sop_uid == results.c.sop_uid)
            .where(results.c.study_uid.in_(uids))
        )
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                is_open = row.delivered_at is None and row.status in ("pending", "waiting")
                found[row.study_uid][row.sop_uid, row.destination] = is_open
        return found

    def _of_files(self, table: sa.Table, rows: Sequence[sa.Row[Any]]) -> Iterator[Problem]:
        for row in rows:
            kind = self._wrong(table, row)
            self.looked(1)
            if kind and kind == self._wrong(table, self._again(table, row) or row):
                yield Problem(kind, row.study_uid, row.path, row.generation, table=table.name)

    def _again(self, table: sa.Table, row: sa.Row[Any]) -> sa.Row[Any] | None:
        mine = (table.c.sop_uid == row.sop_uid, table.c.generation == row.generation)
        with self._engine.connect() as connection:
            return connection.execute(sa.select(table).where(*mine)).one_or_none()

    def _wrong(self, table: sa.Table, row: sa.Row[Any]) -> str:
        """What is wrong with the file of a row, or ""."""
        if row.state == index.PURGED:
            return ""
        if row.state == index.PURGING:
            return CUT_OFF
        is_here = self._files.is_here(row.path)
        is_whole = is_here and self._files.is_whole(row.path, row.sha256)
        if is_whole:
            return BACK if row.state == index.MISSING else ""
        return DAMAGED if is_here else MISSING

    def _of_work(self, study: sa.Row[Any], begun: set[str]) -> Iterator[Problem]:
        uid, generation = study.study_uid, study.generation

        def has(word: str, detail: str) -> bool:
            return index.workflow_id(uid, generation, word, detail) in begun

        if self._progress.is_going_on(uid) or has("report", "") or has("report", ":answer"):
            return
        if index.outcome_of(self._engine, uid, generation)[0]:
            return
        if not self._goes_on_or_ended(uid, generation):
            yield Problem(NO_WORKFLOW, uid, f"generation {generation}", generation)

    def _goes_on_or_ended(self, study_uid: str, generation: int) -> bool:
        """By its runs as they are now: one is active or was given up, or says that nothing follows."""
        for (number, word, _), run in self._progress.runs(study_uid).items():
            output = run.output or {}
            ended = word == "report" or "refused" in output or "nothing" in output
            if number == generation and (ended or run.status in ACTIVE + FAILED + CANCELED):
                return True
        return False

    def _of_deliveries(
        self, study: sa.Row[Any], results: Sequence[sa.Row[Any]], due: dict[tuple[str, str], bool]
    ) -> Iterator[Problem]:
        uid = study.study_uid
        open_ones = {key for key, is_open in due.items() if is_open}
        nowhere = {row.sop_uid for row in results} - {sop_uid for sop_uid, _ in due}
        if not open_ones and not nowhere:
            return
        runs = self._progress.runs(uid)
        said = {
            stage[0]: (run.output or {}).get("due")
            for stage, run in runs.items()
            if stage[1:] == ("report", "")
        }
        for row in results:
            if row.sop_uid in nowhere and said.get(row.generation) and row.kind != "refusal":
                yield Problem(NOT_DUE, uid, row.sop_uid, row.generation, table="results")
        latest: dict[str, int] = {}
        for row in results:
            for sop_uid, name in open_ones:
                if row.sop_uid == sop_uid:
                    latest[name] = max(latest.get(name, 0), row.generation)
        for name, generation in latest.items():
            run = runs.get((generation, "deliver", name))
            reporting = any(
                stage[:2] == (generation, "report") and each.status in ACTIVE
                for stage, each in runs.items()
            )
            is_over = not reporting and (run is None or run.status == "SUCCESS")
            if is_over and self._due([uid])[uid].get(_one_of(open_ones, name)):
                yield Problem(NOT_ENQUEUED, uid, "deliver", generation, name)

    def _orphans(self, folder: str) -> Iterator[Problem]:
        walk = self._files.walk(folder)
        while page := list(islice(walk, PAGE_FILES)):
            for path in self._without_row(page):
                yield Problem(ORPHAN, _study_of(path), path)
            self.looked(len(page))

    def _without_row(self, paths: Sequence[str]) -> list[str]:
        """Those of some files that have no row and will get none."""
        settled = [path for path in set(paths) - self.known_paths(paths) if self._is_settled(path)]
        unknown = set(settled) - self.known_paths(settled) if settled else ()
        return sorted(path for path in unknown if self._files.is_here(path))

    def is_orphan(self, path: str) -> bool:
        """Whether a file that had no row will get none."""
        return bool(self._without_row([path]))

    def _is_settled(self, path: str) -> bool:
        """Whether a file is here for long, and nobody is at work on it."""
        if self._files.age_seconds(path) < self._settle_seconds:
            return False
        study_uid = _study_of(path)
        runs = self._progress.runs(study_uid) if study_uid else {}
        return not any(run.status in ACTIVE for run in runs.values())

    def known_paths(self, paths: Sequence[str]) -> set[str]:
        """Those of some paths that have a row whose file may be there."""
        known: set[str] = set()
        with self._engine.connect() as connection:
            for table in (index.instances, index.results):
                here = (table.c.path.in_(paths), table.c.state != index.PURGED)
                known |= set(connection.scalars(sa.select(table.c.path).where(*here)))
            aside = index.set_aside.c.path
            known |= set(connection.scalars(sa.select(aside).where(aside.in_(paths))))
        return known


def _one_of(open_ones: set[tuple[str, str]], name: str) -> tuple[str, str]:
    return next(key for key in open_ones if key[1] == name)


def _study_of(path: str) -> str:
    """Results lie under the UID of their study; "" for the store."""
    folder, _, rest = path.partition("/")
    return "" if folder == "store" else rest.partition("/")[0]
