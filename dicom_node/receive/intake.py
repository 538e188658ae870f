"""One instance is taken in, whichever door it came through: C-STORE or STOW-RS."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node import audit, index
from dicom_node.counters import INSTANCES, RECEIVED_BYTES, STAGE_SECONDS
from dicom_node.errors import (
    DuplicateInstance,
    FileLost,
    Mismatch,
    NodeError,
    Oversized,
    Refused,
    StoreAway,
    StoreFull,
    Unreadable,
)
from dicom_node.files import open_files
from dicom_node.files.content import fingerprint, fingerprint_of
from dicom_node.receive.ledger import Ledger
from dicom_node.receive.recorder import Recorder
from dicom_node.receive.space import Space
from dicom_node.receive.store import (
    NOT_DICOM,
    check_command,
    have_one_shape,
    name_different_patients,
    read_header,
)
from dicom_node.settings import Expect, Limits, Settings, Source

LOGGER = logging.getLogger(__name__)

SUCCESS = 0x0000
CANNOT_UNDERSTAND = 0xC000
FAULTS = (
    *(*NOT_DICOM, *index.DATABASE_ERRORS, NodeError, OSError, RuntimeError, AssertionError),
    *(ArithmeticError, BufferError, ImportError, LookupError, MemoryError, NameError),
)
"""What a fault of ours or of a library raises. Of anything else pynetdicom answers 0xC211, STOW-RS 500."""

STAT, ROUTINE = 1, 5
"""Priorities of a study; the smaller goes first."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A received file (None: nothing came), and what its sender says that it is; no study = any.

    ``sha256``: its fingerprint, where it was hashed while it came. ``failure``: why it could not be written.
    ``bytes``: how much came, also where not all of it was written; 0 = all is in the file.
    """

    path: Path | None
    sop_class: str
    sop_uid: str
    study_uid: str = ""
    sha256: str = ""
    failure: str = ""
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, and on what."""

    calling_ae: str
    peer: str
    carrier: index.Carrier


