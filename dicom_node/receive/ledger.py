"""What came on each association or request, until it ends: then the audit trail gets one message a study.

A message is about one patient and one transfer (PS3.15 section A.5.3.7), so what was refused is a message
of its own.
"""

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import sqlalchemy as sa

from dicom_node import audit, index


@dataclass(slots=True)
class _Account:
    """Of one association and study: who sends, numbers by SOP class, and by reason of those refused."""

    peer: audit.Peer
    patient_id: str = ""
    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Used by many threads at once."""

    def __init__(self, ae_title: str) -> None:
        self._ae_title = ae_title
        self._accounts: dict[str, dict[str, _Account]] = defaultdict(dict)
        self._lock = threading.Lock()

    def took(self, association: str, arrival: index.Arrival, patient_id: str) -> None:
        """An instance was taken."""
        peer = audit.Peer(arrival.calling_ae, arrival.peer)
        with self._lock:
            accounts = self._accounts[association]
            account = accounts.setdefault(arrival.study_uid, _Account(peer, patient_id))
            account.taken[arrival.sop_class] += 1

    def refused(self, association: str, peer: audit.Peer, reason: str) -> None:
        """An instance was not taken; which study it is of may not be known."""
        with self._lock:
            accounts = self._accounts[association]
            accounts.setdefault("", _Account(peer)).refused[reason] += 1

    def close(self, association: str) -> None:
        """An association has ended, however it did."""
        with self._lock:
            accounts = self._accounts.pop(association, {})
        for study_uid, account in accounts.items():
            if account.taken:
                transfer = audit.Transfer(study_uid, account.patient_id, account.taken)
                audit.transferred(transfer, self._ae_title, account.peer, is_received=True)
            if account.refused:
                reasons = "; ".join(f"{n} refused: {why}" for why, n in account.refused.items())
                failed = audit.Transfer(study_uid, account.patient_id, failure=reasons)
                audit.transferred(failed, self._ae_title, account.peer, is_received=True)

    def close_all(self) -> None:
        """The receiver stops."""
        with self._lock:
            open_ones = list(self._accounts)
        for association in open_ones:
            self.close(association)

    def cut_off(self, engine: sa.Engine, study_uids: tuple[str, ...]) -> None:
        """An earlier receiver was killed while these came: what is kept of them is all that is known."""
        for study_uid in study_uids:
            rows = index.instances_of(engine, study_uid, index.LATEST)
            if not rows:
                continue
            last = max(rows, key=lambda row: float(row.received_at))
            transfer = audit.Transfer(
                study_uid,
                "",
                Counter(row.sop_class for row in rows),
                "the receiver was killed meanwhile; counted is all that is kept of the study",
            )
            peer = audit.Peer(last.calling_ae, last.peer)
            audit.transferred(transfer, self._ae_title, peer, is_received=True)
