"""The request for storage commitment (PS3.4 annex J) to what a destination has accepted."""

import threading
from collections.abc import Callable, Sequence

from pydicom import Dataset
from pynetdicom import build_context, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_node.deliver import causes
from dicom_node.deliver.association import associate
from dicom_node.deliver.statuses import SUCCESS, not_now
from dicom_node.errors import Busy, Declined, Unreachable
from dicom_node.settings import Destination

REPORT_SECONDS = 2.0
"""Who answers a request for commitment on its own association does so at once; others open a new one."""


def request_commitment(
    destination: Destination,
    calling_ae: str,
    transaction_uid: str,
    delivered: Sequence[tuple[str, str]],
    report: Callable[[Dataset], int],
) -> None:
    """Ask a destination to commit to instances (class, instance), PS3.4 annex J.

    An answer that comes at once is given to ``report``, which returns the status of its response; one that
    comes later does so on an association of the destination's own. Raises Unreachable, Busy, Declined.
    """
    asked, answered, serving = Dataset(), threading.Event(), list[threading.Thread]()
    asked.TransactionUID = transaction_uid
    asked.ReferencedSOPSequence = [_reference(*each) for each in delivered]

    def take(event: Event) -> tuple[int, None]:
        serving.append(threading.current_thread())
        status = report(event.event_information)
        answered.set()
        return status, None

    contexts = [build_context(StorageCommitmentPushModel)]
    handlers = ((evt.EVT_N_EVENT_REPORT, take),)
    with associate(destination, calling_ae, contexts, handlers) as association:
        if not association.accepted_contexts:
            sentence = "it does not offer storage commitment"
            raise Declined(destination.name, sentence, causes.COMMITMENT)
        try:
            answer, _ = association.send_n_action(
                asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        except RuntimeError as error:  # pynetdicom's word for an association that has just ended
            raise Unreachable(destination.name, "the association broke", causes.BROKEN) from error
        if "Status" not in answer:
            sentence = "no answer to the request for storage commitment"
            raise Unreachable(destination.name, sentence, causes.SILENT)
        if answer.Status != SUCCESS:
            sentence = f"request for storage commitment answered with 0x{answer.Status:04X}"
            kind = Busy if not_now(answer.Status) else Declined
            raise kind(destination.name, sentence, causes.COMMITMENT)
        answered.wait(REPORT_SECONDS)
        for thread in serving:
            thread.join()  # released before our response has left, the association would hang


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
    return item
