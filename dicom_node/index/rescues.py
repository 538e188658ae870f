"""Work that stops without an error: taken over from a machine that was lost, or begun and not going on."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node.index.arrivals import QUEUES, VERSION
from dicom_node.index.database import insert
from dicom_node.index.tables import rescues

WAITING = ["ENQUEUED", "DELAYED", "PENDING"]


@dataclass(frozen=True, slots=True)
class Stalled:
    """A stage that began and shows no progress: which, at whom, for how long."""

    workflow_id: str
    executor: str
    seconds: float


def count_rescues(engine: sa.Engine, workflow_ids: Iterable[str]) -> None:
    """Remember that these stages were taken over once more; DBOS itself forgets it."""
    with engine.begin() as connection:
        for name in workflow_ids:
            connection.execute(
                insert(connection, rescues)
                .values(workflow_id=name, count=1, rescued_at=time.time())
                .on_conflict_do_update(
                    index_elements=["workflow_id"],
                    set_={"count": rescues.c.count + 1, "rescued_at": time.time()},
                )
            )


def rescues_of(engine: sa.Engine, workflow_id: str) -> int:
    """How often a stage was taken over from a machine that was lost."""
    query = sa.select(rescues.c.count).where(rescues.c.workflow_id == workflow_id)
    with engine.connect() as connection:
        return connection.scalar(query) or 0


def stalled(client: DBOSClient, limits: Mapping[str, float]) -> tuple[Stalled, ...]:
    """Stages that have begun and recorded nothing for longer than their word's limit, in seconds.

    Their owner hangs, waits for a database, or took them without knowing it; the last one goes on when the
    owner is started again.
    """
    found = []
    now = time.time()
    began = client.list_workflows(
        status="PENDING", name=list(limits), load_input=False, load_output=False
    )
    for status in began:
        steps = client.list_workflow_steps(status.workflow_id, load_output=False)
        last = max((step["completed_at_epoch_ms"] or 0 for step in steps), default=0)
        seconds = now - max(last, status.updated_at or 0) / 1000
        if seconds > limits[status.name]:
            found.append(Stalled(status.workflow_id, status.executor_id or "", seconds))
    return tuple(found)


def of_other_versions(client: DBOSClient) -> dict[str, int]:
    """How much work waits for a worker of another version of the pipeline, by version."""
    versions = {each["version_name"] for each in client.list_application_versions()} - {VERSION}
    counts: dict[str, int] = {}
    for version in sorted(versions):
        waiting = client.list_workflows(
            status=WAITING,
            name=list(QUEUES),
            app_version=version,
            load_input=False,
            load_output=False,
        )
        if waiting:
            counts[version] = len(waiting)
    return counts
