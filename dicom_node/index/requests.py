"""Storage commitment that we ask of destinations (PS3.4 annex J): what was asked, and what was answered."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node.index.arrivals import workflow_id
from dicom_node.index.results import SUPERSEDED
from dicom_node.index.runs import going_on
from dicom_node.index.tables import commitment_requests, deliveries, results

COMMITTED = "committed"
"""Status of a delivery that the destination has said it keeps."""

MOST_FAILURES = 3
"""Times that a destination may say that it does not keep an object; before the last it is sent again."""

HOPELESS = (0x0119, 0x0122)
"""Failure reasons (PS3.3 C.14.1.1) that sending again does not mend: class conflict or not supported."""


@dataclass(frozen=True, slots=True)
class Request:
    """One transaction: whose results, of which generation, and where they were delivered."""

    transaction_uid: str
    destination: str
    study_uid: str
    generation: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a destination answers: what it keeps, and why it does not keep the rest."""

    transaction_uid: str
    committed: tuple[str, ...]
    failed: Mapping[str, int]


def read_report(information: Any) -> Report:
    """Of the event information of an N-EVENT-REPORT, PS3.4 table J.3-2."""

    def items(keyword: str) -> list[Any]:
        return list(information.get(keyword) or ())

    return Report(
        str(information.get("TransactionUID", "")),
        tuple(
            str(item.get("ReferencedSOPInstanceUID", "")) for item in items("ReferencedSOPSequence")
        ),
        {
            str(item.get("ReferencedSOPInstanceUID", "")): int(item.get("FailureReason") or 0)
            for item in items("FailedSOPSequence")
        },
    )


def uncommitted(
    engine: sa.Engine, study_uid: str, generation: int, destination: str
) -> list[sa.Row[Any]]:
    """The results of a generation that a destination has accepted, and not yet committed to."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                sa.select(results.c.sop_uid, results.c.sop_class)
                .join(deliveries, deliveries.c.sop_uid == results.c.sop_uid)
                .where(
                    results.c.study_uid == study_uid,
                    results.c.generation == generation,
                    deliveries.c.destination == destination,
                    deliveries.c.delivered_at.is_not(None),
                    deliveries.c.committed_at.is_(None),
                    deliveries.c.status != SUPERSEDED,
                )
                .order_by(results.c.made_at, results.c.sop_uid)
            )
        )


def not_kept(
    engine: sa.Engine, study_uid: str, generation: int, destination: str
) -> dict[str, str]:
    """Results that a destination refused too often to commit to, and why; the count begins anew."""
    mine = sa.select(results.c.sop_uid).where(
        results.c.study_uid == study_uid, results.c.generation == generation
    )
    given_up = (
        deliveries.c.sop_uid.in_(mine),
        deliveries.c.destination == destination,
        deliveries.c.delivered_at.is_(None),
        deliveries.c.commitment_failures >= MOST_FAILURES,
    )
    with engine.begin() as connection:
        connection.execute(deliveries.update().where(*given_up).values(status="failed"))
        rows = connection.execute(
            sa.select(deliveries.c.sop_uid, deliveries.c.reason).where(*given_up)
        ).all()
        connection.execute(deliveries.update().where(*given_up).values(commitment_failures=0))
    return {row.sop_uid: row.reason for row in rows}


def ask(engine: sa.Engine, request: Request, sop_uids: Sequence[str]) -> None:
    """Remember a request before it leaves: its answer may come before we know that it has arrived."""
    row = {"sop_uids": list(sop_uids), "asked_at": time.time()}
    with engine.begin() as connection:
        connection.execute(
            commitment_requests.insert().values(
                transaction_uid=request.transaction_uid,
                destination=request.destination,
                study_uid=request.study_uid,
                generation=request.generation,
                **row,
            )
        )


def withdraw(engine: sa.Engine, transaction_uid: str) -> None:
    """A request did not arrive; nothing waits for its answer."""
    mine = commitment_requests.c.transaction_uid == transaction_uid
    with engine.begin() as connection:
        connection.execute(commitment_requests.delete().where(mine))


def is_asked(engine: sa.Engine, request: Request, patience_seconds: float) -> bool:
    """Whether the answer to another request for the same objects may still come."""
    query = sa.exists().where(
        commitment_requests.c.study_uid == request.study_uid,
        commitment_requests.c.generation == request.generation,
        commitment_requests.c.destination == request.destination,
        commitment_requests.c.answered_at.is_(None),
        commitment_requests.c.asked_at > time.time() - patience_seconds,
    )
    with engine.connect() as connection:
        return bool(connection.scalar(sa.select(query)))


def take_report(engine: sa.Engine, report: Report) -> Request | None:
    """Remember an answer, once; what is not kept is due again. None: nobody has asked that."""
    mine = commitment_requests.c.transaction_uid == report.transaction_uid
    now = time.time()
    with engine.begin() as connection:
        connection.execute(  # a write first: on SQLite it takes the lock, on Postgres that of the row
            commitment_requests.update().where(mine).values(asked_at=commitment_requests.c.asked_at)
        )
        row = connection.execute(sa.select(commitment_requests).where(mine)).one_or_none()
        if row is None:
            return None
        request = Request(row.transaction_uid, row.destination, row.study_uid, row.generation)
        if row.answered_at is not None:
            return request
        connection.execute(commitment_requests.update().where(mine).values(answered_at=now))
        kept = [uid for uid in report.committed if uid in row.sop_uids]
        here = deliveries.c.destination == row.destination
        open_here = (
            here,
            deliveries.c.delivered_at.is_not(None),
            deliveries.c.committed_at.is_(None),
        )
        connection.execute(
            deliveries.update()
            .where(*open_here, deliveries.c.sop_uid.in_(kept))
            .values(status=COMMITTED, committed_at=now, reason="")
        )
        for sop_uid, reason in report.failed.items():
            if sop_uid in row.sop_uids:
                failures = MOST_FAILURES if reason in HOPELESS else 1
                connection.execute(
                    deliveries.update()
                    .where(*open_here, deliveries.c.sop_uid == sop_uid)
                    .values(
                        status="waiting",
                        reason=f"not committed: 0x{reason:04X}",
                        delivered_at=None,
                        commitment_failures=deliveries.c.commitment_failures + failures,
                    )
                )
    return request


def hasten(engine: sa.Engine, client: DBOSClient, request: Request) -> None:
    """Let the delivery that waits for an answer look now."""
    beginning = workflow_id(request.study_uid, request.generation, "deliver", "")
    for run in going_on(engine, beginning, ["DELAYED"]):
        if run.workflow_uuid.endswith(f":{request.destination}"):
            client.set_workflow_delay(run.workflow_uuid, delay_seconds=0.0)
