"""check: is all in place for a node to run, and if not, what to do about it."""

import contextlib
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from dicom_node import index
from dicom_node.access.start import look
from dicom_node.analyze import load_analyses
from dicom_node.deliver import CONNECT_SECONDS, echo
from dicom_node.errors import Busy, Declined, DeliveryError, NodeError, SettingsError
from dicom_node.files import open_files
from dicom_node.settings import Destination, Settings

FREE_BYTES = 5 * 1024**3
"""Less than this is reported: a few hundred studies fill it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: whether it is good, and one sentence on how it is or what to do."""

    what: str
    good: bool
    sentence: str


def check(settings: Settings) -> tuple[Check, ...]:
    """Look at configuration, disk, database, port, access, analyses, destinations; changes nothing."""
    checks = [
        Check("configuration", True, f"AE title {settings.node.ae_title}; every key is known"),
        *_disk(settings.node.data_dir),
        *(_disk(settings.node.files) if settings.node.files_dir else ()),
        *(_store(settings) if settings.files.url else ()),
        _database(settings),
        _port(settings),
        *(Check(seen.what, seen.good, seen.sentence) for seen in look(settings)),
        _analyses(settings),
        *(_destination(item, settings.node.ae_title) for item in settings.destinations),
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
        return Check("database", False, f"node.database cannot be reached: {reason}")
    return Check("database", True, f"{engine.dialect.name} answers")


def _port(settings: Settings) -> Check:
    host, port = settings.receive.host, settings.receive.port
    here = Destination("this node", settings.node.ae_title, host, port or 1)
    try:
        with socket.create_server((host, port)):
            return Check("port", True, f"{host}:{port} is free")
    except OSError as error:
        reason = error.strerror
    if settings.tls.certificate:
        return _encrypted_port(settings, reason)
    try:
        echo(here, settings.node.ae_title)
    except DeliveryError as error:
        if isinstance(error, Busy | Declined) and "Called AE title" not in error.reason:
            sentence = f"{host}:{port}: a node is running; to this machine it says: {error.reason}"
            return Check("port", True, sentence)
        sentence = f"{host}:{port}: {reason}; choose another receive.port, or stop what holds it"
        return Check("port", False, sentence)
    return Check("port", True, f"{host}:{port}: a node is running and answers C-ECHO")


def _encrypted_port(settings: Settings, reason: str | None) -> Check:
    """Whoever holds the port: it is this node if it shows our certificate."""
    host, port = settings.receive.host, settings.receive.port
    try:
        shown = ssl.get_server_certificate((host, port), timeout=CONNECT_SECONDS)
        ours = Path(settings.tls.certificate).read_text(encoding="ascii")
    except (OSError, ValueError):
        shown, ours = "", "another"
    if "".join(shown.split()) in "".join(ours.split()):
        return Check("port", True, f"{host}:{port}: a node is running and shows our certificate")
    if not shown:
        unencrypted = Destination("this node", settings.node.ae_title, host, port)
        with contextlib.suppress(DeliveryError):
            echo(unencrypted, settings.node.ae_title)
            sentence = f"{host}:{port}: a node is running, without TLS; restart it"
            return Check("port", False, sentence)
    sentence = f"{host}:{port}: {reason}; choose another receive.port, or stop what holds it"
    return Check("port", False, sentence)


def _analyses(settings: Settings) -> Check:
    try:
        analyses = load_analyses(settings.node.analyses, settings.analyze)
    except NodeError as error:
        return Check("analyses", False, f"{error}; mend the setting or install the weights again")
    return Check("analyses", True, ", ".join(f"{item.name} {item.version}" for item in analyses))


def _destination(destination: Destination, calling_ae: str) -> Check:
    where = f"{destination.ae_title}@{destination.host}:{destination.port}"
    try:
        echo(destination, calling_ae)
    except DeliveryError as error:
        sentence = f"{where}: {error.reason}; is it running, and does it know {calling_ae}?"
        return Check(f"destination {destination.name}", False, sentence)
    return Check(f"destination {destination.name}", True, f"{where} answers C-ECHO")