class Intake:
    """The promise: nothing is acknowledged that is not durable. Used by many threads at once."""

    def __init__(
        self,
        settings: Settings,
        engine: sa.Engine,
        client: DBOSClient,
        stir: Callable[[str], None],
        ledger: Ledger,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._engine = engine
        self._recorder = Recorder(engine, client)
        self._stir = stir
        self._files = open_files(settings)
        self.limits = settings.receive.limits
        self.space = Space(settings.folders, self.limits)

    def store(self, handed: Handed, sender: Sender) -> int:
        """Check, make durable, remember, answer: a C-STORE status, PS3.4 table B.2-1."""
        started = time.monotonic()
        who: dict[str, Any] = {"calling_ae": sender.calling_ae, "peer": sender.peer}
        who["instance"] = handed.sop_uid[:64]
        try:
            arrival, what = self._take(handed, sender)
        except Refused as error:
            self.refused(error.status, error.reason, sender)
            status = {"status": f"0x{error.status:04X}", "reason": error.reason}
            seconds = _seconds(started, "refused")
            LOGGER.info("instance refused", extra={"fields": who | status | seconds})
            return error.status
        except (
            FAULTS
        ) as error:  # the sender must get an answer, and the log and the audit trail have it
            self.refused(CANNOT_UNDERSTAND, type(error).__name__, sender)
            status = {"status": f"0x{CANNOT_UNDERSTAND:04X}", "reason": type(error).__name__}
            seconds = _seconds(started, "failed")
            LOGGER.exception("instance failed", extra={"fields": who | status | seconds})
            return CANNOT_UNDERSTAND
        finally:
            if handed.path:
                handed.path.unlink(missing_ok=True)
        fields = who | {"study": arrival.study_uid, "bytes": arrival.bytes, "what": what}
        INSTANCES.labels("taken", "0x0000").inc()
        RECEIVED_BYTES.inc(arrival.bytes)
        seconds = _seconds(started, "received")
        LOGGER.info("received", extra={"fields": fields | seconds})
        return SUCCESS

    def refused(self, status: int, reason: str, sender: Sender) -> None:
        """Count what was not taken, and remember it for the audit trail."""
        INSTANCES.labels("refused", f"0x{status:04X}").inc()
        peer = audit.Peer(sender.calling_ae, sender.peer)
        self._ledger.refused(sender.carrier.association, peer, reason)

    def _take(self, handed: Handed, sender: Sender) -> tuple[index.Arrival, str]:
        """What arrived, and whether it is new. Raises Refused."""
        check_command(handed.sop_class, handed.sop_uid)
        if handed.path is None:
            raise Unreadable(handed.sop_uid, "the command announces no data set")
        if handed.failure or self.space.is_short():
            raise StoreFull(handed.sop_uid, handed.failure or "the disk is short of space")
        try:
            size = handed.path.stat().st_size
            check_size(max(size, handed.bytes), handed.sop_uid, self.limits)
            header = read_header(handed.path, handed.sop_class, handed.sop_uid)
        except OSError as error:
            if (
                error.errno is None
            ):  # not the disk: pydicom's word for a data set that ends too soon
                raise Unreadable(handed.sop_uid, "the data set cannot be parsed") from error
            raise StoreFull(handed.sop_uid, f"cannot be read back: {error.strerror}") from error
        if handed.study_uid not in ("", header.study_uid):
            raise Mismatch(handed.sop_uid, "the data set is of another study than the request")
        with _refused("written", handed.sop_uid):
            sha256 = handed.sha256 or fingerprint(handed.path)
            kept = f"store/{sha256}.dcm"
            self._files.keep(handed.path, kept, sha256)
        arrival = index.Arrival(
            header.sop_uid,
            header.sop_class,
            header.study_uid,
            header.series_uid,
            header.transfer_syntax,
            sha256,
            size,
            kept,
            sender.calling_ae,
            sender.peer,
        )
        sources = declared(self._settings.sources, header.equipment, sender.calling_ae)
        rules, carrier = rules_of(self._settings, expected(sources)), sender.carrier
        if any(source.stat for source in sources):
            carrier = replace(carrier, priority=STAT)
        try:
            known = self._recorder.accept(arrival, carrier, rules)
        except index.DATABASE_AWAY as error:
            raise StoreFull(handed.sop_uid, "the database is away or busy") from error
        self._stir(arrival.study_uid)
        what = "new" if known.is_new else self._compare(arrival, known)
        self._ledger.took(sender.carrier.association, arrival, header.patient_id)
        return arrival, what

    def _compare(self, arrival: index.Arrival, known: index.Kept) -> str:
        """What comes under a UID that is known: the first is kept. Raises DuplicateInstance, StoreFull.

        One UID in two transfer syntaxes is one instance by the standard: a lossy compression must have a UID
        of its own (PS3.3 C.7.6.1.1.5). That the pixels are equal would take decoding both; that the images
        have one shape is checked.
        """
        if known.state != index.KEPT and known.path == arrival.path:
            return self._stored_again(arrival, known)
        if known.sha256 == arrival.sha256:
            return "identical"  # and has landed on itself
        same_syntax = known.transfer_syntax == arrival.transfer_syntax
        with _refused("compared", arrival.sop_uid):
            same = known.state == index.KEPT and self._is_same(arrival, known, same_syntax)
            if same:
                self._files.remove([arrival.path])
        if not same:
            with _refused("set aside", arrival.sop_uid):
                reason = self._set_aside(arrival, known)
            raise DuplicateInstance(
                arrival.sop_uid, f"known with {reason}; set aside, see jobs show"
            )
        return "identical" if same_syntax else "known in another transfer syntax, the first is kept"

    def _set_aside(self, arrival: index.Arrival, known: index.Kept) -> str:
        """Keep what is not taken, as it may be a correction; why it is not taken."""
        reason = index.OTHER_CONTENT
        if known.state == index.KEPT:
            with (
                self._files.reading(known.path) as first,
                self._files.reading(arrival.path) as other,
            ):
                if name_different_patients(first, other):
                    reason = index.OTHER_PATIENT
        aside = replace(arrival, path=f"quarantine/{arrival.sha256}.dcm")
        self._files.move(arrival.path, aside.path)
        try:
            index.put_aside(self._engine, aside, reason)
        except index.DATABASE_AWAY as error:
            raise StoreFull(arrival.sop_uid, "the database is away or busy") from error
        return reason

    def _is_same(self, arrival: index.Arrival, known: index.Kept, same_syntax: bool) -> bool:
        with self._files.reading(known.path) as first:
            if same_syntax:
                return fingerprint_of(first) == arrival.sha256
            with self._files.reading(arrival.path) as second:
                return have_one_shape(first, second)

    def _stored_again(self, arrival: index.Arrival, known: index.Kept) -> str:
        """What was purged or lost is here again. Raises StoreFull where a purge took it just now."""
        with _refused("found again", arrival.sop_uid):
            is_here = self._files.is_here(arrival.path)
        if not is_here:
            index.mark_missing(self._engine, index.instances, arrival.study_uid, [arrival.path])
            raise StoreFull(arrival.sop_uid, "removed by a purge in the same moment; send it again")
        return f"was {known.state}, stored again"


@contextmanager
def _refused(word: str, sop_uid: str) -> Iterator[None]:
    """What keeps an instance from being kept, for its sender. Raises StoreFull."""
    try:
        yield
    except OSError as error:
        raise StoreFull(sop_uid, f"cannot be {word}: {error.strerror}") from error
    except (StoreAway, FileLost) as error:
        raise StoreFull(sop_uid, str(error)) from error


def check_size(size: int, sop_uid: str, limits: Limits) -> None:
    """Raises Oversized where an instance is larger than the site takes, whichever door it came through."""
    if size > limits.instance_bytes:
        limit = f"{limits.instance_mib} MiB (receive.limits.instance_mib)"
        raise Oversized(sop_uid, f"the instance is larger than {limit}")


def _seconds(started: float, outcome: str) -> dict[str, float]:
    """What taking an instance took, counted and for the log."""
    seconds = time.monotonic() - started
    STAGE_SECONDS.labels("receive", outcome).observe(seconds)
    return {"seconds": round(seconds, 4)}


def rules_of(settings: Settings, expect: Expect | None = None) -> index.Rules:
    """When a study is complete, as the site says."""
    expect = expect or Expect()
    quiet, release = settings.receive.quiet_seconds, settings.receive.release_seconds
    return index.Rules(quiet, release, expect.instances, expect.series)


def expected(sources: Sequence[Source]) -> Expect | None:
    """What the first of these declarations that says anything of it expects."""
    return next((source.expect for source in sources if source.expect != Expect()), None)


def declared(
    sources: Sequence[Source], equipment: Sequence[str], calling_ae: str
) -> tuple[Source, ...]:
    """The declarations that are for this equipment."""
    manufacturer, model, station, series = equipment
    found = []
    for source in sources:
        match = source.match
        pairs = (
            (match.ae_title, calling_ae),
            (match.manufacturer, manufacturer),
            (match.model, model),
            (match.station, station),
            (match.series, series),
        )
        if all(not wanted.strip() or wanted.strip() == own.strip() for wanted, own in pairs):
            found.append(source)
    return tuple(found)
