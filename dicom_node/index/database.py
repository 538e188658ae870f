"""The node's database: SQLite on one machine, Postgres on several, one set of tables beside those of DBOS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, error
from sqlalchemy.dialects import postgresql, sqlite

APPLICATION = "dicom-node"
DATABASE_ERRORS = (sa.exc.SQLAlchemyError, CommandError, error.DBOSException, ImportError)
"""What a database that is away, foreign, newer or without its driver raises."""

MIGRATIONS = Path(__file__).parents[1] / "migrations"


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
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            DBOS.migrate(url)
    finally:
        engine.dispose()


@contextmanager
def _alone(connection: sa.Connection) -> Iterator[None]:
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


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT in the connection's dialect."""
    return {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name].insert(table)
