"""What scanners say of their studies: instances they name, procedure steps, requests for commitment."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.index.database import insert
from dicom_node.index.tables import announcements, commitments, instances, procedure_steps

COMMITMENT, STEP = "storage commitment", "procedure step"
IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
"""Performed Procedure Step Status (0040,0252), PS3.3 C.4.14."""

NAMED_AT_ONCE = 1000
"""UIDs in one query: databases bound the number of parameters."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance that a scanner names."""

    sop_class: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Commitment:
    """One request for storage commitment, PS3.4 annex J; ``attempts`` of answering it so far."""

    transaction_uid: str
    requestor: str
    referenced: tuple[Reference, ...]
    attempts: int
    due_at: float


def instances_named(engine: sa.Engine, sop_uids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """Those of some SOP Instance UIDs that were received, by UID."""
    found = {}
    with engine.connect() as connection:
        for start in range(0, len(sop_uids), NAMED_AT_ONCE):
            wanted = instances.c.sop_uid.in_(sop_uids[start : start + NAMED_AT_ONCE])
            for row in connection.execute(sa.select(instances).where(wanted)):
                found[row.sop_uid] = row
    return found


def ask_commitment(
    engine: sa.Engine,
    transaction_uid: str,
    requestor: str,
    referenced: Sequence[Reference],
    grace_seconds: float,
) -> tuple[str, ...]:
    """Remember a request until it is answered, not before some seconds have passed.

    Returns the studies it is about, as far as they are known.

    What it names belongs to these studies, also what has not arrived yet. The same transaction, asked again,
    is answered again.
    """
    now = time.time()
    here = instances_named(engine, [each.sop_uid for each in referenced])
    study_uids = tuple(sorted({row.study_uid for row in here.values()}))
    state = {
        "requestor": requestor,
        "referenced": [[each.sop_class, each.sop_uid] for each in referenced],
        "asked_at": now,
        "due_at": now + grace_seconds,
        "attempts": 0,
        "outcome": "",
        "answered_at": None,
    }
    with engine.begin() as connection:
        connection.execute(
            insert(connection, commitments)
            .values(transaction_uid=transaction_uid, **state)
            .on_conflict_do_update(index_elements=["transaction_uid"], set_=state)
        )
        for study_uid in study_uids:
            # What has arrived under another study does not belong to this one.
            named = [
                each.sop_uid
                for each in referenced
                if each.sop_uid not in here or here[each.sop_uid].study_uid == study_uid
            ]
            _announce(connection, study_uid, named, COMMITMENT)
    return study_uids


def commitments_due(
    engine: sa.Engine, longest_seconds: float, mine: Collection[str], heard_seconds: float
) -> tuple[Commitment, ...]:
    """The requests whose answer is to be sent, or sent again, now.

    For the first attempt those that are not mine, by transaction, are left for a while to whoever heard them.
    Also what is due later than the longest pause from now: the clock was set back since.
    """
    now, due_at = time.time(), commitments.c.due_at
    left = ~commitments.c.transaction_uid.in_(mine) & (commitments.c.attempts == 0)
    is_time = due_at <= sa.case((left, now - heard_seconds), else_=now)
    is_time |= due_at > now + longest_seconds + 1.0
    due = commitments.c.answered_at.is_(None) & is_time
    with engine.connect() as connection:
        rows = connection.execute(sa.select(commitments).where(due)).all()
    return tuple(
        Commitment(
            row.transaction_uid,
            row.requestor,
            tuple(Reference(*each) for each in row.referenced),
            row.attempts,
            row.due_at,
        )
        for row in rows
    )


def claim_commitment(engine: sa.Engine, asked: Commitment, seconds: float) -> bool:
    """Keep a request that is due from others for a while; False when one of them has it already."""
    same = commitments.c.transaction_uid == asked.transaction_uid
    still = commitments.c.answered_at.is_(None) & (commitments.c.due_at == asked.due_at)
    with engine.begin() as connection:
        claim = commitments.update().where(same & still).values(due_at=time.time() + seconds)
        return connection.execute(claim).rowcount > 0


def record_commitment(
    engine: sa.Engine, transaction_uid: str, outcome: str, retry_seconds: float | None
) -> None:
    """Remember one attempt at an answer: when to try again, or None when there is nothing left to do."""
    now = time.time()
    again = {"due_at": now + retry_seconds} if retry_seconds is not None else {"answered_at": now}
    with engine.begin() as connection:
        connection.execute(
            commitments.update()
            .where(commitments.c.transaction_uid == transaction_uid)
            .values(attempts=commitments.c.attempts + 1, outcome=outcome, **again)
        )


def create_step(engine: sa.Engine, step_uid: str, study_uids: Iterable[str]) -> bool:
    """Remember a performed procedure step that has begun; False when it is known."""
    begun = {"step_uid": step_uid, "status": IN_PROGRESS, "changed_at": time.time()}
    known = sa.exists().where(procedure_steps.c.step_uid == step_uid)
    with engine.begin() as connection:
        is_new = not connection.scalar(sa.select(known))
        for study_uid in study_uids:
            connection.execute(
                insert(connection, procedure_steps)
                .values(study_uid=study_uid, **begun)
                .on_conflict_do_nothing()
            )
    return is_new


def step_status(engine: sa.Engine, step_uid: str) -> tuple[str, tuple[str, ...]]:
    """The status of a step and its studies; "" for an unknown step."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(procedure_steps).where(procedure_steps.c.step_uid == step_uid)
        ).all()
    return (rows[0].status if rows else "", tuple(row.study_uid for row in rows))


def change_step(engine: sa.Engine, step_uid: str, status: str, named: Sequence[str]) -> None:
    """Remember how a step goes on or ends; the instances that it names belong to its studies."""
    _, study_uids = step_status(engine, step_uid)
    with engine.begin() as connection:
        connection.execute(
            procedure_steps.update()
            .where(procedure_steps.c.step_uid == step_uid)
            .values(status=status, changed_at=time.time())
        )
        for study_uid in study_uids:
            _announce(connection, study_uid, named, STEP)


def _announce(
    connection: sa.Connection, study_uid: str, sop_uids: Iterable[str], evidence: str
) -> None:
    for sop_uid in sop_uids:
        said = {"evidence": evidence, "announced_at": time.time()}
        connection.execute(
            insert(connection, announcements)
            .values(study_uid=study_uid, sop_uid=sop_uid, **said)
            .on_conflict_do_update(index_elements=["study_uid", "sop_uid"], set_=said)
        )
