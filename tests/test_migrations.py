"""The database of an older version becomes that of this one, with all that it holds."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

import dicom_node.migrations
from dicom_node import index
from dicom_node.migrations import migrate
from dicom_node.settings import Node
from tests.conftest import Postgres

OLD_ROWS = (
    "insert into studies values ('1.2.3', 0, true, 5.0, 5, 'US')",
    "insert into instances values "
    "('1.2.4', '1.2.3', 0, '1.2.5', '1.2.6', 'f00', 7, 'store/f00.dcm', 'US', 'host', 5.0)",
    "insert into results values ('1.2.7', '1.2.3', 0, 'layer', 0, 'map', '1.2.8', 'aa', 'x', 6.0)",
    "insert into deliveries values ('1.2.7', 'pacs', 'waiting', 'away', 3, 7.0, null)",
)


def make_first_version(url: str) -> None:
    """The tables of version 0001, with a study that waits for its archive."""
    config = Config()
    config.set_main_option("script_location", str(Path(dicom_node.migrations.__file__).parent))
    engine = index.open_engine(url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in OLD_ROWS:
            connection.execute(sa.text(statement))
        connection.commit()
    engine.dispose()


def check_this_version(url: str) -> None:
    engine = index.open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_object": lambda _o, name, kind, *_: kind != "table" or name in known},
        )
        known = index.METADATA.tables
        assert compare_metadata(context, index.METADATA) == []
        (study,) = connection.execute(sa.select(index.studies)).all()
        assert (study.released, study.expected_instances, study.closed) == (False, 0, True)
    (due,) = index.results_due(engine, "1.2.3", 0, "pacs")
    assert due.sop_uid == "1.2.7"
    # Two generations may share a result, and an object is delivered once.
    shared = index.Result("1.2.7", "1.2.3", 1, "layer", 0, "map", "1.2.8", "aa", "y")
    assert index.record_results(engine, [shared], ["pacs"]) == ()
    assert [row.path for row in index.results_due(engine, "1.2.3", 1, "pacs")] == ["y"]
    index.record_delivery(engine, "1.2.7", "pacs", "delivered")
    assert index.results_due(engine, "1.2.3", 0, "pacs") == []
    engine.dispose()


def test_a_first_version_on_sqlite(tmp_path: Path) -> None:
    url = Node(data_dir=tmp_path).database_url
    make_first_version(url)
    migrate(url)
    check_this_version(url)


@pytest.mark.peer
def test_a_first_version_on_postgres(postgres: Postgres) -> None:
    make_first_version(postgres.url)
    migrate(postgres.url)
    check_this_version(postgres.url)
    accept_and_close(postgres.url)


def accept_and_close(url: str) -> None:
    """The rule of completeness asks the database the same on Postgres."""
    engine = index.open_engine(url)
    client = index.open_client(engine)
    rules = index.Rules(60.0, 0.0, instances=2)
    for number in (1, 2):
        arrival = index.Arrival(
            f"2.{number}", "1.2.5", "2.2", "2.9", "1.2.6", "0" * 64, 1, f"store/{number}", "US", "h"
        )
        carrier = index.Carrier("one", "receive", 5)
        assert index.accept(engine, client, arrival, carrier, rules).is_new
        assert not index.accept(engine, client, arrival, carrier, rules).is_new
    named = [index.Reference("1.2.5", uid) for uid in ("2.1", "2.2", "2.3")]
    for _ in range(2):
        assert index.ask_commitment(engine, "3.1", "US", named, 0.0) == ("2.2",)
    (asked,) = index.commitments_due(engine, 60.0, ["3.1"], 60.0)
    assert index.commitments_due(engine, 60.0, [], 60.0) == ()  # left to who heard it
    claims = [index.claim_commitment(engine, asked, 30.0) for _ in range(2)]
    assert claims == [True, False]  # one of several answers
    index.record_commitment(engine, asked.transaction_uid, "told", None)
    assert index.commitments_due(engine, 60.0, ["3.1"], 60.0) == ()
    assert index.create_step(engine, "4.1", ["2.2"])
    assert not index.create_step(engine, "4.1", ["2.2"])
    index.change_step(engine, "4.1", index.COMPLETED, ["2.1"])
    assert index.step_status(engine, "4.1") == (index.COMPLETED, ("2.2",))
    assert index.wake(engine, client, "2.2", rules)
    assert index.release(engine, "one", released=True) == ("2.2",)
    made = index.close_if_complete(engine, "2.2", 0, rules)
    assert (made.wait_seconds, made.evidence) == (0.0, "expected objects: 2 instances")
    client.destroy()
    engine.dispose()


def test_the_same_questions_on_sqlite(tmp_path: Path) -> None:
    url = Node(data_dir=tmp_path).database_url
    migrate(url)
    accept_and_close(url)
