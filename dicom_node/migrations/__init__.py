"""The versions of the database, and how to bring it to the newest. Only the parent process needs Alembic."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from dicom_node import index

MIGRATION_ERRORS = (*index.DATABASE_ERRORS, CommandError)
"""What a database that is away, foreign, or newer than this version raises."""


def migrate(url: str) -> None:
    """Bring our tables and those of DBOS to this version; several nodes may start at once."""
    engine = index.open_engine(url)
    try:
        with engine.connect() as connection, _alone(connection):
            index.check_encoding(connection)
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            index.migrate_progress(url)
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
