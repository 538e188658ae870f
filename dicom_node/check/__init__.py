"""check: is all in place for a node to run, and if not, what to do about it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text

from dicom_node import index
from dicom_node.access.start import look
from dicom_node.analyze import load_analyses
from dicom_node.check.answer import Check
from dicom_node.check.others import (
    database_server,
    look_at_audit,
    look_at_destination,
    look_at_peer,
)
from dicom_node.check.ports import ports
from dicom_node.errors import NodeError, SettingsError
from dicom_node.files import open_files
from dicom_node.settings import Settings

__all__ = ["Check", "check"]

FREE_BYTES = 5 * 1024**3
"""Less than this is reported: a few hundred studies fill it."""


def check(settings: Settings) -> tuple[Check, ...]:
    """Look at all that a node needs and whom it calls; changes nothing."""
    checks = [
        Check("configuration", True, f"AE title {settings.node.ae_title}; every key is known"),
        *_disk(settings.node.data_dir),
        *(_disk(settings.node.files) if settings.node.files_dir else ()),
        *(_store(settings) if settings.files.url else ()),
        _database(settings),
        *ports(settings),
        *(Check(seen.what, seen.good, seen.sentence) for seen in look(settings)),
        _analyses(settings),
        *(look_at_destination(each, settings.node.ae_title) for each in settings.destinations),
        *(look_at_peer(each, settings.node.ae_title) for each in settings.peers),
        *(look_at_audit(settings.audit) if settings.audit.host else ()),
    ]
    if not settings.destinations:
        sentence = "none: results stay on this machine; add a [[destinations]] block"
        checks.append(Check("destinations", False, sentence))
    return tuple(checks)


def _disk(data_dir: Path) -> Iterator[Check]:
    folder = data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield Check("data folder", True, f"{data_dir.absolute()} can be written")
    except OSError as error:
        sentence = (
            f"{folder} cannot be written ({error.strerror}); name another, or change its owner"
        )
        yield Check("data folder", False, sentence)
    free = shutil.disk_usage(folder).free
    sentence = f"{free / 1024**3:.1f} GiB free"
    if free < FREE_BYTES:
        sentence += f"; less than {FREE_BYTES / 1024**3:.0f} GiB: free some, or move node.data_dir"
    yield Check("disk", free >= FREE_BYTES, sentence)


def _store(settings: Settings) -> Iterator[Check]:
    try:
        files = open_files(settings)
        trouble = files.trouble()
    except SettingsError as error:
        trouble = str(error)
    yield Check("object store", not trouble, trouble or f"{files.where} can be written")


def _database(settings: Settings) -> Check:
    url = settings.node.database_url
    path = Path(url.removeprefix("sqlite:///"))
    try:
        engine = index.open_engine(url)
        if url.startswith("sqlite:") and not path.exists():
            return Check("database", True, f"SQLite, made at the first start: {path}")
        with engine.connect() as connection:
            connection.execute(text("select 1"))
            index.check_encoding(connection)
    except SettingsError as error:
        return Check("database", False, str(error))
    except index.DATABASE_ERRORS as error:
        reason = str(error).splitlines()[0]
        why = database_server(url) or reason
        return Check("database", False, f"node.database cannot be reached: {why}")
    return Check("database", True, f"{engine.dialect.name} answers")


def _analyses(settings: Settings) -> Check:
    try:
        analyses = load_analyses(settings.node.analyses, settings.analyze)
    except NodeError as error:
        return Check("analyses", False, f"{error}; mend the setting or install the weights again")
    return Check("analyses", True, ", ".join(f"{item.name} {item.version}" for item in analyses))
