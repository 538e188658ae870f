"""Which files are kept. A row outlives its file: by it a resend is recognized.

kept      the file is there, with its content
purging   the file is being removed; a purge that was cut off goes on from here
purged    the file was removed by the site's rules, after all was delivered
missing   the file is gone or damaged, and nobody has decided that
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from dicom_node.index.database import insert
from dicom_node.index.tables import (
    commitment_requests,
    deliveries,
    generations,
    instances,
    results,
    studies,
)

KEPT, PURGING, PURGED, MISSING = "kept", "purging", "purged", "missing"


def mark_missing(engine: sa.Engine, table: sa.Table, study_uid: str, paths: Iterable[str]) -> None:
    """The files of some rows are gone or damaged."""
    _mark(engine, table, (table.c.study_uid == study_uid, table.c.path.in_(list(paths))), MISSING)


def mark_kept(engine: sa.Engine, table: sa.Table, study_uid: str, paths: Iterable[str]) -> None:
    """The files of rows that were missing are there again."""
    _mark(engine, table, (table.c.study_uid == study_uid, table.c.path.in_(list(paths))), KEPT)


def _mark(engine: sa.Engine, table: sa.Table, which: Sequence[Any], state: str) -> None:
    known = (KEPT, MISSING)
    with engine.begin() as connection:
        connection.execute(
            table.update().where(*which, table.c.state.in_(known)).values(state=state)
        )


def begin_purge(engine: sa.Engine, table: sa.Table, study: sa.Row[Any]) -> bool:
    """Mark the files of a study as being removed; False when the study has changed since it was looked at."""
    unchanged = (
        studies.c.study_uid == study.study_uid,
        studies.c.generation == study.generation,
        studies.c.last_at == study.last_at,
        studies.c.closed,
    )
    with engine.begin() as connection:
        changed = connection.execute(  # a write first: it locks the study
            studies.update().where(*unchanged).values(study_uid=study.study_uid)
        )
        if changed.rowcount != 1:
            return False
        connection.execute(
            table.update()
            .where(table.c.study_uid == study.study_uid, table.c.state.in_((KEPT, MISSING)))
            .values(state=PURGING)
        )
    return True


def end_purge(
    engine: sa.Engine, table: sa.Table, study_uid: str, remove: Callable[[list[str]], None]
) -> int:
    """Remove the files that are marked, by ``remove``, under the lock of the study; how many.

    An instance that is sent again meanwhile is either kept, or finds its file gone and says so.
    """
    mine = (table.c.study_uid == study_uid, table.c.state == PURGING)
    with engine.begin() as connection:
        connection.execute(
            studies.update().where(studies.c.study_uid == study_uid).values(study_uid=study_uid)
        )
        paths = list(connection.scalars(sa.select(table.c.path).where(*mine)))
        remove(paths)
        connection.execute(table.update().where(*mine).values(state=PURGED))
    return len(paths)


def purges_cut_off(engine: sa.Engine, table: sa.Table) -> list[str]:
    """Studies whose files were being removed when it was cut off."""
    with engine.connect() as connection:
        query = sa.select(table.c.study_uid).where(table.c.state == PURGING).distinct()
        return list(connection.scalars(query.order_by(table.c.study_uid)))


def files_not_kept(engine: sa.Engine, study_uid: str, generation: int) -> str:
    """How many files of a generation are not there, and what became of them, in words; "" = all are."""
    found = []
    conditions = {
        instances: instances.c.generation <= generation,
        results: results.c.generation == generation,
    }
    with engine.connect() as connection:
        for table, of_generation in conditions.items():
            query = (
                sa.select(table.c.state, sa.func.count())
                .where(table.c.study_uid == study_uid, of_generation, table.c.state != KEPT)
                .group_by(table.c.state)
            )
            for state, count in connection.execute(query):
                found.append(f"{count} {table.name} {state}")
    return "; ".join(found)


def outcome_of(engine: sa.Engine, study_uid: str, generation: int) -> tuple[str, str]:
    """What became of a generation whose job rows are gone, and the reason; "" while they are there."""
    mine = (generations.c.study_uid == study_uid, generations.c.generation == generation)
    with engine.connect() as connection:
        query = sa.select(generations.c.outcome, generations.c.reason).where(*mine)
        row = connection.execute(query).one_or_none()
    return (row.outcome, row.reason) if row else ("", "")


def record_outcome(
    engine: sa.Engine, study_uid: str, generation: int, outcome: str, reason: str
) -> None:
    """Remember what became of a closed generation."""
    mine = (generations.c.study_uid == study_uid, generations.c.generation == generation)
    with engine.begin() as connection:
        connection.execute(generations.update().where(*mine).values(outcome=outcome, reason=reason))


def forget_requests(engine: sa.Engine, study_uid: str) -> None:
    """Requests for storage commitment that concern a study which is at its end."""
    mine = commitment_requests.c.study_uid == study_uid
    with engine.begin() as connection:
        connection.execute(commitment_requests.delete().where(mine))


def make_due(engine: sa.Engine, sop_uid: str, destinations: Iterable[str]) -> None:
    """An object is due at destinations, unless that is known."""
    with engine.begin() as connection:
        for name in destinations:
            connection.execute(
                insert(connection, deliveries)
                .values(sop_uid=sop_uid, destination=name, status="pending", reason="", attempts=0)
                .on_conflict_do_nothing()
            )
