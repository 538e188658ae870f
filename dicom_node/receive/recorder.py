"""Group commit: what arrives while one transaction is being committed shares the next one.

A commit waits for the disk, and instances of several associations would wait one after the other. Nobody
waits for company: an instance that comes alone is committed alone, at once.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node import index

MOST = 64
"""Instances in one transaction; so many associations there are by default."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One instance to be remembered, and where its handler hears how that went."""

    arrival: index.Arrival
    carrier: index.Carrier
    rules: index.Rules
    kept: Future[index.Kept] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Shared:
    """A transaction that several take part in: it begins and ends for none of them."""

    connection: sa.Connection

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        yield self.connection


class Recorder:
    """``index.accept`` for many threads at once; returns after the commit, as that does."""

    def __init__(self, engine: sa.Engine, client: DBOSClient) -> None:
        self._engine = engine
        self._client = client
        self._waiting: list[_Entry] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def accept(
        self, arrival: index.Arrival, carrier: index.Carrier, rules: index.Rules
    ) -> index.Kept:
        """Remember an instance, with whoever waits as well. Raises what ``index.accept`` raises."""
        mine = _Entry(arrival, carrier, rules)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:
            if not mine.kept.done():  # else it was taken along
                with self._lock:
                    batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                self._record(batch)
        return mine.kept.result()

    def _record(self, batch: Sequence[_Entry]) -> None:
        """One transaction; where it fails for a reason that one of several may have, each alone."""
        batch = sorted(
            batch, key=lambda entry: entry.arrival.study_uid
        )  # locked in one order by all
        try:
            with self._engine.begin() as connection:
                shared = _Shared(connection)
                kept = [
                    index.accept(shared, self._client, each.arrival, each.carrier, each.rules)
                    for each in batch
                ]
        except sa.exc.SQLAlchemyError as error:
            if len(batch) > 1 and not isinstance(error, index.DATABASE_AWAY):
                for each in batch:
                    self._record([each])
                return
            for each in batch:
                each.kept.set_exception(error)
        else:
            for each, one in zip(batch, kept, strict=True):
                each.kept.set_result(one)
        finally:
            for each in batch:
                each.kept.cancel()  # does nothing to those that have heard
