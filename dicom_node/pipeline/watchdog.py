"""Lost machines, on Postgres: each worker holds an advisory lock; the work of one whose lock is free goes on.

The lock is that of a session, so it ends with the process at once, and with a lost machine when the server's
keepalive says so. It is taken before any work is begun or recovered.
"""

import logging
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node import index
from dicom_node.errors import AskedToStop, NodeError

LOGGER = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
HELD_SECONDS = 30.0
"""For the lock of the process before this one, whose end the server may notice late."""

AWAY_SECONDS = 1.0
KEEPALIVE = ("tcp_keepalives_idle = 10", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3")
"""Set on the server's side of the session: a machine that is gone is known after 25 s."""

KEY_SPACE = 0x4E4F4445_00000000
"""Of the 64-bit keys, those that begin with NODE."""


class Watchdog:
    """This executor's lock, and an eye on the locks of the others."""

    def __init__(
        self, engine: sa.Engine, name: str, stopping: threading.Event, lost_seconds: float
    ) -> None:
        """Take the lock, waiting for a database that is away. Raises NodeError when another holds it.

        ``lost_seconds``: how long another's lock must be free; one that is just started again is not lost.
        """
        self._engine = engine
        self._name = name
        self._stopping = stopping
        self._lost_seconds = lost_seconds
        self._free_since: dict[str, float] = {}
        self._session = self._claim()

    def watch(self, client: DBOSClient, lost_session: Callable[[], None]) -> None:
        """Look at all locks, in a thread of its own; ``lost_session`` is called when ours was interrupted.

        By then the lock is held again, or this process has no right to its work: then it raises NodeError.
        """
        threading.Thread(target=self._run, args=(client, lost_session), daemon=True).start()

    def _run(self, client: DBOSClient, lost_session: Callable[[], None]) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._session.execute(sa.text("select 1"))
            except sa.exc.DBAPIError:
                self._reclaim()
                if not self._stopping.is_set():
                    lost_session()
                return
            try:
                self._look(client)
            except index.DATABASE_ERRORS as error:
                fields = {"reason": type(error).__name__}
                LOGGER.warning("failed to look for lost workers", extra={"fields": fields})

    def _reclaim(self) -> None:
        LOGGER.warning("the database went away")
        self._session.invalidate()
        self._session.close()
        try:
            self._session = self._claim()
        except NodeError as error:
            # Its work is another's now; what it goes on with would be done twice.
            LOGGER.warning("taken over", extra={"fields": {"reason": str(error)}})

    def _claim(self) -> sa.Connection:
        end, told = time.monotonic() + HELD_SECONDS, False
        while not self._stopping.is_set():
            try:
                session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                for setting in KEEPALIVE:
                    session.execute(sa.text(f"set {setting}"))
                if _lock(session, self._name):
                    return session
                session.close()
            except index.DATABASE_AWAY as error:
                if not told:
                    reason = {"reason": type(error).__name__}
                    LOGGER.warning("waiting for the database", extra={"fields": reason})
                told, end = True, time.monotonic() + HELD_SECONDS
            if time.monotonic() > end:
                raise NodeError(
                    f"a worker called {self._name} is running already; give each machine its own node.name"
                )
            self._stopping.wait(AWAY_SECONDS)
        raise AskedToStop("asked to stop before the database was there")

    def _look(self, client: DBOSClient) -> None:
        """Rescue what the lost have begun; what they had not begun is taken by others anyway."""
        pending = client.list_workflows(
            status="PENDING", name=list(index.QUEUES), load_input=False, load_output=False
        )
        owners = {status.executor_id for status in pending if status.executor_id} - {self._name}
        self._free_since = {
            owner: since for owner, since in self._free_since.items() if owner in owners
        }
        for owner in sorted(owners):
            with self._engine.connect() as connection:
                session = connection.execution_options(isolation_level="AUTOCOMMIT")
                if not _lock(session, owner):
                    self._free_since.pop(owner, None)
                    continue
                try:
                    since = self._free_since.setdefault(owner, time.monotonic())
                    if time.monotonic() - since >= self._lost_seconds:
                        self._rescue(client, owner)
                finally:
                    session.execute(
                        sa.text("select pg_advisory_unlock(:key)"), {"key": _key(owner)}
                    )

    def _rescue(self, client: DBOSClient, owner: str) -> None:
        """Back into their own queues: without a name DBOS would give them to any worker."""
        queues: dict[str, list[str]] = defaultdict(list)
        for status in client.list_workflows(
            status="PENDING",
            executor_id=owner,
            name=list(index.QUEUES),
            load_input=False,
            load_output=False,
        ):
            queues[status.queue_name or index.QUEUES[status.name]].append(status.workflow_id)
        for queue, names in queues.items():
            # Counted first: a watchdog that dies here counts once too often, and never not at all.
            index.count_rescues(self._engine, names)
            client.resume_workflows(names, queue_name=queue)
            fields = {"executor": owner, "queue": queue, "stages": names}
            LOGGER.warning("worker lost, its work goes on", extra={"fields": fields})


def _key(executor: str) -> int:
    return KEY_SPACE | zlib.crc32(executor.encode())


def _lock(session: sa.Connection, executor: str) -> bool:
    query = sa.text("select pg_try_advisory_lock(:key)")
    return bool(session.scalar(query, {"key": _key(executor)}))
