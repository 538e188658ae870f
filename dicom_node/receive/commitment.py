"""Storage commitment, push model (PS3.4 annex J): a scanner asks whether it may delete what it sent.

The request is kept in the database until it is answered, so that a restart forgets none. The answer is true
of the moment it is given: committed is what is in the index and, read again, on disk with its content. It is
sent on the requestor's association while that is open; else on a new one, to the address that [[peers]] or
[[destinations]] give for the requestor's AE title.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_node import index
from dicom_node.access.tls import client_arguments
from dicom_node.checkpoint import stand_aside
from dicom_node.errors import SettingsError, StoreAway, Unreachable
from dicom_node.files import open_files
from dicom_node.receive.store import is_uid
from dicom_node.settings import Destination, Peer, Settings

LOGGER = logging.getLogger(__name__)

SUCCESS, PROCESSING_FAILURE, NO_SUCH_INSTANCE = 0x0000, 0x0110, 0x0112
INVALID_ARGUMENT, CLASS_CONFLICT, NO_SUCH_ACTION = 0x0115, 0x0119, 0x0123
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event types, PS3.4 table J.3-2."""

GRACE_SECONDS = 1.0
"""Who releases its association does so at once; who waits for the answer still has it then."""

HEARD_SECONDS = 5.0
"""Who heard a request answers it, on the same association; other receivers only where he does not."""

