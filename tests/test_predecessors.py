"""Which earlier report a report names, where archives have got different ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import Dataset, dcmread

from dicom_node import index
from dicom_node.migrations import migrate
from dicom_node.pipeline.steps import Steps
from dicom_node.settings import Destination, Node, Settings
from tests.test_late import identity, predecessors

STUDY = "1.2.3"
NAMES = ("first", "second")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(node=Node(data_dir=tmp_path), destinations=tuple(map(Destination, NAMES)))


@pytest.fixture
def engine(settings: Settings) -> Iterator[sa.Engine]:
    """A study of one instance, whose file is gone."""
    migrate(settings.node.database_url)
    engine = index.open_engine(settings.node.database_url)
    client = index.open_client(engine)
    arrival = index.Arrival(
        "1.2.4", "1.2.5", STUDY, "", "1.2.6", "0" * 64, 1, "store/x", "US", "host"
    )
    index.accept(engine, client, arrival, index.Carrier("one", "receive", 5), index.Rules(0, 0))
    yield engine
    client.destroy()
    engine.dispose()


def test_each_archive_is_told_of_what_it_has(settings: Settings, engine: sa.Engine) -> None:
    """The second archive is down during the first generation, and both get the others."""
    steps = Steps(settings, engine, ())

    def answer(generation: int, *up: str) -> dict[str, Dataset]:
        """The report that is due at each archive, which those that are up acknowledge."""
        sentence = f"for the reason of generation {generation}"
        made = steps.answer(STUDY, generation, [["incomplete", sentence]])
        assert sorted(made["due"]) == sorted(NAMES)
        due = {}
        for name in NAMES:
            (row,) = index.results_due(engine, STUDY, generation, name)
            due[name] = dcmread(settings.node.data_dir / row.path)
            assert due[name].SOPInstanceUID == row.sop_uid
        for name in up:
            index.record_delivery(engine, str(due[name].SOPInstanceUID), name, "delivered")
        return due

    oldest, old, new = answer(0, "first"), answer(1, *NAMES), answer(2, *NAMES)
    assert predecessors(old["first"]) == [identity(oldest["first"])]
    assert predecessors(old["second"]) == []
    for name in NAMES:
        assert predecessors(new[name]) == [identity(old[name])]
    made = [*oldest.values(), *old.values(), *new.values()]
    assert len({report.SOPInstanceUID for report in made}) == 5


def test_a_stage_that_runs_again_writes_the_same_bytes(
    settings: Settings, engine: sa.Engine
) -> None:
    steps = Steps(settings, engine, ())
    closed_at = 1_800_000_000.25
    with engine.begin() as connection:
        row = {"study_uid": STUDY, "generation": 0, "evidence": "", "closed_at": closed_at}
        connection.execute(index.generations.insert().values(row))
    written = []
    for _ in range(2):
        steps.answer(STUDY, 0, [["incomplete", "twice"]])
        (row,) = index.results_due(engine, STUDY, 0, "first")
        written.append((settings.node.data_dir / row.path).read_bytes())
    assert written[0] == written[1]
    assert index.moments_of(engine, STUDY, 0) == (closed_at, {})
    assert index.moments_of(engine, STUDY, 1) == (None, {row.sop_uid: closed_at})
