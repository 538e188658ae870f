"""What was made, and which destination acknowledged it."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.index.database import insert
from dicom_node.index.tables import deliveries, results


@dataclass(frozen=True, slots=True)
class Result:
    """One written object. ``path`` is relative to the data folder."""

    sop_uid: str
    study_uid: str
    generation: int
    analysis: str
    acquisition: int
    kind: str
    sop_class: str
    sha256: str
    path: str


def record_results(engine: sa.Engine, made: Iterable[Result], destinations: Iterable[str]) -> None:
    """Remember written objects and that each is due at each destination; once, however often it runs."""
    with engine.begin() as connection:
        for result in made:
            row = asdict(result) | {"made_at": time.time()}
            connection.execute(
                insert(connection, results)
                .values(row)
                .on_conflict_do_update(index_elements=["sop_uid"], set_=row)
            )
            for destination in destinations:
                connection.execute(
                    insert(connection, deliveries)
                    .values(
                        sop_uid=result.sop_uid,
                        destination=destination,
                        status="pending",
                        reason="",
                        attempts=0,
                    )
                    .on_conflict_do_nothing()
                )


def results_due(
    engine: sa.Engine, study_uid: str, generation: int, destination: str
) -> list[sa.Row[Any]]:
    """The results of a generation that a destination has not acknowledged, in order of writing."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                sa.select(results)
                .join(deliveries, deliveries.c.sop_uid == results.c.sop_uid)
                .where(
                    results.c.study_uid == study_uid,
                    results.c.generation == generation,
                    deliveries.c.destination == destination,
                    deliveries.c.delivered_at.is_(None),
                )
                .order_by(results.c.made_at)
            )
        )


def record_delivery(
    engine: sa.Engine, sop_uid: str, destination: str, status: str, reason: str = ""
) -> None:
    """Remember one attempt: ``delivered`` or ``warning`` (the peer said so), ``waiting`` or ``failed``."""
    now = time.time()
    with engine.begin() as connection:
        connection.execute(
            deliveries.update()
            .where(deliveries.c.sop_uid == sop_uid, deliveries.c.destination == destination)
            .values(
                status=status,
                reason=reason,
                attempts=deliveries.c.attempts + 1,
                tried_at=now,
                delivered_at=now if status in ("delivered", "warning") else None,
            )
        )
