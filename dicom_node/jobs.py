"""jobs: what became of each study, and how to run a failed stage again or stop one.

Facts come from the index, progress from DBOS. A job is one generation of a study. UIDs only, no names.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient, WorkflowStatus

from dicom_node import errors, index
from dicom_node.errors import NodeError
from dicom_node.settings import Settings

LISTED = 200
"""The newest studies that ``list`` shows."""

BEFORE = dict(zip(index.PAST, ("received", *index.PAST.values()), strict=False))
FAILED = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
ACTIVE = ("DELAYED", "ENQUEUED", "PENDING")


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a destination is: objects acknowledged of all, the last status and its reason."""

    destination: str
    status: str
    acknowledged: int
    objects: int
    attempts: int
    reason: str
    delivered_at: str


@dataclass(frozen=True, slots=True)
class Job:
    """One generation of a study: its state is the past tense of the last word that was done."""

    study: str
    generation: int
    state: str
    reason: str
    instances: int
    received_at: str
    deliveries: tuple[Delivery, ...]
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """JSON types, in the order of a table's columns."""
        return asdict(self) | {"deliveries": [asdict(each) for each in self.deliveries]}


@dataclass(frozen=True, slots=True)
class _Run:
    """The last run of one stage (for deliver: to one destination)."""

    word: str
    destination: str
    turn: int
    status: WorkflowStatus


def list_jobs(settings: Settings) -> tuple[Job, ...]:
    """The latest generation of each study, the newest first."""
    with _Memory(settings) as memory:
        rows = memory.newest()
        runs = memory.runs([row.study_uid for row in rows])
        return tuple(memory.job(row.study_uid, row.generation, runs) for row in rows)


def show_job(settings: Settings, study_uid: str) -> tuple[Job, ...]:
    """Every generation of a study, the newest first. Raises NodeError for an unknown study."""
    with _Memory(settings) as memory:
        runs = memory.runs([study_uid])
        latest = memory.generation(study_uid)
        return tuple(memory.job(study_uid, number, runs) for number in range(latest, -1, -1))


def retry_job(settings: Settings, study_uid: str) -> str:
    """Run the failed, refused or canceled stage of the latest generation again; returns what was done.

    Raises NodeError when the study is unknown, or nothing of it has failed.
    """
    with _Memory(settings) as memory:
        generation = memory.generation(study_uid)
        runs = memory.runs([study_uid])[study_uid, generation]
        stopped = [run for run in runs if _stopped(run)]
        if not stopped:
            state, _ = _state(runs)
            raise NodeError(f"study {study_uid} is {state}; nothing of it has failed")
        for run in stopped:
            # Without the queue's name it would run on whatever worker comes first.
            memory.client.rewind_workflow(
                run.status.workflow_id,
                queue_name=index.QUEUES[run.word],
                queue_partition_key=run.destination or None,
            )
    words = ", ".join(f"{run.word} {run.destination}".strip() for run in stopped)
    return f"study {study_uid}: runs again: {words}"


def cancel_job(settings: Settings, study_uid: str) -> str:
    """Stop all work on a study after the step in hand; returns what was done. Raises NodeError."""
    with _Memory(settings) as memory:
        memory.generation(study_uid)
        index.close_now(memory.engine, study_uid)
        active = [
            run.status.workflow_id
            for runs in memory.runs([study_uid]).values()
            for run in runs
            if run.status.status in ACTIVE
        ]
        if not active:
            raise NodeError(f"study {study_uid}: no work on it is going on")
        memory.client.cancel_workflows(active)
    return f"study {study_uid}: canceled; what was received is kept"


