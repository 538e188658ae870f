"""Mending what the deep check found: never by deleting; a repair that is cut off can be run again."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node import index
from dicom_node.files import Files
from dicom_node.keep import deep
from dicom_node.keep.deep import Deep, Problem
from dicom_node.keep.files import set_aside
from dicom_node.keep.progress import Progress

TABLES = {"instances": index.instances, "results": index.results}


class Repair:
    """What is done about each kind of problem."""

    def __init__(
        self, engine: sa.Engine, client: DBOSClient, files: Files, progress: Progress, look: Deep
    ) -> None:
        self._engine = engine
        self._client = client
        self._files = files
        self._progress = progress
        self._look = look
        self._of: dict[str, Callable[[Problem], str]] = {
            deep.MISSING: self._mark,
            deep.DAMAGED: self._set_damaged_aside,
            deep.BACK: self._take_back,
            deep.ORPHAN: self._set_orphan_aside,
            deep.CUT_OFF: self._finish_purge,
            deep.NO_WORKFLOW: self._enqueue_study,
            deep.NOT_DUE: self._make_due,
            deep.NOT_ENQUEUED: self._enqueue_delivery,
        }

    def mend(self, problem: Problem) -> tuple[str, bool]:
        """What was done, and whether nothing is left to do."""
        done = self._of[problem.kind](problem)
        return done, problem.kind not in (deep.MISSING, deep.DAMAGED)

    def _mark(self, problem: Problem) -> str:
        table = TABLES[problem.table]
        index.mark_missing(self._engine, table, problem.study_uid, [problem.what])
        return "`jobs show` says so; send the study again"

    def _set_damaged_aside(self, problem: Problem) -> str:
        # The row first: cut off now, the file is still found damaged.
        self._mark(problem)
        return f"moved to {set_aside(self._files, problem.what)}; send the study again"

    def _take_back(self, problem: Problem) -> str:
        table = TABLES[problem.table]
        index.mark_kept(self._engine, table, problem.study_uid, [problem.what])
        return "known to be here again"

    def _set_orphan_aside(self, problem: Problem) -> str:
        if not self._look.is_orphan(problem.what):
            return "has its row meanwhile"
        moved = set_aside(self._files, problem.what)
        if self._look.known_paths([problem.what]) and not self._files.is_here(problem.what):
            self._files.move(moved, problem.what)  # its sender was told Success just now
            return "has its row meanwhile"
        return f"moved to {moved}"

    def _finish_purge(self, problem: Problem) -> str:
        table = TABLES[problem.table]
        index.end_purge(self._engine, table, problem.study_uid, self._files.remove)
        return "purged"

    def _enqueue_study(self, problem: Problem) -> str:
        stage = (problem.generation, "assemble", "")
        turn = self._progress.next_turn(problem.study_uid, stage)
        self._enqueue(problem, "assemble", str(turn), turn)
        return "enqueued"

    def _make_due(self, problem: Problem) -> str:
        runs = self._progress.runs(problem.study_uid)
        names = (runs[problem.generation, "report", ""].output or {})["due"]
        index.make_due(self._engine, problem.what, names)
        for name in names:
            self._enqueue_delivery_to(problem, name)
        return f"due at {', '.join(names)}"

    def _enqueue_delivery(self, problem: Problem) -> str:
        self._enqueue_delivery_to(problem, problem.destination)
        return "enqueued"

    def _enqueue_delivery_to(self, problem: Problem, name: str) -> None:
        stage = (problem.generation, "deliver", name)
        turn = self._progress.next_turn(problem.study_uid, stage)
        attempt = {"turn": turn, "waited": 0.0}
        options = {"queue_partition_key": name}
        self._enqueue(problem, "deliver", f"{turn}:{name}", name, attempt, **options)

    def _enqueue(
        self, problem: Problem, word: str, detail: str, *arguments: Any, **options: Any
    ) -> None:
        of = (problem.study_uid, problem.generation)
        mine = index.studies.c.study_uid == problem.study_uid
        with self._engine.connect() as connection:
            priority = connection.scalar(sa.select(index.studies.c.priority).where(mine))
        order: Any = {
            "workflow_name": word,
            "queue_name": index.QUEUES[word],
            "workflow_id": index.workflow_id(*of, word, detail),
            "app_version": index.VERSION,
            "priority": priority,
        }
        self._client.enqueue(order | options, *of, priority, *arguments)
