"""Storage commitment of what was delivered: asked for, waited for by looking again, never by sleeping."""

import logging

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import generate_uid

from dicom_node import index
from dicom_node.deliver import SUCCESS, request_commitment
from dicom_node.deliver.causes import COMMITMENT
from dicom_node.errors import Declined, DeliveryError
from dicom_node.settings import Destination

LOGGER = logging.getLogger(__name__)

PATIENCE_SECONDS = 6 * 3600.0
"""Then a request that was not answered is made again, as another transaction; archives with tape are slow."""

WAITING = "its answer to the request for storage commitment"
"""What a delivery waits for that has nothing left to send."""

NO_SUCH_INSTANCE, PROCESSING_FAILURE = 0x0112, 0x0110


def commit(
    engine: sa.Engine, destination: Destination, calling_ae: str, study_uid: str, generation: int
) -> str:
    """Ask for commitment to what is delivered, unless it was asked for; what is still waited for, or "".

    Raises DeliveryError.
    """
    of = (engine, study_uid, generation, destination.name)
    rows = index.uncommitted(*of)
    if not destination.commitment or not rows:
        return ""
    request = index.Request(str(generate_uid(prefix=None)), destination.name, study_uid, generation)
    if not index.is_asked(engine, request, PATIENCE_SECONDS):
        index.ask(engine, request, [row.sop_uid for row in rows])
        delivered = [(row.sop_class, row.sop_uid) for row in rows]
        try:
            request_commitment(
                destination,
                calling_ae,
                request.transaction_uid,
                delivered,
                lambda said: take_report(engine, said),
            )
        except DeliveryError:
            index.withdraw(engine, request.transaction_uid)
            raise
    if index.results_due(*of):
        return "it does not keep all that it accepted; sent again"
    return WAITING if index.uncommitted(*of) else ""


def take_report(engine: sa.Engine, said: Dataset) -> int:
    """Remember the event information of an N-EVENT-REPORT; the status of the response."""
    report = index.read_report(said)
    try:
        request = index.take_report(engine, report)
    except index.DATABASE_AWAY:
        return PROCESSING_FAILURE
    if request is None:
        return NO_SUCH_INSTANCE
    log_report(request, report)
    return SUCCESS


def log_report(request: index.Request, report: index.Report) -> None:
    """One event of the log."""
    what = {
        "study": request.study_uid,
        "generation": request.generation,
        "destination": request.destination,
        "committed": len(report.committed),
        "failed": {uid: f"0x{reason:04X}" for uid, reason in report.failed.items()},
    }
    LOGGER.info("committed" if not report.failed else "not committed", extra={"fields": what})


def give_up(engine: sa.Engine, destination: str, study_uid: str, generation: int) -> None:
    """Raises Declined where a destination has said too often that it does not keep an object."""
    if refused := index.not_kept(engine, study_uid, generation, destination):
        sentences = (f"instance {uid}: {reason}" for uid, reason in sorted(refused.items()))
        raise Declined(destination, "; ".join(sentences), COMMITMENT)