CLAIM_SECONDS = 60.0
"""For one attempt; when it was cut off, another follows."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, ATTEMPTS = 1.0, 300.0, 900
"""Pauses of 1, 2, 4 ... 300 s between attempts: three days in all, as for results."""

CONNECT_SECONDS, ANSWER_SECONDS = 5, 30


class Commitments:
    """The SCP's handler, and the answers, which one other thread gives."""

    def __init__(self, settings: Settings, engine: sa.Engine, stir: Callable[[str], None]) -> None:
        self._settings = settings
        self._engine = engine
        self._stir = stir
        self._files = open_files(settings)
        self._open: dict[str, Association] = {}
        self._lock = threading.Lock()

    def on_action(self, event: Event) -> tuple[int, None]:
        """N-ACTION: the request is kept, and what it names belongs to the studies it is about."""
        asked = event.action_information
        transaction_uid = str(asked.get("TransactionUID", ""))
        referenced = [
            index.Reference(
                str(item.get("ReferencedSOPClassUID", "")),
                str(item.get("ReferencedSOPInstanceUID", "")),
            )
            for item in asked.get("ReferencedSOPSequence") or ()
        ]
        if event.action_type != 1:
            return NO_SUCH_ACTION, None
        uids = [transaction_uid, *(each.sop_uid for each in referenced)]
        if not referenced or not all(map(is_uid, uids)):
            return INVALID_ARGUMENT, None
        requestor = event.assoc.requestor.ae_title
        with self._lock:
            self._open[transaction_uid] = event.assoc
        try:
            study_uids = index.ask_commitment(
                self._engine, transaction_uid, requestor, referenced, GRACE_SECONDS
            )
        except index.DATABASE_AWAY:
            self._forget(transaction_uid)
            self._tell("commitment refused", transaction_uid, requestor, "the database is away")
            return PROCESSING_FAILURE, None
        for study_uid in study_uids:
            self._stir(study_uid)
        named = f"{len(referenced)} instances of {len(study_uids)} studies"
        self._tell("commitment asked", transaction_uid, requestor, named)
        return SUCCESS, None

    def answer_due(self) -> None:
        """Answer every request that is due, and that no other process answers. Raises DATABASE_AWAY."""
        with self._lock:
            mine = tuple(self._open)
        due = index.commitments_due(self._engine, LONGEST_PAUSE_SECONDS, mine, HEARD_SECONDS)
        for asked in due:
            if not index.claim_commitment(self._engine, asked, CLAIM_SECONDS):
                continue
            report = self._report(asked)
            failed = len(report.get("FailedSOPSequence", ()))
            outcome = f"{len(asked.referenced) - failed} of {len(asked.referenced)} committed"
            again: float | None = None
            try:
                self._send(asked, report)
            except Unreachable as error:
                outcome += f"; not told: {error.reason}"
                if asked.attempts + 1 < ATTEMPTS and self._address(asked.requestor):
                    pause = FIRST_PAUSE_SECONDS * 2 ** min(asked.attempts, 20)
                    again = min(pause, LONGEST_PAUSE_SECONDS)
            index.record_commitment(self._engine, asked.transaction_uid, outcome, again)
            self._tell("commitment", asked.transaction_uid, asked.requestor, outcome)
            self._forget(asked.transaction_uid)

    def _report(self, asked: index.Commitment) -> Dataset:
        """The event information, PS3.4 table J.3-2."""
        here = index.instances_named(self._engine, [each.sop_uid for each in asked.referenced])
        committed: list[Dataset] = []
        failed: list[Dataset] = []
        report = Dataset()
        report.TransactionUID = asked.transaction_uid
        for each in asked.referenced:
            item = Dataset()
            item.ReferencedSOPClassUID = each.sop_class
            item.ReferencedSOPInstanceUID = each.sop_uid
            reason = self._failure(each, here.get(each.sop_uid))
            if reason:
                item.FailureReason = reason
            (failed if reason else committed).append(item)
        if committed:
            report.ReferencedSOPSequence = committed
        if failed:
            report.FailedSOPSequence = failed
        return report

    def _failure(self, named: index.Reference, row: sa.Row[Any] | None) -> int:
        """Why an instance is not committed, PS3.3 C.14.1.1; 0 = it is."""
        if row is None or row.state in (index.PURGING, index.PURGED):
            return NO_SUCH_INSTANCE
        if row.sop_class != named.sop_class:
            return CLASS_CONFLICT
        try:
            return SUCCESS if self._files.is_whole(row.path, row.sha256) else PROCESSING_FAILURE
        except StoreAway:
            return PROCESSING_FAILURE

    def _send(self, asked: index.Commitment, report: Dataset) -> None:
        """On the requestor's own association, or on a new one. Raises Unreachable."""
        with self._lock:
            association = self._open.get(asked.transaction_uid)
        if association is not None and association.is_established:
            _say(association, report, asked.requestor)
            return
        address = self._address(asked.requestor)
        if address is None:
            reason = (
                "its association is closed, and neither [[peers]] nor [[destinations]] names it"
            )
            raise Unreachable(asked.requestor, reason)
        entity = AE(self._settings.node.ae_title)
        entity.add_requested_context(StorageCommitmentPushModel)
        entity.connection_timeout = CONNECT_SECONDS
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = ANSWER_SECONDS
        try:
            association = entity.associate(
                address.host,
                address.port,
                ae_title=address.ae_title,
                tls_args=client_arguments(address),
                evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: stand_aside(event.assoc))],
                # We requested the association, and yet are the SCP: PS3.4 section J.3.3.
                ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
            )
        except SettingsError as error:
            raise Unreachable(asked.requestor, str(error)) from error
        except OSError as error:
            raise Unreachable(asked.requestor, f"{address.host}: {error.strerror}") from error
        if not association.is_established:
            raise Unreachable(asked.requestor, f"no association with {address.host}:{address.port}")
        try:
            _say(association, report, asked.requestor)
            association.release()
        finally:
            if association.is_established:
                association.abort()

    def _address(self, ae_title: str) -> Peer | Destination | None:
        known: Sequence[Peer | Destination] = (*self._settings.peers, *self._settings.destinations)
        return next((each for each in known if each.ae_title.strip() == ae_title.strip()), None)

    def _forget(self, transaction_uid: str) -> None:
        with self._lock:
            self._open.pop(transaction_uid, None)

    def _tell(self, event: str, transaction_uid: str, requestor: str, what: str) -> None:
        fields = {"transaction": transaction_uid, "requestor": requestor, "what": what}
        LOGGER.info(event, extra={"fields": fields})


def _say(association: Association, report: Dataset, requestor: str) -> None:
    """N-EVENT-REPORT. Raises Unreachable when it is not taken."""
    event_type = SOME_FAILED if "FailedSOPSequence" in report else ALL_COMMITTED
    try:
        answer, _ = association.send_n_event_report(
            report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except (RuntimeError, ValueError) as error:  # just ended; or the context was not accepted
        raise Unreachable(requestor, "the association takes no report") from error
    status = answer.get("Status")
    if status != SUCCESS:
        what = "no answer" if status is None else f"answered 0x{status:04X}"
        raise Unreachable(requestor, what)
