"""What every stage does around its work: one log event, and folders that are there wholly or not at all."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicom_node import index
from dicom_node.counters import FAILURES, STAGE_SECONDS
from dicom_node.disk import FULL
from dicom_node.errors import DiskFull, NodeError
from dicom_node.receive.store import sync_folder

LOGGER = logging.getLogger(__name__)

NEW_PARENTS = 3
"""A folder of a generation may be the first of its study, and of its kind: ``results/STUDY/GENERATION``."""


@contextmanager
def stage(word: str, study_uid: str, generation: int) -> Iterator[dict[str, Any]]:
    """Log one event when a stage's step ends, well or badly; fields may be added meanwhile."""
    started = time.monotonic()
    fields: dict[str, Any] = {"study": study_uid, "generation": generation}
    try:
        yield fields
    except OSError as failed:
        if failed.errno not in FULL:
            raise
        raise DiskFull(f"no room on the disk: {failed.strerror}") from failed
    finally:
        error = sys.exc_info()[1]
        fields["seconds"] = round(time.monotonic() - started, 3)
        if error is not None:
            # Only our own sentences are known to hold no patient data; of others the places are logged.
            fields["reason"] = str(error) if isinstance(error, NodeError) else type(error).__name__
        event = _event(word, fields, error)
        _count(word, event, fields, error)
        level = logging.WARNING if event.startswith("failed") else logging.INFO
        trace = None if isinstance(error, NodeError) else error
        LOGGER.log(level, event, extra={"fields": fields}, exc_info=trace)


def _event(word: str, fields: Mapping[str, Any], error: BaseException | None) -> str:
    if error is not None or "retry" in fields:
        return f"failed to {word}"
    if fields.get("waits"):
        return "waits for commitment"
    if "nothing" in fields:
        return "nothing to analyze"
    return "refused" if "refused" in fields else index.PAST[word]


def _count(word: str, event: str, fields: Mapping[str, Any], error: BaseException | None) -> None:
    outcome = "failed" if event.startswith("failed") else event
    STAGE_SECONDS.labels(word, outcome).observe(fields["seconds"])
    if outcome == "failed":
        reason = type(error).__name__ if error else "to be tried again"
        FAILURES.labels(word, reason).inc()


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its final name, durably, only when all is written."""
    scratch = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        _sync_files(scratch)
        sync_folder(scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.replace(folder)
    finally:  # half of a result is worth nothing, and on a full disk its space is what others need
        shutil.rmtree(scratch, ignore_errors=True)
    for parent in folder.parents[:NEW_PARENTS]:
        sync_folder(parent)


@contextmanager
def added(folder: Path, pattern: str) -> Iterator[Path]:
    """A folder to write into, whose files then replace, durably, those of a pattern in another one."""
    scratch = folder / "unfinished"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
        _sync_files(scratch)
        for path in folder.glob(pattern):
            path.unlink()
        for path in scratch.iterdir():
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sync_folder(folder)


def _sync_files(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
