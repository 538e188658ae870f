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
from dicom_node.errors import NodeError, reason_of
from dicom_node.settings import Settings

LISTED = 200
"""The newest studies that ``list`` shows."""

BEFORE = dict(zip(index.PAST, ("received", *index.PAST.values()), strict=False))
FAILED = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
ACTIVE = ("DELAYED", "ENQUEUED", "PENDING")

NOTHING = "nothing to analyze"
"""The state of a generation that brought nothing but results of this program."""


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
    """One generation of a study: its state is the past tense of the last word that was done.

    ``code`` is the reason why it was not analyzed, as in the answer that was sent (``reasons``).
    """

    study: str
    generation: int
    state: str
    reason: str
    instances: int
    received_at: str
    deliveries: tuple[Delivery, ...]
    seconds: dict[str, float]
    evidence: str
    """What showed that the study was complete; "" while it is not."""
    code: str = ""
    checked: str = ""
    """How many of the objects made conform, and why the others do not."""
    cautions: tuple[str, ...] = ()
    """Which viewers will not show them rightly, and what helps."""

    def as_dict(self) -> dict[str, Any]:
        """JSON types, in the order of a table's columns."""
        return asdict(self) | {"deliveries": [asdict(each) for each in self.deliveries]}


@dataclass(frozen=True, slots=True)
class _Run:
    """The last run of one stage (for deliver: to one destination; for report also: of the answer)."""

    word: str
    destination: str
    turn: int
    status: WorkflowStatus


def list_jobs(settings: Settings) -> tuple[Job, ...]:
    """The latest generation of each study that brought anything to analyze, the newest study first."""
    with Memory(settings) as memory:
        rows = memory.newest()
        runs = memory.runs([row.study_uid for row in rows])
        latest = [(row.study_uid, _latest(row.study_uid, row.generation, runs)) for row in rows]
        return tuple(memory.job(study_uid, number, runs) for study_uid, number in latest)


def show_job(settings: Settings, study_uid: str) -> tuple[Job, ...]:
    """Every generation of a study, the newest first. Raises NodeError for an unknown study."""
    with Memory(settings) as memory:
        runs = memory.runs([study_uid])
        latest = memory.generation(study_uid)
        return tuple(memory.job(study_uid, number, runs) for number in range(latest, -1, -1))


def retry_job(settings: Settings, study_uid: str) -> str:
    """Run what failed, was refused or canceled again; returns what was done.

    A failed delivery begins anew, with all its patience; a canceled stage goes on. A stage that failed or
    refused has been answered, so the study is analyzed as a new generation, whose report names that answer.
    Raises NodeError when the study is unknown, or nothing of it has failed.
    """
    with Memory(settings) as memory:
        runs = memory.runs([study_uid])
        newest = memory.generation(study_uid)
        mine = runs[study_uid, _latest(study_uid, newest, runs)]
        stopped = [run for run in mine if run.status.status in (*FAILED, "CANCELLED")]
        outcome = index.outcome_of(memory.engine, study_uid, newest)[0]
        is_refused = outcome == "refused" or any(_said(run, "refused") for run in mine)
        if any(run.word != "deliver" and run.status.status in FAILED for run in stopped) or (
            not stopped and is_refused
        ):
            memory.reopen(study_uid, newest)
            return f"study {study_uid}: analyzed again, as generation {newest + 1}"
        if not stopped:
            outcome = outcome or state_of(mine)[0]
            raise NodeError(f"study {study_uid} is {outcome}; nothing of it has failed")
        for run in stopped:
            if run.word == "deliver":
                memory.deliver_anew(run)
            else:
                # Without the queue's name it would run on whatever worker comes first.
                queue = index.QUEUES[run.word]
                memory.client.rewind_workflow(run.status.workflow_id, queue_name=queue)
    words = ", ".join(f"{run.word} {run.destination}".strip() for run in stopped)
    return f"study {study_uid}: runs again: {words}"


