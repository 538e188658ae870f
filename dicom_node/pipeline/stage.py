"""What every stage does around its work: one log event, counted."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dicom_node import index
from dicom_node.counters import FAILURES, STAGE_SECONDS
from dicom_node.disk import FULL
from dicom_node.errors import DiskFull, NodeError

LOGGER = logging.getLogger(__name__)


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
        # Of a delivery the cause: which of them it is decides who must act.
        reason = fields.get("cause") or (type(error).__name__ if error else "to be tried again")
        FAILURES.labels(word, reason).inc()
