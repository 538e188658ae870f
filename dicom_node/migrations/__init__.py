"""The versions of the database, and how to bring it to the newest. Only the parent process needs Alembic."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from dicom_node import index
from dicom_node.disk import fullest
from dicom_node.errors import DiskFull
from dicom_node.settings.limits import FLOOR_BYTES

MIGRATION_ERRORS = (*index.DATABASE_ERRORS, CommandError)
"""What a database that is away, foreign, or newer than this version raises."""


def migrate(url: str) -> None:
    """Bring our tables and those of DBOS to this version; several nodes may start at once.

    Raises MIGRATION_ERRORS, and DiskFull where SQLite has no room even to be opened.
    """
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
    except sa.exc.OperationalError as error:
        _say_if_full(url, error)
        raise
    finally:
        engine.dispose()


def _say_if_full(url: str, error: Exception) -> None:
    """SQLite calls it an I/O error when it cannot make the file beside its own that every reader needs."""
    if not url.startswith("sqlite"):
        return
    disk = fullest([Path(sa.make_url(url).database or "").absolute().parent])
    if disk.free < FLOOR_BYTES:
        raise DiskFull(
            f"no room on the disk of the database ({disk.folder}); free some, then start again"
        ) from error


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
