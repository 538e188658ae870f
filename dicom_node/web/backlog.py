"""What destinations have not acknowledged yet."""

from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node import index


@dataclass(frozen=True, slots=True)
class Backlog:
    """Of one destination: objects still due, since when the oldest is, and objects given up."""

    destination: str
    objects: int
    oldest_at: float
    given_up: int

    def lag_seconds(self, now: float) -> float:
        """How long the oldest object has been waiting; 0 where none is."""
        return max(0.0, now - self.oldest_at) if self.objects else 0.0


def backlogs(connection: sa.Connection, destinations: tuple[str, ...]) -> tuple[Backlog, ...]:
    """Of each configured destination, and of others that something is still due at."""
    deliveries = index.deliveries
    is_due = deliveries.c.status.in_(("pending", "waiting"))
    rows = connection.execute(
        sa.select(
            deliveries.c.destination,
            sa.func.sum(sa.case((is_due, 1), else_=0)),
            sa.func.min(sa.case((is_due, deliveries.c.due_at))),
            sa.func.sum(sa.case((deliveries.c.status == "failed", 1), else_=0)),
        )
        .where(deliveries.c.delivered_at.is_(None))
        .group_by(deliveries.c.destination)
    )
    found = {row[0]: Backlog(row[0], row[1], row[2] or 0.0, row[3]) for row in rows}
    names = dict.fromkeys((*destinations, *(name for name in found if found[name].objects)))
    return tuple(found.get(name, Backlog(name, 0, 0.0, 0)) for name in names)
