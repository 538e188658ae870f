"""Group commit: those who wait share one transaction, and one that cannot be kept fails alone."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node import index
from dicom_node.migrations import migrate
from dicom_node.receive.recorder import Recorder

ARRIVAL = index.Arrival(
    "1.2.3", "1.2.4", "1.2.5", "1.2.6", "1.2.840.10008.1.2.1", "0" * 64, 1, "x", "AE", "127.0.0.1"
)


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    migrate(url)
    return index.open_engine(url)


def together(
    engine: sa.Engine, recorder: Recorder, *arrivals: index.Arrival
) -> list[Callable[[], index.Kept]]:
    """Record all at once: all wait while the turn is another's."""
    carrier, rules = index.Carrier("an association", "receive", 5), index.Rules(600.0, 3.0)
    with ThreadPoolExecutor(len(arrivals)) as pool, recorder._turn:
        futures = [pool.submit(recorder.accept, each, carrier, rules) for each in arrivals]
        while len(recorder._waiting) < len(arrivals):
            threading.Event().wait(0.01)
    return [future.result for future in futures]


def test_those_who_wait_share_a_commit(engine: sa.Engine) -> None:
    commits: list[sa.Connection] = []
    client = index.open_client(engine)
    sa.event.listen(engine, "commit", commits.append)
    recorder = Recorder(engine, client)
    others = [replace(ARRIVAL, sop_uid=f"1.2.3.{n}", study_uid=f"1.2.5.{n % 2}") for n in range(5)]
    heard = together(engine, recorder, *others, others[0])
    assert len(commits) == 1
    assert sorted(each().is_new for each in heard) == [False, *[True] * 5]
    bad = replace(ARRIVAL, path=None)  # type: ignore[arg-type]
    good = [replace(ARRIVAL, sop_uid=f"1.2.4.{n}") for n in range(3)]
    *kept, failed = together(engine, recorder, *good, bad)
    assert all(each().is_new for each in kept)
    with pytest.raises(sa.exc.IntegrityError):
        failed()
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(index.instances)) == 8
    client.destroy()


def test_a_study_is_boarded_and_enqueued_once_per_association_and_generation(
    engine: sa.Engine,
) -> None:
    statements: list[str] = []

    def listen(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    sa.event.listen(engine, "before_cursor_execute", listen)
    client = index.open_client(engine)
    recorder, rules = Recorder(engine, client), index.Rules(600.0, 3.0)
    carrier, other = (index.Carrier(name, "receive", 5) for name in ("one", "another"))

    def wrote(number: int, carrier: index.Carrier) -> bool:
        statements.clear()
        arrival = replace(ARRIVAL, sop_uid=f"1.2.3.{number}")
        assert recorder.accept(arrival, carrier, rules).is_new
        boarded = any("INSERT INTO associations" in each for each in statements)
        assert boarded == any("workflow_status" in each for each in statements)
        return boarded

    with pytest.raises(sa.exc.IntegrityError):  # what was not committed is not remembered
        recorder.accept(replace(ARRIVAL, path=None), carrier, rules)  # type: ignore[arg-type]
    assert [wrote(1, carrier), wrote(2, carrier)] == [True, False]
    assert [wrote(3, other), wrote(4, other), wrote(5, carrier)] == [True, False, False]
    assert index.close_now(engine, ARRIVAL.study_uid) == 0
    assert [wrote(6, carrier), wrote(7, carrier)] == [True, False]
    names = {item.workflow_id for item in client.list_workflows()}
    assert names == {index.workflow_id(ARRIVAL.study_uid, n, "assemble", "0") for n in (0, 1)}
    client.destroy()
