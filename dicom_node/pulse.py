"""A process says that it is alive, again and again, in the database: there any machine can see it."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from dicom_node import index
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

BEATS = 3
"""In the time after which a silent process counts as lost: one may come late."""


@contextmanager
def pulse(settings: Settings, executor: str, role: str) -> Iterator[None]:
    """Beat until the block ends; a database that is away is waited for."""
    engine = index.open_engine(settings.node.database_url)
    stopping = threading.Event()
    seconds = settings.web.lost_seconds / BEATS

    def run() -> None:
        is_known = _try(index.begin_heartbeat, engine, executor, role)
        said = is_known
        while not stopping.wait(seconds):
            was_away = said is None
            if is_known:
                said = _try(index.beat, engine, executor, is_news=not was_away)
            else:
                said = _try(index.begin_heartbeat, engine, executor, role, is_news=not was_away)
            is_known = is_known if said is None else said

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    stopping.set()
    thread.join(seconds)
    _try(index.end_heartbeat, engine, executor)
    engine.dispose()


def _try(
    act: Callable[..., bool | None], engine: sa.Engine, *told: str, is_news: bool = True
) -> bool | None:
    """What an act says; None where the database is away or full, which is logged once."""
    try:
        return act(engine, *told)
    except index.DATABASE_AWAY as error:
        if is_news:
            fields = {"reason": type(error).__name__}
            LOGGER.warning("failed to give a sign of life", extra={"fields": fields})
        return None