class _Memory:
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

    def __enter__(self) -> "_Memory":
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

    def runs(self, study_uids: list[str]) -> dict[tuple[str, int], list[_Run]]:
        """For each generation the last run of each stage, in the order of the sentence."""
        last: dict[tuple[str, int], dict[tuple[str, str], _Run]] = defaultdict(dict)
        prefixes = [f"{study_uid}:" for study_uid in study_uids]
        found = self.client.list_workflows(workflow_id_prefix=prefixes, load_input=False)
        for status in found if prefixes else []:
            study_uid, generation, word, detail = status.workflow_id.split(":", 3)
            turn, _, destination = detail.partition(":")
            run = _Run(word, destination, int(turn or 0), status)
            runs = last[study_uid, int(generation)]
            if run.turn >= runs.get((word, destination), run).turn:
                runs[word, destination] = run
        words = list(index.QUEUES)
        ordered = defaultdict[tuple[str, int], list[_Run]](list)
        for key, runs in last.items():
            ordered[key] = sorted(runs.values(), key=lambda run: words.index(run.word))
        return ordered

    def job(self, study_uid: str, generation: int, runs: dict[tuple[str, int], list[_Run]]) -> Job:
        received = index.instances_of(self.engine, study_uid, generation)
        mine = runs[study_uid, generation]
        state, reason = _state(mine)
        deliveries = self._deliveries(study_uid, generation)
        if state == "delivered" and not deliveries:
            # The same objects were made of a later generation too, and are that one's to deliver.
            state = "superseded"
        waiting = [f"{each.destination}: {each.reason}" for each in deliveries if each.reason]
        return Job(
            study_uid,
            generation,
            state,
            reason or "; ".join(waiting) or _unused(mine),
            len(received),
            _clock(max((row.received_at for row in received), default=None)),
            deliveries,
            _seconds(mine),
        )

    def _deliveries(self, study_uid: str, generation: int) -> tuple[Delivery, ...]:
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
        return tuple(_delivery(name, items) for name, items in by_name.items())


def _delivery(destination: str, rows: list[sa.Row[Any]]) -> Delivery:
    """Sum up the objects of one destination; the worst status speaks for all."""
    severity = ("delivered", "warning", "pending", "waiting", "failed")
    status = max((row.status for row in rows), key=severity.index)
    acknowledged = [row.delivered_at for row in rows if row.delivered_at is not None]
    complete = len(acknowledged) == len(rows)
    return Delivery(
        destination,
        status,
        len(acknowledged),
        len(rows),
        max(row.attempts for row in rows),
        "; ".join(dict.fromkeys(row.reason for row in rows if row.reason)),
        _clock(max(acknowledged) if complete else None),
    )


def _stopped(run: _Run) -> bool:
    status = run.status
    return status.status in (*FAILED, "CANCELLED") or "refused" in (status.output or {})


def _state(runs: list[_Run]) -> tuple[str, str]:
    """The state of a job, and the reason where it is not on its way."""
    if not runs:
        return "received", ""
    for run in runs:
        if run.status.status in FAILED:
            return f"failed to {run.word}", _reason(run.status)
        if run.status.status == "CANCELLED":
            return "canceled", f"before it was {index.PAST[run.word]}"
        if refused := (run.status.output or {}).get("refused"):
            return "refused", refused
    word = runs[-1].word
    # Of every word: a report that was cut off may still have to name further destinations.
    done = all(run.status.status == "SUCCESS" for run in runs)
    return (index.PAST if done else BEFORE)[word], ""


def _reason(status: WorkflowStatus) -> str:
    """Our own sentences are known to hold no patient data; of other errors only the kind is told."""
    if status.error is None:
        return "its process died again and again in this stage"
    name = getattr(status.error, "name", type(status.error).__name__)
    return str(status.error) if hasattr(errors, name) else f"{name}; the log says where"


def _seconds(runs: list[_Run]) -> dict[str, float]:
    """For each finished stage how long its step took; deliver: the slowest destination's last attempt."""
    seconds: dict[str, float] = {}
    for run in runs:
        took = (run.status.output or {}).get("seconds")
        if took is not None:
            seconds[run.word] = max(seconds.get(run.word, 0.0), took)
    return seconds


def _unused(runs: list[_Run]) -> str:
    """Why instances of the study became part of no scan."""
    reasons = [
        (run.status.output or {}).get("unused", {}) for run in runs if run.word == "assemble"
    ]
    return "; ".join(f"{count} unused: {why}" for each in reasons for why, count in each.items())


def _clock(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at is not None else ""
