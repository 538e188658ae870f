"""Answers of destinations to our requests for storage commitment, on associations that they open."""

import logging

import sqlalchemy as sa
from dbos import DBOSClient
from pynetdicom.events import Event

from dicom_node import index

LOGGER = logging.getLogger(__name__)

SUCCESS, PROCESSING_FAILURE, NO_SUCH_INSTANCE = 0x0000, 0x0110, 0x0112


class Answers:
    """The SCP's handler of N-EVENT-REPORT."""

    def __init__(self, engine: sa.Engine, client: DBOSClient) -> None:
        self._engine = engine
        self._client = client

    def on_report(self, event: Event) -> tuple[int, None]:
        """The answer is in the index before its response; the delivery that waits for it looks at once."""
        report = index.read_report(event.event_information)
        what = {"transaction": report.transaction_uid[:64], "peer": event.assoc.requestor.address}
        try:
            request = index.take_report(self._engine, report)
            if request is not None:
                index.hasten(self._engine, self._client, request)
        except index.DATABASE_AWAY:
            LOGGER.info("commitment answer refused", extra={"fields": what})
            return PROCESSING_FAILURE, None
        if request is None:
            LOGGER.info("commitment answer unknown", extra={"fields": what})
            return NO_SUCH_INSTANCE, None
        what |= {"study": request.study_uid, "destination": request.destination}
        what |= {"committed": str(len(report.committed))}
        what |= {uid[:64]: f"0x{reason:04X}" for uid, reason in report.failed.items()}
        event_name = "not committed" if report.failed else "committed"
        LOGGER.info(event_name, extra={"fields": what})
        return SUCCESS, None
