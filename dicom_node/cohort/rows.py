"""The rows file: one row per analyzed scan in SQLite, so that a run that was broken off goes on where it was.

It is working material, not a result: it holds UIDs, and patients and paths only as keyed hashes.
"""

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.cohort.reports import ScanRow, Version
from dicom_node.errors import SettingsError

ROWS, KEY = "rows.sqlite", "rows.key"
FORM = 1
TABLES = f"""
PRAGMA user_version = {FORM};
CREATE TABLE files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE reasons (path TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX reasons_path ON reasons (path);
CREATE TABLE scans (
    uid TEXT NOT NULL, digest TEXT NOT NULL, study TEXT NOT NULL, acquisition INTEGER NOT NULL,
    patient TEXT NOT NULL, report INTEGER NOT NULL, version TEXT NOT NULL, mtime_ns INTEGER NOT NULL,
    channels TEXT NOT NULL, weights TEXT NOT NULL, probability REAL, numbers TEXT NOT NULL,
    flags TEXT NOT NULL, PRIMARY KEY (uid, digest)
) WITHOUT ROWID;
CREATE INDEX scans_study ON scans (study, acquisition);
CREATE TABLE words (code TEXT PRIMARY KEY, meaning TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as the file system describes it: unchanged, it is not read again."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class StoredScan:
    """A row as it is kept: ``patient`` is a keyed hash, or empty; ``report`` tells SR from findings.json."""

    uid: str
    digest: str
    study_uid: str
    acquisition: int
    patient: str
    report: bool
    version: Version
    mtime_ns: int
    channels: str
    weights: str
    probability: float | None
    numbers: dict[str, dict[int, float]]
    flags: tuple[str, ...]

    @property
    def order(self) -> tuple[bool, Version, int, str]:
        """Sorts the analyses of one scan, the one that counts last: a report before a findings.json."""
        return self.report, self.version, self.mtime_ns, self.digest


class Rows:
    """The open rows file; ``store`` and ``refuse`` are kept for good by ``commit``."""

    def __init__(self, connection: sqlite3.Connection, key: bytes) -> None:
        self._connection = connection
        self._key = key

    def known(self, seen: Seen) -> bool:
        """Whether this file was read before, and has not changed."""
        query = "SELECT size, mtime_ns FROM files WHERE path = ?"
        found = self._connection.execute(query, (self._hash(str(seen.path)),)).fetchone()
        return found == (seen.size, seen.mtime_ns)

    def note(self, seen: Seen) -> None:
        """Remember a file; what was said of it before no longer holds."""
        self.forget(seen.path)
        values = (self._hash(str(seen.path)), seen.size, seen.mtime_ns)
        self._connection.execute("INSERT INTO files VALUES (?, ?, ?)", values)

    def forget(self, path: Path) -> None:
        """As if the file had never been seen; scans that it held stay."""
        for table in ("files", "reasons"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE path = ?",  # noqa: S608 - one of two own names
                (self._hash(str(path)),),
            )

    def refuse(self, path: Path, kind: str, reason: str) -> None:
        """Say why nothing, or one outcome less, was taken from a file."""
        values = (self._hash(str(path)), kind, reason)
        self._connection.execute("INSERT INTO reasons VALUES (?, ?, ?)", values)

    def store(self, row: ScanRow, seen: Seen, digest: str, report: bool) -> None:
        """Keep one scan; the same bytes a second time change nothing."""
        version = [row.version.generation, row.version.sources, row.version.weights]
        values = (
            row.uid,
            digest,
            row.study_uid,
            row.acquisition,
            self._hash(*row.patient) if row.patient else "",
            report,
            json.dumps(version),
            seen.mtime_ns,
            row.channels,
            row.weights,
            row.probability,
            json.dumps(row.numbers),
            json.dumps(row.flags),
        )
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT OR IGNORE INTO scans VALUES ({marks})", values)  # noqa: S608 - marks only
        self._connection.executemany("INSERT OR IGNORE INTO words VALUES (?, ?)", row.words.items())

    def commit(self) -> None:
        self._connection.commit()

    def scans(self) -> Iterator[StoredScan]:
        """Every row, study by study, in an order that does not depend on how they came."""
        query = "SELECT * FROM scans ORDER BY study, acquisition, uid, digest"
        cursor = self._connection.cursor()
        cursor.row_factory = sqlite3.Row
        for row in cursor.execute(query):
            yield _scan(row)

    def patients(self) -> Iterator[tuple[str, str]]:
        """Study and hashed patient of every row."""
        yield from self._connection.execute(
            "SELECT DISTINCT study, patient FROM scans ORDER BY 1, 2"
        )

    def words(self) -> dict[str, str]:
        """The meaning of each method and flag code."""
        return dict(self._connection.execute("SELECT code, meaning FROM words"))

    def reasons(self) -> list[tuple[str, str, int]]:
        """Kind, reason and number of the files, or outcomes, that were not taken."""
        query = (
            "SELECT kind, reason, count(*) FROM reasons GROUP BY kind, reason ORDER BY 3 DESC, 1, 2"
        )
        return list(self._connection.execute(query))

    def _hash(self, *parts: str) -> str:
        text = json.dumps(parts).encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def _scan(row: sqlite3.Row) -> StoredScan:
    generation, sources, weights = json.loads(row["version"])
    numbers = {
        column: {int(layer): value for layer, value in layers.items()}
        for column, layers in json.loads(row["numbers"]).items()
    }
    return StoredScan(
        uid=row["uid"],
        digest=row["digest"],
        study_uid=row["study"],
        acquisition=row["acquisition"],
        patient=row["patient"],
        report=bool(row["report"]),
        version=Version(generation, sources, tuple(weights)),
        mtime_ns=row["mtime_ns"],
        channels=row["channels"],
        weights=row["weights"],
        probability=row["probability"],
        numbers=numbers,
        flags=tuple(json.loads(row["flags"])),
    )


@contextmanager
def open_rows(folder: Path) -> Iterator[Rows]:
    """The rows file of a folder, made when it is not there.

    Raises SettingsError when the file is of another program or version, or its key is missing.
    """
    path = folder / ROWS
    key = _key(folder / KEY, fresh=not path.exists())
    with closing(sqlite3.connect(path)) as connection:
        try:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                path.chmod(0o600)
                connection.executescript(TABLES)
            elif found != FORM:
                raise SettingsError(
                    f"{path} was written by another version of dicom-node; give another --out"
                )
        except sqlite3.DatabaseError as error:
            raise SettingsError(f"{path} is no rows file ({error}); give another --out") from error
        yield Rows(connection, key)


def _key(path: Path, fresh: bool) -> bytes:
    """The key of the hashes: without it nobody can find a patient in the rows by trying."""
    if fresh:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
    elif not path.exists():
        raise SettingsError(
            f"{path} is missing: without it no new scan finds its person among the rows; delete "
            f"{path.with_name(ROWS)} too, and everything is read again"
        )
    return path.read_bytes()
