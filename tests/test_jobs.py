"""jobs, on a database as processes that were cut off leave it."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node import index, jobs
from dicom_node.migrations import migrate
from dicom_node.settings import Node, Settings

STUDY = "1.2.3"


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        ({"assemble:": "SUCCESS", "analyze:": "PENDING"}, "assembled"),
        ({"assemble:": "SUCCESS", "analyze:": "SUCCESS", "report:": "SUCCESS"}, "reported"),
        # Killed between the first destination and the second: that one is not even enqueued.
        ({"report:": "PENDING", "deliver:0:first": "SUCCESS"}, "reported"),
        ({"report:": "SUCCESS", "deliver:0:first": "SUCCESS"}, "delivered"),
        ({"deliver:0:first": "SUCCESS", "deliver:0:second": "DELAYED"}, "reported"),
    ],
)
def test_a_state_is_not_said_before_it_is_true(
    statuses: dict[str, str], state: str, tmp_path: Path
) -> None:
    settings = Settings(node=Node(data_dir=tmp_path))
    migrate(settings.node.database_url)
    engine = index.open_engine(settings.node.database_url)
    client = index.open_client(engine)
    arrival = index.Arrival(
        "1.2.4", "1.2.5", STUDY, "", "1.2.6", "0" * 64, 1, "store/x", "US", "host"
    )
    index.accept(engine, client, arrival, index.Carrier("one", "receive", 5), index.Rules(0, 0))
    result = index.Result("1.2.7", STUDY, 0, "layer", 0, "map", "1.2.8", "0" * 64, "results/x")
    index.record_results(engine, [result], ["first"])
    with engine.begin() as connection:
        connection.execute(sa.text("delete from workflow_status"))
    for name in statuses:
        options = {"workflow_name": name, "queue_name": "cpu", "workflow_id": f"{STUDY}:0:{name}"}
        client.enqueue(options)
    with engine.begin() as connection:
        for name, status in statuses.items():
            connection.execute(
                sa.text("update workflow_status set status = :status where name = :name"),
                {"status": status, "name": name},
            )
    (job,) = jobs.list_jobs(settings)
    client.destroy()
    engine.dispose()
    assert job.state == state
