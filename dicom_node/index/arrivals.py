"""What arrives: one transaction per instance, generations of a study, and who carries it."""

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node.index.database import insert
from dicom_node.index.keeping import KEPT
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

LATEST = 1 << 30
"""Stands for the latest generation, where all instances are asked for."""

VERSION = "pipeline-1"
"""Changes only when the sequence of steps does: work of another version is not picked up."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance on disk, not yet acknowledged. ``path`` is relative to the data folder."""

    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    transfer_syntax: str
    sha256: str
    bytes: int
    path: str
    calling_ae: str
    peer: str


@dataclass(frozen=True, slots=True)
class Carrier:
    """What an instance came on (an association, or a web request), and the priority it asks for."""

    association: str
    receiver: str
    priority: int


@dataclass(frozen=True, slots=True)
class Rules:
    """When a study is complete: seconds of quiet or after a release; what is expected (0 = not said)."""

    quiet_seconds: float
    release_seconds: float
    instances: int = 0
    series: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept under a SOP Instance UID: this arrival (``is_new``), or what was there before it."""

    is_new: bool
    path: str
    transfer_syntax: str
    sha256: str
    state: str = KEPT
    """What had become of its file before this arrival."""


def workflow_id(study_uid: str, generation: int, word: str, detail: str) -> str:
    """The one name of a stage's run: a replay cannot fork a second one."""
    return f"{study_uid}:{generation}:{word}:{detail}"


class Begins(Protocol):
    """An engine, or whatever else has transactions to take part in."""

    def begin(self) -> AbstractContextManager[sa.Connection]: ...


def accept(
    engine: Begins, client: DBOSClient, arrival: Arrival, carrier: Carrier, rules: Rules
) -> Kept:
    """Remember an instance and enqueue its study's assembly, in one transaction.

    A SOP Instance UID that is known changes nothing; the caller compares. Raises
    sqlalchemy.exc.SQLAlchemyError when the database cannot take it.
    """
    now = time.time()
    with engine.begin() as connection:
        study = _lock_study(connection, arrival, carrier, now)
        known = connection.execute(
            sa.select(instances).where(instances.c.sop_uid == arrival.sop_uid)
        ).one_or_none()
        if known is not None:
            return _known(connection, arrival, known, now)
        # A late instance opens the next generation, which contains all earlier instances too.
        generation = study.generation + study.closed
        priority = carrier.priority if study.closed else min(study.priority, carrier.priority)
        row = asdict(arrival) | {"generation": generation, "received_at": now}
        connection.execute(instances.insert().values(row))
        state = {"generation": generation, "closed": False, "last_at": now, "priority": priority}
        if rules.instances or rules.series:
            state |= {"expected_instances": rules.instances, "expected_series": rules.series}
        connection.execute(
            studies.update().where(studies.c.study_uid == arrival.study_uid).values(state)
        )
        _board(connection, arrival.study_uid, carrier, now)
        client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": "assemble",
                "queue_name": QUEUES["assemble"],
                "workflow_id": workflow_id(arrival.study_uid, generation, "assemble", "0"),
                "app_version": VERSION,
                "delay_seconds": rules.quiet_seconds,
                "priority": priority,
            },
            arrival.study_uid,
            generation,
            priority,
            0,
        )
    return Kept(True, arrival.path, arrival.transfer_syntax, arrival.sha256)


def _known(connection: sa.Connection, arrival: Arrival, known: sa.Row[Any], now: float) -> Kept:
    """What was here before; where its file is gone and this is the same instance, it is kept again."""
    same = known.sha256 == arrival.sha256 or known.transfer_syntax != arrival.transfer_syntax
    if known.state == KEPT or not same:
        return Kept(False, known.path, known.transfer_syntax, known.sha256, known.state)
    again = {key: getattr(arrival, key) for key in ("transfer_syntax", "sha256", "bytes", "path")}
    mine = instances.c.sop_uid == arrival.sop_uid
    connection.execute(
        instances.update().where(mine).values(again | {"state": KEPT, "received_at": now})
    )
    of_study = studies.c.study_uid == arrival.study_uid
    connection.execute(studies.update().where(of_study).values(last_at=now))
    return Kept(False, arrival.path, arrival.transfer_syntax, arrival.sha256, known.state)


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
            released=False,
            expected_instances=0,
            expected_series=0,
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


def release(engine: sa.Engine, association: str, released: bool) -> tuple[str, ...]:
    """An association has ended, released or cut off; the studies it carried."""
    mine = associations.c.association == association
    with engine.begin() as connection:
        connection.execute(  # a write first: on SQLite it takes the lock
            studies.update()
            .where(
                studies.c.study_uid.in_(sa.select(associations.c.study_uid).where(mine)),
                ~studies.c.closed,
            )
            .values(last_at=time.time(), released=released)
        )
        carried = connection.scalars(sa.select(associations.c.study_uid).where(mine)).all()
        connection.execute(associations.delete().where(mine))
    return tuple(carried)


def forget_associations(engine: sa.Engine, receiver: str) -> tuple[str, ...]:
    """A receiver has started: what it carried before was cut off. Returns the studies."""
    with engine.connect() as connection:
        cut = connection.scalars(
            sa.select(associations.c.association)
            .where(associations.c.receiver == receiver)
            .distinct()
        ).all()
    carried = [release(engine, association, released=False) for association in cut]
    return tuple(dict.fromkeys(study_uid for each in carried for study_uid in each))


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
