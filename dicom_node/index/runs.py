"""The runs of studies' stages, by the beginning of their names.

DBOS's own search by a beginning compares every name that there is; here it is a range of an index.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient, WorkflowStatus

AT_ONCE, RUNS_AT_ONCE = 100, 500
"""Studies, or runs, in one query: databases bound its depth and the number of its parameters."""

COLUMNS = ("workflow_uuid", "status", "delay_until_epoch_ms", "completed_at")
INDEX = (
    "CREATE INDEX IF NOT EXISTS dicom_node_workflow_names"
    ' ON dbos.workflow_status (workflow_uuid COLLATE "C")'
)
"""On Postgres the order of names is that of a language, in which no beginning is a range."""


def runs_of(
    engine: sa.Engine, client: DBOSClient, beginnings: Sequence[str]
) -> list[WorkflowStatus]:
    """The runs whose names begin with one of these, each of which ends with a colon."""
    known: set[str] = set()
    found: list[WorkflowStatus] = []
    # Until there is no new one: a stage that ends between two questions has enqueued the next.
    while names := [
        each.workflow_uuid for each in _rows(engine, beginnings) if each[0] not in known
    ]:
        known.update(names)
        for start in range(0, len(names), RUNS_AT_ONCE):
            page = names[start : start + RUNS_AT_ONCE]
            found += client.list_workflows(workflow_ids=page, load_input=False)
    return sorted(found, key=lambda run: run.created_at or 0)


def going_on(engine: sa.Engine, beginning: str, statuses: Sequence[str]) -> list[sa.Row[Any]]:
    """The runs in one of these states whose names begin so: workflow_uuid, status, delay_until_epoch_ms."""
    return [each for each in _rows(engine, [beginning]) if each.status in statuses]


def ended_before(engine: sa.Engine, at: float) -> Iterator[list[str]]:
    """Studies of which a run has ended before a time, page by page: each with the last such run."""
    table, limit = _table(engine), int(1000 * at)
    when, name = table.c.completed_at, table.c.workflow_uuid
    last: tuple[int, str] = (0, "")
    while True:
        is_seen = sa.and_(when == last[0], name <= last[1])
        query = sa.select(when, name).where(when < limit, when >= last[0], sa.not_(is_seen))
        with engine.connect() as connection:
            page = connection.execute(query.order_by(when, name).limit(RUNS_AT_ONCE)).all()
        if not page:
            return
        last = (page[-1].completed_at, page[-1].workflow_uuid)
        studies = {each.workflow_uuid.partition(":")[0] for each in page}
        newest: dict[str, tuple[int, str]] = {}
        for each in _rows(engine, [f"{study}:" for study in studies]):
            if each.completed_at is not None and each.completed_at < limit:
                study = each.workflow_uuid.partition(":")[0]
                ended = (each.completed_at, each.workflow_uuid)
                newest[study] = max(newest.get(study, ended), ended)
        mine = set(map(tuple, page))
        yield sorted(study for study, ended in newest.items() if ended in mine)


def _table(engine: sa.Engine) -> Any:
    schema = "dbos" if engine.dialect.name == "postgresql" else None
    return sa.table("workflow_status", *map(sa.column, COLUMNS), schema=schema)


def _rows(engine: sa.Engine, beginnings: Sequence[str]) -> list[sa.Row[Any]]:
    table = _table(engine)
    name = table.c.workflow_uuid
    ordered = sa.collate(name, "C") if engine.dialect.name == "postgresql" else name
    rows: list[sa.Row[Any]] = []
    for start in range(0, len(beginnings), AT_ONCE):
        ranges = [
            sa.and_(ordered >= each, ordered < f"{each[:-1]};")  # what follows the colon in ASCII
            for each in beginnings[start : start + AT_ONCE]
        ]
        with engine.connect() as connection:
            rows += connection.execute(sa.select(table).where(sa.or_(*ranges))).all()
    return rows
