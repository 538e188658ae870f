"""Many studies: asked for in pages, each is found, once, and none for another whose UID begins alike."""

from itertools import chain
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node import index, jobs
from dicom_node.errors import NodeError
from dicom_node.keep import retention
from dicom_node.keep.purge import plan
from dicom_node.settings import Keep, Node, Settings
from tests.bench_status import fill
from tests.conftest import Postgres

STUDIES = 130
"""1.2...498.1 among them, and those whose UIDs go on after it: .10, .100."""

ROOT = "1.2.826.0.1.3680043.8.498."


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A node's database with many studies; that of Postgres orders names as English does."""
    folder: Path = tmp_path_factory.mktemp("node")
    url = f"sqlite:///{folder}/node.db"
    if request.param == "postgres":
        url = in_english(request.getfixturevalue("postgres_for_all"))
    fill(url, STUDIES)
    keep = Keep(sources_days=0.0001, jobs_days=0.0001, work_days=0.0)
    return Settings(node=Node(data_dir=folder, database=url), keep=keep)


def in_english(server: Postgres) -> str:
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            sa.text(
                "create database english template template0 encoding 'UTF8'"
                " locale_provider icu icu_locale 'en' locale 'C.UTF-8'"
            )
        )
    engine.dispose()
    return server.url.rpartition("/")[0] + "/english"


def test_the_newest_are_listed_each_with_its_own_stages(settings: Settings) -> None:
    found = jobs.list_jobs(settings)
    assert [job.study for job in found] == [f"{ROOT}{n}" for n in reversed(range(STUDIES))]
    wanted = {True: "failed to analyze", False: "delivered"}
    for number, job in zip(reversed(range(STUDIES)), found, strict=True):
        if number % 20 and number % 50 != 3:
            assert job.state == wanted[number % 200 == 1], job
    with jobs.Memory(settings) as memory:
        for number in (1, 10, 100):
            runs = memory.runs([f"{ROOT}{number}"])
            assert list(runs) == [(f"{ROOT}{number}", 0)]
    with pytest.raises(NodeError, match="never received"):
        jobs.show_job(settings, f"{ROOT}4711")


def test_each_study_goes_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that end within a study, and between studies."""
    monkeypatch.setattr("dicom_node.index.runs.RUNS_AT_ONCE", 7)
    monkeypatch.setattr(retention, "PAGE_STUDIES", 7)
    engine = index.open_engine(settings.node.database_url)
    ended = list(chain(*index.ended_before(engine, 1e11)))
    engine.dispose()
    assert sorted(ended) == sorted(f"{ROOT}{n}" for n in range(STUDIES))
    orders = list(plan(settings))
    for what in (retention.SOURCES, retention.JOBS):
        gone = [each.study.study_uid for each in orders if each.what == what]
        assert len(gone) == len(set(gone))
    sources = [each.study.last_at for each in orders if each.what == retention.SOURCES]
    assert sources == sorted(sources)
    assert len(sources) == STUDIES
    held = {each.study.study_uid for each in orders if each.held}
    assert f"{ROOT}1" in held, "it has failed"
    assert f"{ROOT}20" in held, "it waits"
    assert f"{ROOT}2" not in held
