"""The memory: what arrived, what was made, what was acknowledged. Progress is kept by DBOS, not here."""

import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.errors import DuplicateInstance

APPLICATION = "dicom-node"
VERSION = "pipeline-1"
"""Changes only when the sequence of steps does: work of another version is not picked up."""

FORGOTTEN_ASSOCIATION_SECONDS = 3600.0
"""A receiver that has not touched an association for this long is gone with it."""

METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)
_UID = sa.String(64)

studies = sa.Table(
    "studies",
    METADATA,
    sa.Column("study_uid", _UID, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("source_ae", sa.String(16), nullable=False),
)
instances = sa.Table(
    "instances",
    METADATA,
    sa.Column("sop_uid", _UID, primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sop_class", _UID, nullable=False),
    sa.Column("transfer_syntax", _UID, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
)
associations = sa.Table(
    "associations",
    METADATA,
    sa.Column("association", sa.String(64), primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), primary_key=True),
    sa.Column("receiver", sa.String(128), nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)
results = sa.Table(
    "results",
    METADATA,
    sa.Column("sop_uid", _UID, primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("analysis", sa.String(64), nullable=False),
    sa.Column("acquisition", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("sop_class", _UID, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
)
deliveries = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("sop_uid", _UID, sa.ForeignKey("results.sop_uid"), primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("tried_at", sa.Float),
    sa.Column("delivered_at", sa.Float),
)


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
class Result:
    """One written object. ``path`` is relative to the data folder."""

    sop_uid: str
    study_uid: str
    generation: int
    analysis: str
    acquisition: int
    kind: str
    sop_class: str
    sha256: str
    path: str


@dataclass(frozen=True, slots=True)
class Completeness:
    """Seconds to wait before a generation may close (0.0 = it is closed), and its priority."""

    wait_seconds: float
    priority: int


def open_engine(url: str, busy_seconds: float = 30.0) -> sa.Engine:
    """Connect to the node's database; on SQLite with the settings that survive a power loss."""
    if not url.startswith("sqlite"):
        options = {"connect_args": {"connect_timeout": int(busy_seconds)}, "pool_pre_ping": True}
        return sa.create_engine(url, pool_size=20, max_overflow=10, **options)
    engine = sa.create_engine(url, pool_size=20, max_overflow=10)

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # IMMEDIATE takes the write lock at the first write, so that no reader can fail on upgrading.
        connection.isolation_level = "IMMEDIATE"
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(busy_seconds * 1000)}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA journal_mode=WAL")
        # NORMAL may lose the last commits at power loss, after the sender was told Success.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine


def open_client(engine: sa.Engine) -> DBOSClient:
    """A client that enqueues and looks, runs nothing, and fails at once where the database is away."""
    return DBOSClient(
        system_database_engine=engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        retry_connection_errors=False,
    )


def migrate(url: str) -> None:
    """Bring our tables and those of DBOS to this version; several nodes may start at once."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection, _alone(connection):
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            DBOS.migrate(url)
    finally:
        engine.dispose()


@contextmanager
def _alone(connection: sa.Connection) -> Any:
    """Hold a Postgres advisory lock; SQLite serializes writers by itself."""
    if connection.dialect.name != "postgresql":
        yield
        return
    key = {"key": 0x4E4F4445}
    connection.execute(sa.text("select pg_advisory_lock(:key)"), key)
    connection.commit()
    try:
        yield
    finally:
        connection.execute(sa.text("select pg_advisory_unlock(:key)"), key)
        connection.commit()


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT in the connection's dialect."""
    return {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name].insert(table)


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
                "queue_name": "cpu",
                "workflow_id": workflow_id(arrival.study_uid, generation, "assemble", "0"),
                "app_version": VERSION,
                "delay_seconds": quiet_seconds,
                "priority": priority,
            },
            arrival.study_uid,
            generation,
            0,
        )
    return True


def _lock_study(
    connection: sa.Connection, arrival: Arrival, carrier: Carrier, now: float
) -> sa.Row[Any]:
    """The study's row, made where it is missing, and locked until the transaction ends."""
    connection.execute(  # a write first: on SQLite it takes the lock
        _insert(connection, studies)
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
        _insert(connection, associations)
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


def record_results(engine: sa.Engine, made: Iterable[Result], destinations: Iterable[str]) -> None:
    """Remember written objects and that each is due at each destination; once, however often it runs."""
    with engine.begin() as connection:
        for result in made:
            row = asdict(result) | {"made_at": time.time()}
            connection.execute(
                _insert(connection, results)
                .values(row)
                .on_conflict_do_update(index_elements=["sop_uid"], set_=row)
            )
            for destination in destinations:
                connection.execute(
                    _insert(connection, deliveries)
                    .values(
                        sop_uid=result.sop_uid,
                        destination=destination,
                        status="pending",
                        reason="",
                        attempts=0,
                    )
                    .on_conflict_do_nothing()
                )


def results_due(
    engine: sa.Engine, study_uid: str, generation: int, destination: str
) -> list[sa.Row[Any]]:
    """The results of a generation that a destination has not acknowledged, in order of writing."""
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
                )
                .order_by(results.c.acquisition, results.c.analysis, results.c.kind)
            )
        )


def record_delivery(
    engine: sa.Engine, sop_uid: str, destination: str, status: str, reason: str = ""
) -> None:
    """Remember one attempt: ``delivered`` or ``warning`` by the peer's answer, else ``waiting``, ``failed``."""
    now = time.time()
    with engine.begin() as connection:
        connection.execute(
            deliveries.update()
            .where(deliveries.c.sop_uid == sop_uid, deliveries.c.destination == destination)
            .values(
                status=status,
                reason=reason,
                attempts=deliveries.c.attempts + 1,
                tried_at=now,
                delivered_at=now if status in ("delivered", "warning") else None,
            )
        )