def cancel_job(settings: Settings, study_uid: str) -> str:
    """Stop all work on a study after the step in hand; returns what was done. Raises NodeError."""
    with Memory(settings) as memory:
        memory.generation(study_uid)
        generation = index.close_now(memory.engine, study_uid)
        if not (active := memory.active(study_uid, generation)):
            raise NodeError(f"study {study_uid}: no work on it is going on")
        while (
            active
        ):  # a stage that has just ended has enqueued the next one since it was looked at
            memory.client.cancel_workflows(active)
            active = memory.active(study_uid, generation)
    return f"study {study_uid}: canceled; what was received is kept"


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

    def reopen(self, study_uid: str, newest: int) -> None:
        """Open a generation with the instances that are there, closed at once. Raises NodeError."""
        study = index.studies
        values = {"generation": newest + 1, "closed": False}
        unchanged = (study.c.study_uid == study_uid, study.c.generation == newest, study.c.closed)
        order = self._order("assemble", index.workflow_id(study_uid, newest + 1, "assemble", "0"))
        with self.engine.begin() as connection:
            changed = connection.execute(study.update().where(*unchanged).values(values))
            if changed.rowcount != 1:
                raise NodeError(f"study {study_uid}: instances are arriving; it is analyzed anyway")
            priority = connection.scalar(sa.select(study.c.priority).where(unchanged[0]))
            of = (study_uid, newest + 1, priority, 0)
            self.client.enqueue_in_transaction(connection, order | {"priority": priority}, *of)
        index.close_now(self.engine, study_uid)

    def deliver_anew(self, run: _Run) -> None:
        """Enqueue a delivery after the last one, as if it were the first."""
        study_uid, generation, word, _ = run.status.workflow_id.split(":", 3)
        turn, priority = run.turn + 1, run.status.priority or 0
        detail = f"{turn}:{run.destination}"
        order = self._order(word, index.workflow_id(study_uid, int(generation), word, detail))
        order |= {"priority": priority, "queue_partition_key": run.destination}
        attempt = {"turn": turn, "since": 0.0}
        of = (study_uid, int(generation), priority, run.destination, attempt)
        self.client.enqueue(order, *of)

    def _order(self, word: str, workflow_id: str) -> Any:
        return {
            "workflow_name": word,
            "queue_name": index.QUEUES[word],
            "workflow_id": workflow_id,
            "app_version": index.VERSION,
        }

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

    def active(self, study_uid: str, generation: int) -> list[str]:
        """The workflows that go on, of all generations up to one: a later one was opened since."""
        return [
            run.status.workflow_id
            for (_, number), runs in self.runs([study_uid]).items()
            for run in runs
            if number <= generation and run.status.status in ACTIVE
        ]

    def job(self, study_uid: str, generation: int, runs: dict[tuple[str, int], list[_Run]]) -> Job:
        received = index.instances_of(self.engine, study_uid, generation)
        mine = runs[study_uid, generation]
        state, reason = state_of(mine)
        if not mine and (kept := index.outcome_of(self.engine, study_uid, generation))[0]:
            state, reason = kept  # its job rows are gone
        deliveries = self._deliveries(study_uid, generation)
        if state == "delivered" and any(each.status == index.SUPERSEDED for each in deliveries):
            state = index.SUPERSEDED
        if deliveries and (
            state == "delivered" or any(run.word == "deliver" and run.turn for run in mine)
        ):
            state = _arrived(state, deliveries)
        waiting = [f"{each.destination}: {each.reason}" for each in deliveries if each.reason]
        gone = index.files_not_kept(self.engine, study_uid, generation)
        reasons = (reason or "; ".join(waiting) or _unused(mine), gone)
        return Job(
            study_uid,
            generation,
            state,
            "; ".join(filter(None, reasons)),
            len(received),
            _clock(max((row.received_at for row in received), default=None)),
            deliveries,
            _seconds(mine),
            index.evidence_of(self.engine, study_uid, generation),
            _code(mine),
            self._checked(study_uid, generation),
            tuple(text for run in mine for text in _said(run, "cautions") or ()),
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


def _arrived(state: str, deliveries: Sequence[Delivery]) -> str:
    """Delivered where all was acknowledged, also while commitment to it is waited for."""
    statuses = {each.status for each in deliveries}
    if statuses == {index.COMMITTED}:
        return index.COMMITTED
    return "delivered" if statuses <= {"delivered", "warning", index.COMMITTED} else state


def _delivery(destination: str, rows: list[sa.Row[Any]]) -> Delivery:
    """Sum up the objects of one destination; the worst status speaks for all."""
    severity = (
        index.COMMITTED,
        "delivered",
        "warning",
        index.SUPERSEDED,
        "pending",
        "waiting",
        "failed",
    )
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


def _latest(study_uid: str, newest: int, runs: dict[tuple[str, int], list[_Run]]) -> int:
    """The newest generation that is not just results that came back; of none that is, the newest."""
    for generation in range(newest, -1, -1):
        if state_of(runs[study_uid, generation])[0] != NOTHING:
            return generation
    return newest


def _said(run: _Run, key: str) -> Any:
    """What the output of a finished run has under a key."""
    return (run.status.output or {}).get(key)


def _code(runs: list[_Run]) -> str:
    """The reason that the answer gives first; "" where nothing was to answer."""
    for run in runs:
        if run.word != "deliver" and run.status.status in FAILED:
            return reason_of(_kind(run.status)).value
    grounds = [ground for run in runs for ground in _said(run, "grounds") or ()]
    return str(grounds[0][0]) if grounds else ""


def state_of(runs: list[_Run]) -> tuple[str, str]:
    """The state of a job, and the reason where it is not on its way."""
    if not runs:
        return "received", ""
    for run in runs:
        if run.status.status in FAILED:
            return f"failed to {run.word}", _reason(run.status)
        if run.status.status == "CANCELLED":
            return "canceled", f"before it was {index.PAST[run.word]}"
    for run in runs:
        if refused := _said(run, "refused"):
            return "refused", refused
        if nothing := _said(run, "nothing"):
            return NOTHING, nothing
    word = runs[-1].word
    # Of every word: a report that was cut off may still have to name further destinations.
    done = all(run.status.status == "SUCCESS" for run in runs)
    return (index.PAST if done else BEFORE)[word], ""


def _reason(status: WorkflowStatus) -> str:
    """Our own sentences are known to hold no patient data; of other errors only the kind is told."""
    if status.error is None:
        return "its process died again and again in this stage"
    name = _kind(status)
    return str(status.error) if hasattr(errors, name) else f"{name}; the log says where"


def _kind(status: WorkflowStatus) -> str:
    return str(getattr(status.error, "name", type(status.error).__name__))


def _seconds(runs: list[_Run]) -> dict[str, float]:
    """For each finished stage how long its step took; deliver: the slowest destination's last attempt."""
    seconds: dict[str, float] = {}
    for run in runs:
        took = _said(run, "seconds")
        if took is not None:
            seconds[run.word] = max(seconds.get(run.word, 0.0), took)
    return seconds


def _unused(runs: list[_Run]) -> str:
    """Why instances of the study became part of no scan."""
    reasons = [_said(run, "unused") or {} for run in runs if run.word == "assemble"]
    return "; ".join(f"{count} unused: {why}" for each in reasons for why, count in each.items())


def _clock(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at is not None else ""
