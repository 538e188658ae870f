"""The audit trail's files: moved aside week by week, and removed when the site's time for them is over."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from dicom_node.audit.spool import COMPRESSED, Spool
from dicom_node.audit.trail import ENDING, FOLDER
from dicom_node.files.content import sync_folder
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

DAY_SECONDS = 86400.0


def purge_trail(settings: Settings, now: float, dry_run: bool = False) -> Iterator[Path]:
    """The files whose last message is older than ``keep.audit_days``; what was not sent yet stays.

    A process begins a new file at the first message after its own was moved aside. Raises OSError.
    """
    if not (days := settings.keep.audit_days):
        return
    folder = settings.node.data_dir.absolute() / FOLDER
    names = {path.name.partition(ENDING)[0] for path in folder.glob(f"*{ENDING}*")}
    for current in sorted(folder / f"{name}{ENDING}" for name in names):
        if not dry_run:
            _move_aside(current, now)
        for path in sorted(folder.glob(f"{current.name}.*")):
            is_old = path.stat().st_mtime < now - days * DAY_SECONDS
            if not is_old or (settings.audit.host and not _is_sent(current, path)):
                continue
            if not dry_run:
                path.unlink()
                LOGGER.info(
                    "audit file removed", extra={"fields": {"file": path.name, "days": days}}
                )
            yield path


def _move_aside(current: Path, now: float) -> None:
    """Once a week, under the week's name."""
    week = current.with_name(f"{current.name}.{time.strftime('%G-W%V', time.gmtime(now))}")
    if current.exists() and current.stat().st_size and not week.exists():
        current.rename(week)
        sync_folder(current.parent)


def _is_sent(current: Path, path: Path) -> bool:
    """What logrotate has compressed it was told to leave until it was sent."""
    return path.suffix in COMPRESSED or Spool(current).is_sent(path)
