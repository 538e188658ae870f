"""What a job is, and which state its stages are in together."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from dbos import WorkflowStatus

from dicom_node import errors, index
from dicom_node.errors import reason_of
from dicom_node.reasons import REASONS

BEFORE = dict(zip(index.PAST, ("received", *index.PAST.values()), strict=False))
FAILED = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

NOTHING = "nothing to analyze"
"""The state of a generation that brought nothing but results of this program."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a destination is: objects acknowledged of all, the last status and its reason.

    ``next_attempt``: when it is tried again, in words; "" where nothing is left to do.
    """

    destination: str
    status: str
    acknowledged: int
    objects: int
    attempts: int
    reason: str
    delivered_at: str
    next_attempt: str = ""


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
    """Which viewers will not show them rightly, and what helps; what is odd about the study."""
    set_aside: str = ""
    """What came for the study and is no part of it, and what to do."""

    @property
    def advice(self) -> str:
        """What the reason of a refusal asks for."""
        return REASONS[self.code].advice if self.code in REASONS else ""

    def as_dict(self) -> dict[str, Any]:
        """JSON types, in the order of a table's columns."""
        return asdict(self) | {"deliveries": [asdict(each) for each in self.deliveries]}


@dataclass(frozen=True, slots=True)
class Run:
    """The last run of one stage (for deliver: to one destination; for report also: of the answer)."""

    word: str
    destination: str
    turn: int
    status: WorkflowStatus


def arrived_state(state: str, deliveries: Sequence[Delivery]) -> str:
    """Delivered where all was acknowledged, also while commitment to it is waited for."""
    statuses = {each.status for each in deliveries}
    if statuses == {index.COMMITTED}:
        return index.COMMITTED
    return "delivered" if statuses <= {"delivered", "warning", index.COMMITTED} else state


def delivery_of(destination: str, rows: list[sa.Row[Any]], run: Run | None = None) -> Delivery:
    """Sum up the objects of one destination; the worst status speaks for all. ``run``: its last attempt."""
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
    # An attempt that has just brought the last object is about to end.
    is_ending = complete and run is not None and run.status.status == "PENDING"
    is_over = is_ending or status == index.SUPERSEDED
    return Delivery(
        destination,
        status,
        len(acknowledged),
        len(rows),
        max(row.attempts for row in rows),
        "; ".join(dict.fromkeys(row.reason for row in rows if row.reason)),
        clock_of(max(acknowledged) if complete else None),
        "" if run is None or is_over else next_attempt_of(run),
    )


def next_attempt_of(run: Run) -> str:
    """When a delivery is tried next, by its last run."""
    if run.status.status == "DELAYED":
        return clock_of((run.status.delay_until_epoch_ms or 0) / 1000)
    if run.status.status in ("ENQUEUED", "PENDING"):
        return "now" if run.status.status == "PENDING" else "as soon as a worker is free"
    if run.status.status in FAILED:
        return f"none; `jobs retry STUDY`, or `jobs retry --destination {run.destination} --all`"
    return "none: canceled; `jobs retry STUDY`" if run.status.status == "CANCELLED" else ""


def latest_of(study_uid: str, newest: int, runs: dict[tuple[str, int], list[Run]]) -> int:
    """The newest generation that is not just results that came back; of none that is, the newest."""
    for generation in range(newest, -1, -1):
        if state_of(runs[study_uid, generation])[0] != NOTHING:
            return generation
    return newest


def said_by(run: Run, key: str) -> Any:
    """What the output of a finished run has under a key."""
    return (run.status.output or {}).get(key)


def code_of(runs: list[Run]) -> str:
    """The reason that the answer gives first; "" where nothing was to answer."""
    for run in runs:
        if run.word != "deliver" and run.status.status in FAILED:
            return reason_of(_kind(run.status)).value
    grounds = [ground for run in runs for ground in said_by(run, "grounds") or ()]
    return str(grounds[0][0]) if grounds else ""


def state_of(runs: list[Run]) -> tuple[str, str]:
    """The state of a job, and the reason where it is not on its way."""
    if not runs:
        return "received", ""
    for run in runs:
        if run.status.status in FAILED:
            return f"failed to {run.word}", _reason(run.status)
        if run.status.status == "CANCELLED":
            return "canceled", f"before it was {index.PAST[run.word]}"
    for run in runs:
        if refused := said_by(run, "refused"):
            return "refused", refused
        if nothing := said_by(run, "nothing"):
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


def seconds_of(runs: list[Run]) -> dict[str, float]:
    """For each finished stage how long its step took; deliver: the slowest destination's last attempt."""
    seconds: dict[str, float] = {}
    for run in runs:
        took = said_by(run, "seconds")
        if took is not None:
            seconds[run.word] = max(seconds.get(run.word, 0.0), took)
    return seconds


def unused_of(runs: list[Run]) -> str:
    """Why instances of the study became part of no scan."""
    reasons = [said_by(run, "unused") or {} for run in runs if run.word == "assemble"]
    return "; ".join(f"{count} unused: {why}" for each in reasons for why, count in each.items())


def aside_words(rows: Sequence[sa.Row[Any]]) -> str:
    """What was set aside, counted, and what to do where another patient is named."""
    counts = Counter(row.reason for row in rows)
    words = [
        f"{counts[reason]} instances {what}"
        for reason, what in (
            (index.OTHER_PATIENT, "came again under another patient"),
            (index.OTHER_CONTENT, "came again with other content"),
            (index.FORMER_PATIENT, "name a former patient"),
        )
        if counts[reason]
    ]
    if counts[index.OTHER_PATIENT]:
        words.append(
            "where the patient was corrected and the whole study sent again, `dicom-node jobs accept STUDY` "
            "takes the corrected ones in place of the first"
        )
    return "; ".join(words)


def clock_of(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at is not None else ""
