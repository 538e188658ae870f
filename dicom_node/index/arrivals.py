"""What arrives: one transaction per instance, generations of a study, and who carries it."""

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Protocol

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node.index.database import insert, insert_of
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

NO_GENERATION = -1
"""No generation."""

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
    aboard: int = NO_GENERATION
    """The generation of the study that it is known to carry, whose assembly is enqueued."""


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
    generation: int = NO_GENERATION
    """Which it belongs to, where it is new."""


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
        # A late instance opens the next generation, which contains all earlier instances too.
        generation = study.generation + study.closed
        row = asdict(arrival) | {"generation": generation, "received_at": now}
        if connection.execute(_unless_known(connection.dialect.name), row).first() is None:
            return _known(connection, arrival, now)
        priority = carrier.priority if study.closed else min(study.priority, carrier.priority)
        state = {"generation": generation, "closed": False, "last_at": now, "priority": priority}
        if rules.instances or rules.series:
            state |= {"expected_instances": rules.instances, "expected_series": rules.series}
        connection.execute(_OF_STUDY, state | {"mine": arrival.study_uid})
        if carrier.aboard != generation:
            _board(connection, arrival.study_uid, carrier, now)
            _enqueue(connection, client, (arrival.study_uid, generation, priority), rules)
    return Kept(True, arrival.path, arrival.transfer_syntax, arrival.sha256, generation=generation)


def _enqueue(
    connection: sa.Connection, client: DBOSClient, of: tuple[str, int, int], rules: Rules
) -> None:
    """The assembly of a study, generation and priority; once, as a name that is taken is left alone."""
    study_uid, generation, priority = of
    client.enqueue_in_transaction(
        connection,
        {
            "workflow_name": "assemble",
            "queue_name": QUEUES["assemble"],
            "workflow_id": workflow_id(study_uid, generation, "assemble", "0"),
            "app_version": VERSION,
            "delay_seconds": rules.quiet_seconds,
            "priority": priority,
        },
        *of,
        0,
    )


def _known(connection: sa.Connection, arrival: Arrival, now: float) -> Kept:
    """What was here before; where its file is gone and this is the same instance, it is kept again."""
    known = connection.execute(
        sa.select(instances).where(instances.c.sop_uid == arrival.sop_uid)
    ).one()
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
    row = {
        "study_uid": arrival.study_uid,
        "generation": 0,
        "closed": False,
        "last_at": now,
        "priority": carrier.priority,
        "source_ae": arrival.calling_ae,
        "released": False,
        "expected_instances": 0,
        "expected_series": 0,
    }
    return connection.execute(_made_or_locked(connection.dialect.name), row).one()


@cache
def _made_or_locked(dialect: str) -> Any:
    """A write first: on SQLite it takes the lock, on Postgres that of the row."""
    statement = insert_of(dialect, studies)
    found = {"study_uid": statement.excluded.study_uid}  # which changes nothing
    return statement.on_conflict_do_update(index_elements=["study_uid"], set_=found).returning(
        studies.c.generation, studies.c.closed, studies.c.priority
    )


@cache
def _unless_known(dialect: str) -> Any:
    statement = insert_of(dialect, instances)
    return statement.on_conflict_do_nothing().returning(instances.c.sop_uid)


_OF_STUDY = studies.update().where(studies.c.study_uid == sa.bindparam("mine"))


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


def carried_by(engine: sa.Engine, receiver: str) -> tuple[str, ...]:
    """The associations that are known of a receiver: when it starts, those that were cut off."""
    mine = sa.select(associations.c.association).where(associations.c.receiver == receiver)
    with engine.connect() as connection:
        return tuple(connection.scalars(mine.distinct()))


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
