"""What arrives: one transaction per instance, generations of a study, and when a generation is complete."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node.errors import DuplicateInstance
from dicom_node.index.database import insert
from dicom_node.index.tables import associations, instances, studies

QUEUES = {"assemble": "cpu", "analyze": "gpu", "report": "cpu", "deliver": "deliver"}
"""The words of the sentence, in order, and the queue each runs on."""

PAST = {
    "assemble": "assembled",
    "analyze": "analyzed",
    "report": "reported",
    "deliver": "delivered",
}
"""What a study is after each word: the states of a job, and the events of the log."""

VERSION = "pipeline-1"
"""Changes only when the sequence of steps does: work of another version is not picked up."""

FORGOTTEN_ASSOCIATION_SECONDS = 3600.0
"""A receiver that has not touched an association for this long is gone with it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance on disk, not yet acknowledged. ``path`` is relative to the data folder."""

    sop_uid: str
    sop_class: str
    study_uid: str
    transfer_syntax: str
    sha256: str
    bytes: int
    path: str
    calling_ae: str
    peer: str


@dataclass(frozen=True, slots=True)
class Carrier:
    """The association an instance came on: its name, its receiver, the priority it asks for."""

    association: str
    receiver: str
    priority: int


@dataclass(frozen=True, slots=True)
class Completeness:
    """Seconds to wait before a generation may close (0.0 = it is closed), and its priority."""

    wait_seconds: float
    priority: int


def workflow_id(study_uid: str, generation: int, word: str, detail: str) -> str:
    """The one name of a stage's run: a replay cannot fork a second one."""
    return f"{study_uid}:{generation}:{word}:{detail}"


def accept(
    engine: sa.Engine, client: DBOSClient, arrival: Arrival, carrier: Carrier, quiet_seconds: float
) -> bool:
    """Remember an instance and enqueue its study's assembly, in one transaction.

    Returns False for an identical resend, which changes nothing. Raises DuplicateInstance when the UID is
    known with other content, and sqlalchemy.exc.SQLAlchemyError when the database cannot take it.
    """
    now = time.time()
    with engine.begin() as connection:
        study = _lock_study(connection, arrival, carrier, now)
        known = connection.scalar(
            sa.select(instances.c.sha256).where(instances.c.sop_uid == arrival.sop_uid)
        )
        if known is not None and known != arrival.sha256:
            raise DuplicateInstance(arrival.sop_uid, "known with other content")
        if known is not None:
            return False
        # A late instance opens the next generation, which contains all earlier instances too.
        generation = study.generation + study.closed
        priority = carrier.priority if study.closed else min(study.priority, carrier.priority)
        row = asdict(arrival) | {"generation": generation, "received_at": now}
        connection.execute(instances.insert().values(row))
        connection.execute(
            studies.update()
            .where(studies.c.study_uid == arrival.study_uid)
            .values(generation=generation, closed=False, last_at=now, priority=priority)
        )
        _board(connection, arrival.study_uid, carrier, now)
        client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": "assemble",
                "queue_name": QUEUES["assemble"],
                "workflow_id": workflow_id(arrival.study_uid, generation, "assemble", "0"),
                "app_version": VERSION,
                "delay_seconds": quiet_seconds,
                "priority": priority,
            },
            arrival.study_uid,
            generation,
            priority,
            0,
        )
    return True


def _lock_study(
    connection: sa.Connection, arrival: Arrival, carrier: Carrier, now: float
) -> sa.Row[Any]:
    """The study's row, made where it is missing, and locked until the transaction ends."""
    connection.execute(  # a write first: on SQLite it takes the lock
        insert(connection, studies)
        .values(
            study_uid=arrival.study_uid,
            generation=0,
            closed=False,
            last_at=now,
            priority=carrier.priority,
            source_ae=arrival.calling_ae,
        )
        .on_conflict_do_nothing()
    )
    mine = studies.c.study_uid == arrival.study_uid
    return connection.execute(sa.select(studies).where(mine).with_for_update()).one()


def _board(connection: sa.Connection, study_uid: str, carrier: Carrier, now: float) -> None:
    """Remember that an association carries a study."""
    seen = {"receiver": carrier.receiver, "seen_at": now}
    connection.execute(
        insert(connection, associations)
        .values(association=carrier.association, study_uid=study_uid, **seen)
        .on_conflict_do_update(index_elements=["association", "study_uid"], set_=seen)
    )


def release(engine: sa.Engine, association: str) -> None:
    """An association has ended: the quiet period of the studies it carried begins now."""
    mine = associations.c.association == association
    carried = sa.select(associations.c.study_uid).where(mine)
    with engine.begin() as connection:
        connection.execute(
            studies.update()
            .where(studies.c.study_uid.in_(carried), ~studies.c.closed)
            .values(last_at=time.time())
        )
        connection.execute(associations.delete().where(mine))


def forget_associations(engine: sa.Engine, receiver: str) -> None:
    """A receiver has started: what it carried before is cut off, and counts as released now."""
    with engine.connect() as connection:
        cut = connection.scalars(
            sa.select(associations.c.association)
            .where(associations.c.receiver == receiver)
            .distinct()
        ).all()
    for association in cut:
        release(engine, association)


def close_if_quiet(
    engine: sa.Engine, study_uid: str, generation: int, quiet_seconds: float
) -> Completeness:
    """Close a generation when nothing carries its study and nothing arrived for the quiet period."""
    now = time.time()
    mine = studies.c.study_uid == study_uid
    carried = sa.exists().where(
        associations.c.study_uid == study_uid,
        associations.c.seen_at > now - FORGOTTEN_ASSOCIATION_SECONDS,
    )
    quiet = studies.c.last_at <= now - quiet_seconds
    with engine.begin() as connection:
        connection.execute(
            studies.update()
            .where(mine, studies.c.generation == generation, quiet, ~carried)
            .values(closed=True)
        )
        study = connection.execute(sa.select(studies).where(mine)).one()
    if study.closed or study.generation > generation:
        return Completeness(0.0, study.priority)
    # An open association says nothing of when it will end: look again after another quiet period.
    remaining = study.last_at + quiet_seconds - now
    return Completeness(max(remaining if remaining > 0 else quiet_seconds, 0.5), study.priority)


def close_now(engine: sa.Engine, study_uid: str) -> None:
    """Close the open generation, whatever is missing: an instance that still arrives opens the next one."""
    with engine.begin() as connection:
        connection.execute(
            studies.update().where(studies.c.study_uid == study_uid).values(closed=True)
        )


def instances_of(engine: sa.Engine, study_uid: str, generation: int) -> list[sa.Row[Any]]:
    """The instances of one generation, the earlier ones included, in order of their UIDs."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                sa.select(instances)
                .where(instances.c.study_uid == study_uid, instances.c.generation <= generation)
                .order_by(instances.c.sop_uid)
            )
        )
