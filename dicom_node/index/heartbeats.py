"""Signs of life: which processes are at work, on whichever machine."""

import time
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.index.database import insert
from dicom_node.index.tables import heartbeats

FORGOTTEN_SECONDS = 7 * 86400.0
"""A machine that has been silent for a week is not coming back."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One process: its executor id, its role, when it was last seen, how often it was started."""

    executor: str
    role: str
    started_at: float
    seen_at: float
    starts: int


def begin_heartbeat(engine: sa.Engine, executor: str, role: str) -> bool:
    """A process has started; True. Raises DATABASE_AWAY."""
    now = time.time()
    row = {"role": role, "started_at": now, "seen_at": now}
    again = row | {"starts": heartbeats.c.starts + 1}
    with engine.begin() as connection:
        connection.execute(
            insert(connection, heartbeats)
            .values(executor=executor, starts=1, **row)
            .on_conflict_do_update(index_elements=["executor"], set_=again)
        )
        old = heartbeats.c.seen_at < now - FORGOTTEN_SECONDS
        connection.execute(heartbeats.delete().where(old))
    return True


def beat(engine: sa.Engine, executor: str) -> bool:
    """A process is alive; False: its row is gone, as after a clock set far ahead. Raises DATABASE_AWAY."""
    mine = heartbeats.c.executor == executor
    with engine.begin() as connection:
        alive = heartbeats.update().where(mine).values(seen_at=time.time())
        return connection.execute(alive).rowcount > 0


def end_heartbeat(engine: sa.Engine, executor: str) -> None:
    """A process stops because it was asked to: nobody need look for it. Raises DATABASE_AWAY."""
    mine = heartbeats.c.executor == executor
    with engine.begin() as connection:
        connection.execute(heartbeats.update().where(mine).values(seen_at=0.0))


def heartbeats_now(engine: sa.Engine) -> tuple[Heartbeat, ...]:
    """Every process that has been at work; ``seen_at`` 0.0: it has stopped. Raises DATABASE_AWAY."""
    order = (heartbeats.c.role, heartbeats.c.executor)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(heartbeats).order_by(*order)).all()
    return tuple(Heartbeat(*row) for row in rows)
