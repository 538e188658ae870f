"""What index and DBOS remember of studies, read together."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node import index
from dicom_node.errors import NodeError
from dicom_node.jobs.states import (
    Delivery,
    Job,
    Run,
    arrived_state,
    aside_words,
    clock_of,
    code_of,
    delivery_of,
    said_by,
    seconds_of,
    state_of,
    unused_of,
)
from dicom_node.settings import Settings

LISTED = 200
"""The newest studies that ``list`` shows."""

ACTIVE = ("DELAYED", "ENQUEUED", "PENDING")


class Memory:
    """The index and DBOS, opened for one question."""

    def __init__(self, settings: Settings) -> None:
        self.engine = index.open_engine(settings.node.database_url)
        try:
            self.client: DBOSClient = index.open_client(self.engine)
            with self.engine.connect() as connection:
                connection.execute(sa.select(index.studies.c.study_uid).limit(1))
        except index.DATABASE_ERRORS as error:
            self.engine.dispose()
            url = self.engine.url.render_as_string(hide_password=True)
            raise NodeError(f"no node has run on {url} yet, or it cannot be reached") from error

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.destroy()
        self.engine.dispose()

    def newest(self) -> Sequence[sa.Row[Any]]:
        order = index.studies.c.last_at.desc()
        with self.engine.connect() as connection:
            return connection.execute(sa.select(index.studies).order_by(order).limit(LISTED)).all()

    def generation(self, study_uid: str) -> int:
        """The latest generation. Raises NodeError for an unknown study."""
        mine = index.studies.c.study_uid == study_uid
        with self.engine.connect() as connection:
            number = connection.scalar(sa.select(index.studies.c.generation).where(mine))
        if number is None:
            raise NodeError(f"study {study_uid} was never received")
        return int(number)

    def reopen(
        self,
        study_uid: str,
        newest: int,
        change: Callable[[sa.Connection], None] = lambda _connection: None,
    ) -> None:
        """Open a generation with the instances that are there, closed at once. Raises NodeError.

        ``change`` is done in the same transaction.
        """
        study = index.studies
        values = {"generation": newest + 1, "closed": False}
        unchanged = (study.c.study_uid == study_uid, study.c.generation == newest, study.c.closed)
        order = self._order("assemble", index.workflow_id(study_uid, newest + 1, "assemble", "0"))
        with self.engine.begin() as connection:
            changed = connection.execute(study.update().where(*unchanged).values(values))
            if changed.rowcount != 1:
                raise NodeError(f"study {study_uid}: instances are arriving; it is analyzed anyway")
            change(connection)
            priority = connection.scalar(sa.select(study.c.priority).where(unchanged[0]))
            of = (study_uid, newest + 1, priority, 0)
            self.client.enqueue_in_transaction(connection, order | {"priority": priority}, *of)
        index.close_now(self.engine, study_uid)

    def deliver_anew(self, run: Run) -> None:
        """Enqueue a delivery after the last one, as if it were the first."""
        study_uid, generation, _, _ = run.status.workflow_id.split(":", 3)
        priority = run.status.priority or 0
        self.deliver((study_uid, int(generation)), run.destination, run.turn + 1, priority)

    def deliver(self, of: tuple[str, int], destination: str, turn: int, priority: int) -> None:
        """Enqueue a delivery of a study's generation, with all its patience."""
        name = index.workflow_id(*of, "deliver", f"{turn}:{destination}")
        order = self._order("deliver", name)
        order |= {"priority": priority, "queue_partition_key": destination}
        attempt = {"turn": turn, "waited": 0.0}
        self.client.enqueue(order, *of, priority, destination, attempt)

    def _order(self, word: str, workflow_id: str) -> Any:
        return {
            "workflow_name": word,
            "queue_name": index.QUEUES[word],
            "workflow_id": workflow_id,
            "app_version": index.VERSION,
        }

    def runs(self, study_uids: list[str]) -> dict[tuple[str, int], list[Run]]:
        """For each generation the last run of each stage, in the order of the sentence."""
        last: dict[tuple[str, int], dict[tuple[str, str], Run]] = defaultdict(dict)
        beginnings = [f"{study_uid}:" for study_uid in study_uids]
        for status in index.runs_of(self.engine, self.client, beginnings):
            study_uid, generation, word, detail = status.workflow_id.split(":", 3)
            turn, _, destination = detail.partition(":")
            run = Run(word, destination, int(turn or 0), status)
            runs = last[study_uid, int(generation)]
            if run.turn >= runs.get((word, destination), run).turn:
                runs[word, destination] = run
        words = list(index.QUEUES)
        ordered = defaultdict[tuple[str, int], list[Run]](list)
        for key, runs in last.items():
            ordered[key] = sorted(runs.values(), key=lambda run: words.index(run.word))
        return ordered

    def active(self, study_uid: str, generation: int) -> list[str]:
        """The workflows that go on, of all generations up to one: a later one was opened since."""
        return [
            run.status.workflow_id
            for (_, number), runs in self.runs([study_uid]).items()
            for run in runs
            if number <= generation and run.status.status in ACTIVE
        ]

    def job(self, study_uid: str, generation: int, runs: dict[tuple[str, int], list[Run]]) -> Job:
        received = index.instances_of(self.engine, study_uid, generation)
        mine = runs[study_uid, generation]
        state, reason = state_of(mine)
        if not mine and (kept := index.outcome_of(self.engine, study_uid, generation))[0]:
            state, reason = kept  # its job rows are gone
        deliveries = self._deliveries(study_uid, generation, mine)
        if state == "delivered" and any(each.status == index.SUPERSEDED for each in deliveries):
            state = index.SUPERSEDED
        if deliveries and (
            state == "delivered" or any(run.word == "deliver" and run.turn for run in mine)
        ):
            state = arrived_state(state, deliveries)
        waiting = [f"{each.destination}: {each.reason}" for each in deliveries if each.reason]
        gone = index.files_not_kept(self.engine, study_uid, generation)
        reasons = (reason or "; ".join(waiting) or unused_of(mine), gone)
        return Job(
            study_uid,
            generation,
            state,
            "; ".join(filter(None, reasons)),
            len(received),
            clock_of(max((row.received_at for row in received), default=None)),
            deliveries,
            seconds_of(mine),
            index.evidence_of(self.engine, study_uid, generation),
            code_of(mine),
            self._checked(study_uid, generation),
            tuple(text for run in mine for text in said_by(run, "cautions") or ()),
            aside_words(index.aside_of(self.engine, study_uid)),
        )

    def _checked(self, study_uid: str, generation: int) -> str:
        results = index.results
        query = sa.select(results.c.kind, results.c.verdict).where(
            results.c.study_uid == study_uid,
            results.c.generation == generation,
            results.c.verdict != "",
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return ""
        wrong = [row for row in rows if row.verdict != index.CONFORMS]
        count = f"{len(rows) - len(wrong)} of {len(rows)} objects conform"
        return "; ".join([count, *(f"{row.kind}: {row.verdict}" for row in wrong)])

    def _deliveries(
        self, study_uid: str, generation: int, runs: Sequence[Run]
    ) -> tuple[Delivery, ...]:
        results, deliveries = index.results, index.deliveries
        with self.engine.connect() as connection:
            rows = connection.execute(
                sa.select(deliveries)
                .join(results, results.c.sop_uid == deliveries.c.sop_uid)
                .where(results.c.study_uid == study_uid, results.c.generation == generation)
                .order_by(deliveries.c.destination, results.c.made_at)
            ).all()
        by_name: dict[str, list[sa.Row[Any]]] = defaultdict(list)
        for row in rows:
            by_name[row.destination].append(row)
        last = {run.destination: run for run in runs if run.word == "deliver"}
        return tuple(delivery_of(name, items, last.get(name)) for name, items in by_name.items())
