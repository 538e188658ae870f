"""Whether the node can take and work off studies now, and if not, what keeps it, for those who mend it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from dicom_node import index
from dicom_node.access.certificates import of_ports
from dicom_node.disk import Disk, disks, fullest
from dicom_node.errors import SettingsError
from dicom_node.files import Files
from dicom_node.settings import Settings
from dicom_node.web.progress import DELAYED, loads

GIB = 2**30
NEEDED = ("receive", "work", "deliver", "infer")
"""Of each at least one process must be alive, on whichever machine."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One process, and the seconds since its last sign of life; None: it has stopped as it was told."""

    executor: str
    role: str
    silent_seconds: float | None
    started_at: float
    starts: int
    is_alive: bool


def reasons(settings: Settings, engine: sa.Engine, files: Files) -> tuple[str, ...]:
    """Why the node is not ready; nothing where it is."""
    found = [*_disk(settings), *_certificates(settings)]
    if trouble := files.trouble():
        found.append(f"{trouble}; `dicom-node check` says whether it is mended")
    try:
        with engine.connect() as connection:
            found += _pending(settings, connection)
        found += _workers(settings, engine)
    except index.DATABASE_ERRORS as error:
        reason = str(error).splitlines()[0]
        found.append(
            f"database: cannot be asked ({type(error).__name__}: {_short(reason)}); "
            "is it running, and node.database right?"
        )
    return tuple(found)


def room(settings: Settings) -> tuple[Disk, float]:
    """The fullest disk, and how many bytes of it must stay free. Raises OSError."""
    disk = fullest(settings.folders)
    return disk, _needed(settings, disk)


def _needed(settings: Settings, disk: Disk) -> float:
    limits = settings.receive.limits
    return max(limits.needed_bytes(disk.total), limits.floor_bytes(disk.total))


def workers(settings: Settings, engine: sa.Engine) -> tuple[Worker, ...]:
    """Every process that has been at work. Raises DATABASE_AWAY."""
    now, limit = time.time(), settings.web.lost_seconds
    found = []
    for item in index.heartbeats_now(engine):
        # A sign of life from hours ahead was given before the clock was set back; a new one comes soon.
        silent = abs(now - item.seen_at) if item.seen_at else None
        alive = silent is not None and silent < limit
        found.append(Worker(item.executor, item.role, silent, item.started_at, item.starts, alive))
    return tuple(found)


def _disk(settings: Settings) -> Iterator[str]:
    """Each disk that is short, and what follows from it."""
    try:
        for disk in disks(settings.folders):
            if disk.free < (needed := _needed(settings, disk)):
                yield (
                    f"disk: {disk.free / GIB:.1f} GiB free in {disk.folder}, less than "
                    f"{needed / GIB:.1f} (receive.limits), so {_consequence(settings, disk)}; free some, "
                    "and the node goes on by itself"
                )
    except OSError as error:
        yield f"disk: {error.filename}: {error.strerror}"


def _consequence(settings: Settings, disk: Disk) -> str:
    if not _is_below_floor(settings, disk):
        return "nothing is taken in"
    if disk.folder.stat().st_dev in {each.stat().st_dev for each in settings.node.database_folders}:
        return "nothing is taken in, the stages and roles that start wait, and no role can say that it lives"
    return "nothing is taken in, and the stages wait"


def _is_below_floor(settings: Settings, disk: Disk) -> bool:
    return disk.free < settings.receive.limits.floor_bytes(disk.total)


def _is_mute(settings: Settings) -> bool:
    """Whether signs of life may be missing because SQLite has no room for them."""
    try:
        return any(
            _is_below_floor(settings, each) for each in disks(settings.node.database_folders)
        )
    except OSError:
        return False


def _certificates(settings: Settings) -> Iterator[str]:
    """What keeps every peer out of our own ports; those of destinations are alarms alone."""
    try:
        faults = [each.fault(datetime.now(UTC)) for each in of_ports(settings.tls)]
    except SettingsError as error:
        faults = [str(error)]
    yield from (f"[tls]: {fault}" for fault in faults if fault)


def _workers(settings: Settings, engine: sa.Engine) -> Iterator[str]:
    all_workers = workers(settings, engine)
    for role in NEEDED:
        mine = [worker for worker in all_workers if role in worker.role.split("+")]
        if any(worker.is_alive for worker in mine):
            continue
        lost = [worker for worker in mine if worker.silent_seconds is not None]
        if lost and _is_mute(settings):
            continue  # alive or not, it cannot say so: its disk is among the reasons
        if lost:
            last = min(lost, key=lambda worker: worker.silent_seconds or 0.0)
            what = f"no sign of life of {last.executor} for {last.silent_seconds:.0f} s"
        else:
            what = "stopped" if mine else "never started"
        yield f"role {role}: {what}; start it (dicom-node serve --role {role}), its log says why"


def _pending(settings: Settings, connection: sa.Connection) -> Iterator[str]:
    """A destination that is away is not our own unreadiness: deliveries are left out."""
    limit = settings.web.pending_minutes
    for load in loads(connection):
        if load.queue == "deliver" or load.state == DELAYED or not load.count:
            continue
        minutes = (time.time() - load.oldest_at) / 60
        if minutes > limit:
            yield (
                f"queue {load.queue}: {load.count} {load.state}, the oldest for {minutes:.1f} minutes, more "
                f"than {limit:g} (web.pending_minutes); is its worker stuck or too slow?"
            )


def _short(reason: str) -> str:
    return reason if len(reason) < 120 else f"{reason[:120]}..."
