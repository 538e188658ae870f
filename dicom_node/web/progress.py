"""What DBOS knows of the work that is not done, in questions that stay quick however much is.

Asked of its table directly: its own listing gives whole rows, where counts are wanted. The conditions are
written as in its partial indexes, without parameters, or SQLite would not use these.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.index import QUEUES

RUNNING, WAITING, DELAYED = "running", "waiting", "delayed"
STATES = {"PENDING": RUNNING, "ENQUEUED": WAITING, "DELAYED": DELAYED}

IN_FLIGHT = "status IN ('ENQUEUED', 'PENDING')"
IS_PENDING, IS_DELAYED = "status = 'PENDING'", "status = 'DELAYED'"
HAS_FAILED = "status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')"


@dataclass(frozen=True, slots=True)
class Load:
    """How much of one queue is in one state, and when the oldest of it was enqueued (seconds since 1970)."""

    queue: str
    state: str
    count: int
    oldest_at: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A stage of a study that failed for good, or was canceled."""

    workflow_id: str
    name: str
    is_canceled: bool


def workflows(connection: sa.Connection) -> Any:
    """DBOS's table of workflows."""
    names = ("workflow_uuid", "name", "status", "queue_name", "created_at", "started_at_epoch_ms")
    schema = "dbos" if connection.dialect.name == "postgresql" else None
    return sa.table("workflow_status", *map(sa.column, names), schema=schema)


def loads(connection: sa.Connection) -> tuple[Load, ...]:
    """Every queue in every state, zeros included."""
    table = workflows(connection)
    found = {}
    for condition in (IN_FLIGHT, IS_DELAYED):
        rows = connection.execute(
            sa.select(
                table.c.queue_name,
                table.c.status,
                sa.func.count(),
                sa.func.min(table.c.created_at),
            )
            .where(sa.text(condition))
            .group_by(table.c.queue_name, table.c.status)
        )
        for queue, status, count, oldest_ms in rows:
            found[queue, STATES[status]] = Load(queue, STATES[status], count, oldest_ms / 1000)
    keys = [(queue, state) for queue in dict.fromkeys(QUEUES.values()) for state in STATES.values()]
    return tuple(found.get(key, Load(*key, 0, 0.0)) for key in keys)


def stalled(connection: sa.Connection, since: float) -> dict[str, int]:
    """How many stages of each queue have been running since before a time."""
    table = workflows(connection)
    rows = connection.execute(
        sa.select(table.c.queue_name, sa.func.count())
        .where(
            sa.text(IS_PENDING),
            table.c.started_at_epoch_ms < int(since * 1000),
        )
        .group_by(table.c.queue_name)
    )
    found = {row[0]: row[1] for row in rows}
    return {queue: found.get(queue, 0) for queue in dict.fromkeys(QUEUES.values())}


def dead_letters(connection: sa.Connection) -> dict[tuple[str, bool], int]:
    """How many runs of each stage failed for good, or (True) were canceled, as long as they are kept."""
    table = workflows(connection)
    canceled = table.c.status == "CANCELLED"
    rows = connection.execute(
        sa.select(table.c.name, canceled, sa.func.count())
        .where(sa.text(HAS_FAILED))
        .group_by(table.c.name, canceled)
    )
    found = {(row[0], bool(row[1])): row[2] for row in rows}
    return {
        (word, is_off): found.get((word, is_off), 0) for word in QUEUES for is_off in (False, True)
    }


def failed_since(connection: sa.Connection, since: float, most: int) -> tuple[Failed, ...]:
    """The stages enqueued after a time that failed for good or were canceled, the newest first."""
    table = workflows(connection)
    rows = connection.execute(
        sa.select(table.c.workflow_uuid, table.c.name, table.c.status)
        .where(sa.text(HAS_FAILED), table.c.created_at >= int(since * 1000))
        .order_by(table.c.created_at.desc())
        .limit(most)
    )
    return tuple(Failed(row[0], row[1], row[2] == "CANCELLED") for row in rows)
