"""After the clock was set: what waits is counted from now on, and nothing waits for a time far ahead."""

import time
from collections.abc import Mapping

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node.index.tables import announcements, associations, studies


def count_anew(engine: sa.Engine) -> None:
    """Every open study has shown its last sign of life just now, and so has whatever carries one.

    Done more often, or by several machines, it only lets them wait a little longer.
    """
    now = time.time()
    open_ones = sa.select(studies.c.study_uid).where(~studies.c.closed)
    with engine.begin() as connection:
        connection.execute(studies.update().where(~studies.c.closed).values(last_at=now))
        named = announcements.c.study_uid.in_(open_ones)
        connection.execute(announcements.update().where(named).values(announced_at=now))
        connection.execute(associations.update().values(seen_at=now))


def hasten_far_ones(client: DBOSClient, longest_seconds: Mapping[str, float]) -> int:
    """Let stages look now that are due later than their word's longest pause from now; how many.

    They were given their pause before the clock was set back.
    """
    found = client.list_workflows(
        status="DELAYED", name=list(longest_seconds), load_input=False, load_output=False
    )
    now, count = time.time(), 0
    for item in found:
        if (item.delay_until_epoch_ms or 0) / 1000 > now + longest_seconds[item.name] + 1.0:
            client.set_workflow_delay(item.workflow_id, delay_seconds=0.0)
            count += 1
    return count
