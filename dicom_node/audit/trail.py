"""The audit trail of one process: an append-only file, one message a line, durable line by line.

logrotate may move the file away at any time: the next message goes into a new one.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from logging.handlers import WatchedFileHandler

from dicom_node.audit.events import LOGGER, activity
from dicom_node.audit.forward import Forwarder
from dicom_node.audit.message import render
from dicom_node.counters import AUDIT
from dicom_node.pseudonyms import Pseudonyms
from dicom_node.settings import Settings

FOLDER, ENDING = "audit", ".xml"
COMPLAINTS = logging.getLogger("dicom_node.audit_trail")
"""Not below the audit logger: what is said of the trail belongs into the log."""


class AuditLines(logging.Formatter):
    """A record's message as a line of XML."""

    def __init__(self, source: str, pseudonyms: Pseudonyms) -> None:
        super().__init__()
        self._source = source
        self._pseudonyms = pseudonyms

    def format(self, record: logging.LogRecord) -> str:
        message = record.audit  # type: ignore[attr-defined]
        return render(message, record.created, self._source, self._pseudonyms)


class DurableFile(WatchedFileHandler):
    """Begins a new file when its own was moved away; each line is on disk before the call returns."""

    def flush(self) -> None:
        super().flush()
        if self.stream:
            os.fdatasync(self.stream.fileno())

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        AUDIT.labels("written").inc()

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not stop the node, and must not be silent either."""
        error = sys.exc_info()[1]
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        AUDIT.labels("lost").inc()
        fields = {"what": record.getMessage(), "reason": reason}
        COMPLAINTS.error("audit message not written", extra={"fields": fields})


@contextmanager
def recording(settings: Settings, executor: str, pseudonyms: Pseudonyms) -> Iterator[None]:
    """Record what this process does, its start and its stop included. Raises SettingsError, OSError."""
    folder = settings.node.data_dir.absolute() / FOLDER
    folder.mkdir(mode=0o750, exist_ok=True)
    ae_title = settings.node.ae_title
    handler = DurableFile(folder / f"{executor.replace(':', '-')}{ENDING}", encoding="utf-8")
    handler.setFormatter(AuditLines(f"{ae_title}@{os.uname().nodename}", pseudonyms))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    with ExitStack() as stack:
        stack.callback(handler.close)
        stack.callback(LOGGER.removeHandler, handler)
        if settings.audit.host:
            forwarder = Forwarder(settings.audit, handler.baseFilename)
            forwarder.start()
            stack.callback(forwarder.stop)
        activity(True, ae_title)
        stack.callback(activity, False, ae_title)
        yield
