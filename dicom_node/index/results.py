"""What was made, and which destination acknowledged it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa

from dicom_node.index.database import insert
from dicom_node.index.keeping import KEPT
from dicom_node.index.tables import deliveries, generations, results, studies


@dataclass(frozen=True, slots=True)
class Result:
    """One written object. ``path`` is relative to the data folder.

    ``verdict``: CONFORMS, or why it may not leave the node; "" where it was not checked.
    """

    sop_uid: str
    study_uid: str
    generation: int
    analysis: str
    acquisition: int
    kind: str
    sop_class: str
    sha256: str
    path: str
    verdict: str = ""
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Earlier:
    """A result of an earlier generation; ``acknowledged``: the names of the destinations that have it."""

    generation: int
    analysis: str
    acquisition: int
    kind: str
    sop_class: str
    sop_uid: str
    path: str
    sha256: str
    acknowledged: tuple[str, ...]


CONFORMS = "conforms"
SUPERSEDED = "superseded"
"""Status of a delivery that will not be: a later generation has results of its own."""

FAILED = "failed"
"""Status of an object that a destination has refused for good."""


def record_results(
    engine: sa.Engine, made: Sequence[Result], destinations: Iterable[str]
) -> tuple[str, ...]:
    """Remember written objects and that each is due at each destination; once, however often it runs.

    What earlier generations of the study have not delivered yet is superseded, so that no two of them
    compete in an archive; returns the SOP Instance UIDs of these. Where a later generation has results
    already, those of this one are superseded from the start.
    """
    superseded: set[str] = set()
    with engine.begin() as connection:
        for result in made:
            row = asdict(result) | {"made_at": time.time(), "state": KEPT}
            connection.execute(
                insert(connection, results)
                .values(row)
                .on_conflict_do_update(index_elements=["sop_uid", "generation"], set_=row)
            )
            for destination in destinations:
                _fall_due(connection, result.sop_uid, destination)
        for study_uid in {result.study_uid for result in made}:
            superseded |= _supersede(connection, study_uid)
    return tuple(sorted(superseded))


def _fall_due(connection: sa.Connection, sop_uid: str, destination: str) -> None:
    """An object is due at a destination unless it was delivered there, or failed to be."""
    due = {"status": "pending", "reason": "", "attempts": 0, "due_at": time.time()}
    connection.execute(
        insert(connection, deliveries)
        .values(sop_uid=sop_uid, destination=destination, **due)
        .on_conflict_do_update(
            index_elements=["sop_uid", "destination"],
            set_=due,
            where=deliveries.c.status == SUPERSEDED,
        )
    )


def _supersede(connection: sa.Connection, study_uid: str) -> set[str]:
    """Nothing but the results of the latest generation that has any is due."""
    mine = results.c.study_uid == study_uid
    latest = sa.select(sa.func.max(results.c.generation)).where(mine).scalar_subquery()
    current = sa.select(results.c.sop_uid).where(mine, results.c.generation == latest)
    older = sa.select(results.c.sop_uid).where(mine, results.c.sop_uid.not_in(current))
    waiting = (
        deliveries.c.sop_uid.in_(older)
        & deliveries.c.delivered_at.is_(None)
        & (deliveries.c.status != SUPERSEDED)
    )
    found = set(connection.scalars(sa.select(deliveries.c.sop_uid).where(waiting)))
    reason = "a later generation has results of its own"
    connection.execute(deliveries.update().where(waiting).values(status=SUPERSEDED, reason=reason))
    return found


def withhold_results(engine: sa.Engine, study_uid: str, reason: str) -> None:
    """What a study has not delivered yet goes nowhere any more, and why; it is as superseded."""
    mine = sa.select(results.c.sop_uid).where(results.c.study_uid == study_uid)
    waiting = deliveries.c.sop_uid.in_(mine) & deliveries.c.delivered_at.is_(None)
    with engine.begin() as connection:
        connection.execute(
            deliveries.update().where(waiting).values(status=SUPERSEDED, reason=reason)
        )


def earlier_results(engine: sa.Engine, study_uid: str, generation: int) -> tuple[Earlier, ...]:
    """What the generations before this one gave, the latest first; superseded objects, which no
    destination will ever have, are not among them, nor are those that name a former patient."""
    delivered = sa.exists().where(
        deliveries.c.sop_uid == results.c.sop_uid, deliveries.c.delivered_at.is_not(None)
    )
    withdrawn = sa.exists().where(
        deliveries.c.sop_uid == results.c.sop_uid, deliveries.c.status == SUPERSEDED
    )
    query = (
        sa.select(results)
        .where(results.c.study_uid == study_uid, results.c.generation < generation)
        .where(results.c.generation >= _accepted_in(study_uid))
        .where(delivered | ~withdrawn)
        .order_by(results.c.generation.desc(), results.c.made_at, results.c.sop_uid)
    )
    having = sa.select(deliveries.c.sop_uid, deliveries.c.destination).where(
        deliveries.c.delivered_at.is_not(None),
        deliveries.c.sop_uid.in_(
            sa.select(results.c.sop_uid).where(results.c.study_uid == study_uid)
        ),
    )
    names = [item.name for item in fields(Earlier) if item.name != "acknowledged"]
    with engine.connect() as connection:
        rows = connection.execute(query).all()
        has: dict[str, list[str]] = {}
        for sop_uid, destination in connection.execute(having.order_by(deliveries.c.destination)):
            has.setdefault(sop_uid, []).append(destination)
    return tuple(
        Earlier(
            **{name: getattr(row, name) for name in names},
            acknowledged=tuple(has.get(row.sop_uid, ())),
        )
        for row in rows
    )


def destinations_of(engine: sa.Engine, study_uid: str, generation: int) -> list[str]:
    """The destinations that have any result of a study, of generations up to this one."""
    query = (
        sa.select(deliveries.c.destination)
        .join(results, results.c.sop_uid == deliveries.c.sop_uid)
        .where(results.c.study_uid == study_uid, results.c.generation <= generation)
        .where(results.c.analysis != "", deliveries.c.delivered_at.is_not(None))
        .distinct()
    )
    with engine.connect() as connection:
        return sorted(connection.scalars(query))


def moments_of(
    engine: sa.Engine, study_uid: str, generation: int
) -> tuple[float | None, dict[str, float]]:
    """When a generation was closed, and by SOP Instance UID when the first one that made it was.

    Seconds since 1970-01-01 UTC; recorded once, so that a stage which runs again says the same. None for a
    generation that is still open.
    """
    closed = generations.c.closed_at
    mine = generations.c.study_uid == study_uid
    own = sa.select(closed).where(mine, generations.c.generation == generation)
    first = (
        sa.select(results.c.sop_uid, sa.func.min(closed))
        .join(
            generations,
            (generations.c.study_uid == results.c.study_uid)
            & (generations.c.generation == results.c.generation),
        )
        .where(mine, generations.c.generation < generation)
        .group_by(results.c.sop_uid)
    )
    with engine.connect() as connection:
        now: float | None = connection.scalar(own)
        return now, {uid: float(at) for uid, at in connection.execute(first)}


def _accepted_in(study_uid: str) -> Any:
    """The generation from which on the results are of the patient that was accepted last."""
    mine = studies.c.study_uid == study_uid
    return sa.select(studies.c.accepted_generation).where(mine).scalar_subquery()


def results_due(
    engine: sa.Engine, study_uid: str, generation: int, destination: str, with_failed: bool = True
) -> list[sa.Row[Any]]:
    """The results of a generation that a destination has not acknowledged.

    Those first that were not tried for longest, then in order of writing: no object that fails again and
    again keeps others back. ``with_failed``: also those that it has refused for good. None of an older
    generation once a later one has results.
    """
    passed_over = [SUPERSEDED] if with_failed else [SUPERSEDED, FAILED]
    with engine.connect() as connection:
        return list(
            connection.execute(
                sa.select(results)
                .join(deliveries, deliveries.c.sop_uid == results.c.sop_uid)
                .where(
                    results.c.study_uid == study_uid,
                    results.c.generation == generation,
                    deliveries.c.destination == destination,
                    deliveries.c.delivered_at.is_(None),
                    deliveries.c.status.not_in(passed_over),
                )
                .order_by(sa.func.coalesce(deliveries.c.tried_at, 0.0), results.c.made_at)
            )
        )


def results_failed(
    engine: sa.Engine, study_uid: str, generation: int, destination: str
) -> dict[str, str]:
    """The results of a generation that a destination has refused for good, and why."""
    query = (
        sa.select(deliveries.c.sop_uid, deliveries.c.reason)
        .join(results, deliveries.c.sop_uid == results.c.sop_uid)
        .where(
            results.c.study_uid == study_uid,
            results.c.generation == generation,
            deliveries.c.destination == destination,
            deliveries.c.status == FAILED,
        )
        .order_by(results.c.made_at, deliveries.c.sop_uid)
    )
    with engine.connect() as connection:
        return {row.sop_uid: row.reason for row in connection.execute(query)}


def record_sending(engine: sa.Engine, sop_uid: str, destination: str) -> bool:
    """Remember that an object is about to be sent; whether an earlier send of it was never answered.

    Before it is sent: a process that is killed meanwhile does not know either whether it arrived.
    """
    mine = (deliveries.c.sop_uid == sop_uid, deliveries.c.destination == destination)
    sent = {"unanswered": deliveries.c.unanswered + 1, "tried_at": time.time()}
    with engine.begin() as connection:
        connection.execute(deliveries.update().where(*mine).values(sent))
        count = connection.scalar(sa.select(deliveries.c.unanswered).where(*mine)) or 0
    return count > 1


def record_answer(engine: sa.Engine, sop_uid: str, destination: str) -> None:
    """Remember that what was sent last was answered, whatever the answer is."""
    mine = (deliveries.c.sop_uid == sop_uid, deliveries.c.destination == destination)
    open_ones = deliveries.c.unanswered > 0
    with engine.begin() as connection:
        connection.execute(
            deliveries.update()
            .where(*mine, open_ones)
            .values(unanswered=deliveries.c.unanswered - 1)
        )


def record_delivery(
    engine: sa.Engine, sop_uid: str, destination: str, status: str, reason: str = ""
) -> None:
    """Remember one attempt: ``delivered`` or ``warning`` (the peer said so), ``waiting`` or ``failed``.

    An attempt that failed after the delivery was superseded changes nothing.
    """
    now = time.time()
    is_delivered = status in ("delivered", "warning")
    arrived = {"delivered_at": now, "unanswered": 0} if is_delivered else {"delivered_at": None}
    with engine.begin() as connection:
        connection.execute(
            deliveries.update()
            .where(deliveries.c.sop_uid == sop_uid, deliveries.c.destination == destination)
            .where(sa.true() if is_delivered else deliveries.c.status != SUPERSEDED)
            .values(status=status, reason=reason, attempts=deliveries.c.attempts + 1, **arrived)
        )


def fall_due_again(engine: sa.Engine, study_uid: str, generation: int, destination: str) -> None:
    """What a destination refused for good is to be sent once more."""
    mine = sa.select(results.c.sop_uid).where(
        results.c.study_uid == study_uid, results.c.generation == generation
    )
    refused = (
        deliveries.c.sop_uid.in_(mine),
        deliveries.c.destination == destination,
        deliveries.c.status == FAILED,
    )
    with engine.begin() as connection:
        connection.execute(deliveries.update().where(*refused).values(status="waiting"))


def undelivered(
    engine: sa.Engine, destination: str, with_uncommitted: bool
) -> tuple[tuple[str, int], ...]:
    """Studies with their generation of which a destination has not everything, the longest due first.

    ``with_uncommitted``: also those whose objects it has, and has not committed to.
    """
    lacking = deliveries.c.committed_at if with_uncommitted else deliveries.c.delivered_at
    query = (
        sa.select(results.c.study_uid, sa.func.max(results.c.generation).label("generation"))
        .join(deliveries, deliveries.c.sop_uid == results.c.sop_uid)
        .where(
            deliveries.c.destination == destination,
            lacking.is_(None),
            deliveries.c.status != SUPERSEDED,
        )
        .group_by(results.c.study_uid)
        .order_by(sa.func.min(deliveries.c.due_at), results.c.study_uid)
    )
    with engine.connect() as connection:
        return tuple((row.study_uid, row.generation) for row in connection.execute(query))
