"""What carries studies: associations and web requests, from their first instance to their end.

When something happens to a study (an instance, an announcement, a release), it is stirred: the next look at
whether it is complete is brought forward to when its evidence may suffice.
"""

import threading
import uuid

import sqlalchemy as sa
from dbos import DBOSClient
from pynetdicom.association import Association

from dicom_node import index
from dicom_node.receive.ledger import Ledger


class Carriers:
    """Those of one receiver. Used by many threads at once; ``keep_house`` by one."""

    def __init__(
        self,
        engine: sa.Engine,
        client: DBOSClient,
        receiver: str,
        rules: index.Rules,
        ledger: Ledger,
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._client = client
        self._receiver = receiver
        self._rules = rules
        self._names: dict[Association, str] = {}
        self._ended: dict[str, bool] = {}
        self._stirred: set[str] = set()
        self._lock = threading.Lock()
        self._cut_off = set(index.carried_by(engine, receiver))

    def of(self, association: Association, priority: int) -> index.Carrier:
        """The carrier that an association is."""
        with self._lock:
            name = self._names.setdefault(association, uuid.uuid4().hex)
        return index.Carrier(name, self._receiver, priority)

    def request(self, priority: int) -> index.Carrier:
        """A carrier for one web request; it must be ended."""
        return index.Carrier(uuid.uuid4().hex, self._receiver, priority)

    def end(self, carrier: index.Carrier, released: bool) -> None:
        """A web request has ended, in order or cut off."""
        with self._lock:
            self._ended[carrier.association] = released

    def stir(self, study_uid: str) -> None:
        """Something has happened that may be evidence."""
        with self._lock:
            self._stirred.add(study_uid)

    def keep_house(self) -> None:
        """Record what has ended, however it ended, and bring looks forward. Raises DATABASE_AWAY."""
        self._end_cut_off()
        with self._lock:
            gone = [each for each in self._names if not each.is_alive()]
            self._ended |= {self._names.pop(each): each.is_released for each in gone}
            ended = dict(self._ended)
        for name, released in ended.items():
            self._ledger.close(name)
            for study_uid in index.release(self._engine, name, released):
                self.stir(study_uid)
            with self._lock:
                del self._ended[name]
        with self._lock:
            stirred, self._stirred = self._stirred, set()
        for study_uid in stirred:
            if not self._wake(study_uid):
                self.stir(study_uid)

    def _end_cut_off(self) -> None:
        """What an earlier process of this receiver carried. Not at the start: its disk may be full then."""
        for name in tuple(self._cut_off):
            self._ledger.cut_off(self._engine, index.release(self._engine, name, released=False))
            self._cut_off.remove(name)

    def _wake(self, study_uid: str) -> bool:
        try:
            return index.wake(self._engine, self._client, study_uid, self._rules)
        except index.DATABASE_AWAY:
            self.stir(study_uid)
            raise
