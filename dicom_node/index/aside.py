"""What came for a study and is no part of it, and how a corrected patient takes the place of the first.

A SOP Instance UID that comes again with other content is not taken: nobody but a person can tell a correction
from a mistake. It is remembered here, with its file, until one says so.
"""

import time
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from dicom_node.index.arrivals import Arrival
from dicom_node.index.database import insert
from dicom_node.index.tables import instances, set_aside, studies

OTHER_PATIENT, OTHER_CONTENT, FORMER_PATIENT = "another patient", "other content", "former patient"
REASONS = (OTHER_PATIENT, OTHER_CONTENT, FORMER_PATIENT)
"""Known under its UID, and names another patient; or differs otherwise; was replaced by a correction."""

SHARED = [column.name for column in set_aside.columns if column.name in instances.columns]


def put_aside(engine: sa.Engine, arrival: Arrival, reason: str) -> None:
    """Remember an instance that was not taken; once, however often it comes."""
    row = {name: getattr(arrival, name) for name in SHARED if name != "received_at"}
    values = row | {"received_at": time.time(), "reason": reason}
    with engine.begin() as connection:
        connection.execute(
            insert(connection, set_aside)
            .values(values)
            .on_conflict_do_update(index_elements=["sop_uid", "sha256"], set_=values)
        )


def aside_of(engine: sa.Engine, study_uid: str) -> list[sa.Row[Any]]:
    """What of a study was set aside, the first first."""
    query = sa.select(set_aside).where(set_aside.c.study_uid == study_uid)
    with engine.connect() as connection:
        return list(connection.execute(query.order_by(set_aside.c.received_at)))


def exchange(
    connection: sa.Connection,
    study_uid: str,
    generation: int,
    taken: Sequence[sa.Row[Any]],
    former: Collection[str],
) -> None:
    """Within a transaction: what names a former patient goes aside, what was set aside takes its place.

    ``taken`` are rows of ``set_aside`` whose files lie in the store by now; ``former`` are SOP Instance UIDs.
    The instances belong to ``generation`` then, which the caller opens.
    """
    mine = instances.c.sop_uid.in_(list(former))
    rows = connection.execute(sa.select(instances).where(mine)).mappings().all()
    connection.execute(instances.delete().where(mine))
    for row in taken:
        same = (set_aside.c.sop_uid == row.sop_uid, set_aside.c.sha256 == row.sha256)
        connection.execute(set_aside.delete().where(*same))
        values = {name: getattr(row, name) for name in SHARED}
        values["path"] = stored(row.sha256)
        connection.execute(instances.insert().values(values | {"generation": generation}))
    for each in rows:
        values = {name: each[name] for name in SHARED} | {"reason": FORMER_PATIENT}
        connection.execute(insert(connection, set_aside).values(values).on_conflict_do_nothing())
    connection.execute(
        studies.update()
        .where(studies.c.study_uid == study_uid)
        .values(accepted_generation=generation)
    )


def stored(sha256: object) -> str:
    """Where an instance with this content is kept."""
    return f"store/{sha256}.dcm"
