"""The node's database: SQLite on one machine, Postgres on several, one set of tables beside those of DBOS."""

import sqlite3
import sys
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, error
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.errors import SettingsError
from dicom_node.index.runs import INDEX

APPLICATION = "dicom-node"
DATABASE_ERRORS = (sa.exc.SQLAlchemyError, error.DBOSException, ImportError)
"""What a database that is away, foreign or without its driver raises."""

DATABASE_AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
"""What passes when the database is there again, or less busy."""


PATIENCE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Of libpq, in seconds, the last in ms: that a network swallows packets is noticed in a minute."""


def too_old(python: tuple[int, ...], library: tuple[int, ...]) -> str:
    """Why this SQLite cannot be used, or "".

    RETURNING came with 3.35; from Python 3.12 on DBOS asks for ``unixepoch('subsec')``, which came with 3.42.
    """
    needed = (3, 42) if python >= (3, 12) else (3, 35)
    if library >= needed:
        return ""
    version, found = (".".join(map(str, each)) for each in (python[:2], library))
    return (
        f"Python {version} needs SQLite {needed[0]}.{needed[1]} or later, and this one was built with "
        f"{found}; use the distribution's own Python, another Python, or Postgres (node.database)"
    )


def open_engine(url: str, busy_seconds: float = 30.0) -> sa.Engine:
    """Connect to the node's database; on SQLite with the settings that survive a power loss.

    Raises SettingsError when this Python's SQLite is too old.
    """
    if url.startswith("sqlite") and (
        reason := too_old(sys.version_info[:3], sqlite3.sqlite_version_info)
    ):
        raise SettingsError(reason)
    if not url.startswith("sqlite"):
        # A server of the locale C has encoding SQL_ASCII, and would answer with bytes.
        encoding = {"client_encoding": "utf8"}
        arguments = {"connect_timeout": int(busy_seconds), **encoding, **PATIENCE}
        options = {"connect_args": arguments, "pool_pre_ping": True}
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


def check_encoding(connection: sa.Connection) -> None:
    """Raise SettingsError where Postgres would answer with bytes, not text, as one of locale C does."""
    if connection.dialect.name != "postgresql":
        return
    found = connection.scalar(sa.text("SHOW server_encoding"))
    if found != "UTF8":
        raise SettingsError(
            f"node.database has the encoding {found} and needs UTF8; make it anew: "
            "createdb --encoding=UTF8 --template=template0 --locale=C.UTF-8 --owner=USER DATABASE"
        )


def open_client(engine: sa.Engine) -> DBOSClient:
    """A client that enqueues and looks, runs nothing, and fails at once where the database is away."""
    return DBOSClient(
        system_database_engine=engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        retry_connection_errors=False,
    )


def migrate_progress(url: str) -> None:
    """Bring the tables of DBOS, which live beside ours, to its version."""
    DBOS.migrate(url)
    if url.startswith("sqlite"):
        return
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(INDEX))
    engine.dispose()


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT in the connection's dialect."""
    return insert_of(connection.dialect.name, table)


def insert_of(dialect: str, table: sa.Table) -> Any:
    """The same, of a dialect."""
    return {"sqlite": sqlite, "postgresql": postgresql}[dialect].insert(table)
