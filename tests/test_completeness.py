"""The rule of completeness, fact by fact; and what two generations may deliver."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node import index
from dicom_node.migrations import migrate
from dicom_node.settings import Node, Settings

NOW = 10_000.0
RULES = index.Rules(quiet_seconds=60.0, release_seconds=3.0)
FACTS = index.Facts(
    received=4,
    received_before=0,
    series=1,
    named=0,
    missing=0,
    unnamed=4,
    named_here=0,
    named_by="",
    last_named_at=0.0,
    steps_in_progress=False,
    carried=False,
    released=False,
    last_at=NOW,
    expected_instances=0,
    expected_series=0,
)
NAMED = {"named": 4, "named_here": 4, "unnamed": 0, "named_by": "storage commitment"}
STEP = NAMED | {"named_by": "procedure step"}


@pytest.mark.parametrize(
    ("facts", "wait_seconds", "evidence"),
    [
        ({}, 60.0, "quiet time"),
        ({"last_at": NOW - 60}, 0.0, "quiet time"),
        ({"carried": True, "last_at": NOW - 600}, 60.0, ""),
        ({"released": True}, 3.0, "release"),
        ({"released": True, "last_at": NOW - 3}, 0.0, "release"),
        ({"released": True, "carried": True, "last_at": NOW - 3}, 60.0, ""),
        ({"expected_instances": 4}, 0.0, "expected objects: 4 instances"),
        ({"expected_instances": 4, "expected_series": 2, "carried": True}, 60.0, ""),
        # Late data: what is expected was here before.
        ({"expected_instances": 4, "received_before": 4, "received": 5}, 60.0, "quiet time"),
        ({"expected_series": 1, "released": True}, 3.0, "release"),
        (
            {"expected_series": 2, "released": True, "last_at": NOW - 60},
            0.0,
            "quiet time; 1 of 2 expected series came",
        ),
        (
            {"expected_instances": 5, "released": True},
            60.0,
            "quiet time; 4 of 5 expected instances came",
        ),
        (NAMED | {"carried": True}, 3.0, "storage commitment: 4 instances"),
        (
            NAMED | {"carried": True, "last_at": NOW - 9, "last_named_at": NOW - 2},
            1.0,
            "storage commitment: 4 instances",
        ),
        (NAMED | {"unnamed": 1, "carried": True}, 60.0, ""),
        (STEP | {"unnamed": 1, "carried": True}, 3.0, "procedure step: 4 instances"),
        (STEP | {"named_here": 0, "carried": True}, 60.0, ""),
        (STEP | {"steps_in_progress": True, "last_at": NOW - 3599}, 60.0, ""),
        (STEP | {"steps_in_progress": True, "last_at": NOW - 3600}, 0.0, "quiet time"),
        (
            NAMED | {"missing": 1, "released": True, "last_at": NOW - 60},
            0.0,
            "quiet time; 1 of 4 announced instances never came",
        ),
    ],
)
def test_the_strongest_evidence_decides(
    facts: dict[str, object], wait_seconds: float, evidence: str
) -> None:
    assert index.judge(replace(FACTS, **facts), RULES, NOW) == (wait_seconds, evidence)


def test_a_release_never_waits_longer_than_quiet_time() -> None:
    rules = replace(RULES, quiet_seconds=1.0)
    assert index.judge(replace(FACTS, released=True), rules, NOW) == (1.0, "release")


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    """A node's database with one study."""
    settings = Settings(node=Node(data_dir=tmp_path))
    migrate(settings.node.database_url)
    engine = index.open_engine(settings.node.database_url)
    client = index.open_client(engine)
    arrival = index.Arrival(
        "1.2.4", "1.2.5", "1.2.3", "", "1.2.6", "0" * 64, 1, "store/x", "US", "h"
    )
    index.accept(engine, client, arrival, index.Carrier("one", "receive", 5), RULES)
    client.destroy()
    return engine


def result(generation: int, sop_uid: str) -> index.Result:
    return index.Result(
        sop_uid,
        "1.2.3",
        generation,
        "layer",
        0,
        "map",
        "1.2.8",
        "0" * 64,
        f"{generation}/{sop_uid}",
    )


def due(engine: sa.Engine, generation: int) -> list[str]:
    return [row.sop_uid for row in index.results_due(engine, "1.2.3", generation, "pacs")]


def test_an_undelivered_generation_is_superseded(engine: sa.Engine) -> None:
    first = [result(0, "1.1"), result(0, "1.2"), result(0, "1.3")]
    assert index.record_results(engine, first, ["pacs"]) == ()
    index.record_delivery(engine, "1.1", "pacs", "delivered")
    assert due(engine, 0) == ["1.2", "1.3"]
    # The later generation gives one of them again, and a new one.
    second = [result(1, "1.2"), result(1, "2.1")]
    assert index.record_results(engine, second, ["pacs"]) == ("1.3",)
    assert due(engine, 0) == ["1.2"]  # the same object, whoever sends it
    assert due(engine, 1) == ["1.2", "2.1"]
    index.record_delivery(engine, "1.3", "pacs", "waiting", "an attempt that had begun before")
    assert due(engine, 0) == ["1.2"]
    earlier = index.earlier_results(engine, "1.2.3", 2)
    assert [(each.generation, each.sop_uid, each.acknowledged) for each in earlier] == [
        (1, "1.2", ()),
        (1, "2.1", ()),
        (0, "1.1", ("pacs",)),
        (0, "1.2", ()),
    ]
    assert index.earlier_results(engine, "1.2.3", 0) == ()


def test_an_older_generation_that_is_late_delivers_nothing(engine: sa.Engine) -> None:
    index.record_results(engine, [result(1, "2.1")], ["pacs"])
    assert index.record_results(engine, [result(0, "1.1")], ["pacs"]) == ("1.1",)
    assert (due(engine, 0), due(engine, 1)) == ([], ["2.1"])
    # Made again in the newest generation, it is due again.
    index.record_results(engine, [result(2, "1.1")], ["pacs"])
    assert (due(engine, 1), due(engine, 2)) == ([], ["1.1"])


def test_a_replayed_report_changes_nothing(engine: sa.Engine) -> None:
    for _ in range(2):
        assert index.record_results(engine, [result(0, "1.1")], ["pacs"]) == ()
        index.record_delivery(engine, "1.1", "pacs", "delivered")
    assert due(engine, 0) == []
