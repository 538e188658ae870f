"""The audit trail on its way to the server: at least once, however long the server was away.

Syslog has no acknowledgment. A message counts as sent only when the connection has outlived it by some
seconds, so that what a dying server had in its buffers goes out again.
"""

import logging
import threading
import time
from collections import deque
from pathlib import Path

from dicom_node.audit.spool import Position, Spool
from dicom_node.audit.syslog import Link, connector, syslog_message
from dicom_node.counters import AUDIT
from dicom_node.settings import Audit

LOGGER = logging.getLogger("dicom_node.audit_forward")

LOOK_SECONDS = 0.2
SETTLE_SECONDS = 2.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
STOP_SECONDS = 5.0


class Forwarder:
    """A thread that sends what the trail's file holds. Raises SettingsError when it cannot begin."""

    def __init__(self, settings: Audit, file: str) -> None:
        self._spool = Spool(Path(file))
        self._connector = connector(settings)
        self._where = f"{settings.transport}://{settings.host}:{settings.port}"
        self._process = Path(file).stem
        self._at = self._spool.saved()
        self._stopping = threading.Event()
        self._is_away = False
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send what is there, if the server takes it soon; the rest goes out at the next start."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                link = self._connector.connect()
                try:
                    self._serve(link)
                finally:
                    link.drop()
                return
            except OSError as error:
                self._tell_away(error)
            self._stopping.wait(self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    def _serve(self, link: Link) -> None:
        """Send until asked to stop. Raises OSError when the server is gone."""
        at = self._begin()
        settling: deque[tuple[float, Position]] = deque()
        while True:
            last_look = self._stopping.is_set()
            lines, after = self._spool.read(at)
            for line in lines:
                link.send(syslog_message(line, self._process))
            if lines and after:
                at = after
                settling.append((time.monotonic() + SETTLE_SECONDS, after))
                AUDIT.labels("sent").inc(len(lines))
            link.check()
            self._tell_back()
            while settling and settling[0][0] < time.monotonic():
                self._remember(settling.popleft()[1])
            if last_look and not lines:
                break
            if not lines:
                self._stopping.wait(LOOK_SECONDS)
        link.finish()
        if settling:  # the server has read all, or this would not have been reached
            self._remember(settling[-1][1])

    def _begin(self) -> Position | None:
        if self._at and self._spool.is_gone(self._at):
            what = "rotated away before they were sent; keep rotated files uncompressed for longer"
            LOGGER.error("audit messages not sent", extra={"fields": {"reason": what}})
            self._at = None
        return self._at

    def _remember(self, position: Position) -> None:
        self._at = position
        self._spool.save(position)

    def _tell_away(self, error: OSError) -> None:
        if not self._is_away:
            self._is_away = True
            fields = {"server": self._where, "reason": error.strerror or str(error)}
            fields["what"] = "messages are kept in the file and sent when it is back"
            LOGGER.warning("audit server away", extra={"fields": fields})

    def _tell_back(self) -> None:
        if self._is_away:
            self._is_away, self._pause_seconds = False, FIRST_PAUSE_SECONDS
            LOGGER.info("audit server is back", extra={"fields": {"server": self._where}})
