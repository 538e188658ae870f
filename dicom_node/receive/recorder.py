"""Group commit: what arrives while one transaction is being committed shares the next one.

A commit waits for the disk, and instances of several associations would wait one after the other. Nobody
waits for company: an instance that comes alone is committed alone, at once.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node import index

MOST = 64
"""Instances in one transaction; so many associations there are by default."""

KNOWN_SECONDS = 60.0
"""How long it is remembered that an association carries a study: the index hears of it again afterwards."""


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
        self._aboard: dict[tuple[str, str], tuple[int, float]] = {}

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
                    index.accept(
                        shared, self._client, each.arrival, self._carrier(each), each.rules
                    )
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
            self._remember(batch, kept)
            for each, one in zip(batch, kept, strict=True):
                each.kept.set_result(one)
        finally:
            for each in batch:
                each.kept.cancel()  # does nothing to those that have heard

    def _carrier(self, entry: _Entry) -> index.Carrier:
        """Told what is known of it: to write it down again would cost as much as the instance."""
        key = entry.carrier.association, entry.arrival.study_uid
        generation, known_at = self._aboard.get(key, (index.NO_GENERATION, 0.0))
        fresh = time.monotonic() - known_at < KNOWN_SECONDS
        return replace(entry.carrier, aboard=generation if fresh else index.NO_GENERATION)

    def _remember(self, batch: Sequence[_Entry], kept: Sequence[index.Kept]) -> None:
        """What has been committed, and only that."""
        now = time.monotonic()
        self._aboard = {
            key: known for key, known in self._aboard.items() if now - known[1] < KNOWN_SECONDS
        }
        for each, one in zip(batch, kept, strict=True):
            key = each.carrier.association, each.arrival.study_uid
            if (
                one.is_new
                and self._aboard.get(key, (index.NO_GENERATION, now))[0] != one.generation
            ):
                self._aboard[key] = one.generation, now
