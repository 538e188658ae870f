"""When a study is complete: each kind of evidence closes it, and what is announced or expected is waited for.

Quiet time is ten minutes here, so that nothing but evidence can close a study.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node import jobs
from tests.conftest import RunningNode, make_study, start_node, study_uid_of, wait_for
from tests.dicom_scanner import (
    Scanner,
    ask_commitment,
    begin_step,
    end_step,
    sop_uids,
    store,
)

EXPECT = """
[[sources]]
match = { ae_title = "COUNTED" }
expect = { instances = 4 }
[[sources]]
match = { ae_title = "SERIES", manufacturer = "" }
expect = { series = 2 }
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """Reception and assembly; what assembly waits for is what is tested."""
    with start_node(
        tmp_path_factory.mktemp("node"),
        roles=("receive", "work"),
        quiet_seconds=600.0,
        receive="release_seconds = 0.5",
        more=EXPECT,
    ) as running:
        yield running


@pytest.fixture
def paths(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, ...]:
    """A study of four instances, another one for each test."""
    return make_study(tmp_path / "sent", seed=sum(map(ord, request.node.name)))


def closed(node: RunningNode, paths: tuple[Path, ...]) -> list[tuple]:
    """For each closed generation what closed it, and how many instances it has."""
    return node.rows(
        "select evidence, (select count(*) from instances where instances.study_uid = "
        "generations.study_uid and instances.generation <= generations.generation) "
        f"from generations where study_uid = '{study_uid_of(paths[0])}' order by generation"
    )


def wait_closed(node: RunningNode, paths: tuple[Path, ...], generations: int = 1) -> list[tuple]:
    wait_for(lambda: len(closed(node, paths)) == generations, "the end of the waiting")
    return closed(node, paths)


def another_closes(node: RunningNode, folder: Path) -> None:
    """A study that is released now closes, and so would have any other one that could."""
    other = make_study(folder / "other", seed=sum(map(ord, folder.name)))
    node.send(*other)
    assert wait_closed(node, other) == [("release", 4)]


def test_a_release_closes_soon(node: RunningNode, paths: tuple[Path, ...]) -> None:
    for path in paths:
        node.send(path)  # one association per image
    assert wait_closed(node, paths) == [("release", 4)]
    study_uid = study_uid_of(paths[0])
    ((seconds,),) = node.rows(
        "select closed_at - last_at from generations join studies using (study_uid) "
        f"where study_uid = '{study_uid}'"
    )
    assert 0.5 <= seconds < 5.0
    (job,) = jobs.show_job(node.settings, study_uid)
    assert job.evidence == "release"


def test_what_is_cut_off_is_not_released(
    node: RunningNode, paths: tuple[Path, ...], tmp_path: Path
) -> None:
    association = Scanner().associate(node)
    store(association, *paths[:3])
    association.abort()
    another_closes(node, tmp_path)
    assert closed(node, paths) == []
    node.send(*paths)  # the scanner tries again, from the beginning
    assert wait_closed(node, paths) == [("release", 4)]


def test_expected_instances_close_at_once(node: RunningNode, paths: tuple[Path, ...]) -> None:
    association = Scanner("COUNTED").associate(node)
    store(association, *paths)
    assert wait_closed(node, paths) == [("expected objects: 4 instances", 4)]
    assert association.is_established
    association.release()


@pytest.mark.parametrize("title", ["COUNTED", "SERIES"])
def test_what_is_expected_and_not_here_outweighs_a_release(
    node: RunningNode, paths: tuple[Path, ...], tmp_path: Path, title: str
) -> None:
    node.send(*paths[:3], calling_ae=title)
    another_closes(node, tmp_path)
    assert closed(node, paths) == []
    if title == "COUNTED":
        node.send(paths[3], calling_ae=title)
        assert wait_closed(node, paths) == [("expected objects: 4 instances", 4)]


def test_a_request_for_commitment_closes_an_open_association(
    node: RunningNode, paths: tuple[Path, ...]
) -> None:
    scanner = Scanner()
    association = scanner.associate(node)
    store(association, *paths)
    assert ask_commitment(association, sop_uids(paths)) == 0x0000
    assert scanner.report() == (1, sop_uids(paths), {})
    assert wait_closed(node, paths) == [("storage commitment: 4 instances", 4)]
    assert association.is_established
    association.release()


def test_a_request_about_some_images_is_not_about_the_study(
    node: RunningNode, paths: tuple[Path, ...], tmp_path: Path
) -> None:
    scanner = Scanner()
    association = scanner.associate(node)
    store(association, *paths[:3])
    assert ask_commitment(association, sop_uids(paths[:2])) == 0x0000
    another_closes(node, tmp_path)
    assert closed(node, paths) == []
    store(association, paths[3])
    association.release()
    assert wait_closed(node, paths) == [("release", 4)]


def test_an_announced_instance_is_waited_for(
    node: RunningNode, paths: tuple[Path, ...], tmp_path: Path
) -> None:
    scanner = Scanner()
    association = scanner.associate(node)
    store(association, *paths[:3])
    assert ask_commitment(association, sop_uids(paths)) == 0x0000
    association.release()
    another_closes(node, tmp_path)
    assert closed(node, paths) == []
    node.send(paths[3])
    assert wait_closed(node, paths) == [("storage commitment: 4 instances", 4)]


def test_a_procedure_step_holds_its_study_open_and_closes_it(
    node: RunningNode, paths: tuple[Path, ...], tmp_path: Path
) -> None:
    step_uid, study_uid = generate_uid(), study_uid_of(paths[0])
    console = Scanner("CONSOLE").associate(node)
    assert begin_step(console, step_uid, study_uid, "COMPLETED") == 0x0106
    assert begin_step(console, step_uid, study_uid) == 0x0000
    assert begin_step(console, step_uid, study_uid) == 0x0111
    assert end_step(console, generate_uid(), []) == 0x0112
    association = Scanner().associate(node)
    store(association, *paths)  # and the association stays open
    another_closes(node, tmp_path)
    assert closed(node, paths) == []
    assert end_step(console, step_uid, sop_uids(paths)) == 0x0000
    assert wait_closed(node, paths) == [("procedure step: 4 instances", 4)]
    assert end_step(console, step_uid, sop_uids(paths)) == 0x0110
    console.release()
    association.release()


def test_late_data_need_evidence_of_their_own(
    node: RunningNode, paths: tuple[Path, ...], tmp_path: Path
) -> None:
    association = Scanner("COUNTED").associate(node)
    store(association, *paths)
    assert ask_commitment(association, sop_uids(paths)) == 0x0000
    wait_closed(node, paths)
    late = make_study(tmp_path / "late", seed=sum(map(ord, "late")), slices=1)
    renamed = renamed_into(late[0], study_uid_of(paths[0]))
    store(association, renamed)
    another_closes(node, tmp_path)
    assert len(closed(node, paths)) == 1  # its association is open, and nobody named it
    association.release()
    assert wait_closed(node, paths, 2)[1] == ("release", 5)


def renamed_into(path: Path, study_uid: str) -> Path:
    """The same file, in another study."""
    dataset = dcmread(path)
    dataset.StudyInstanceUID = study_uid
    dataset.save_as(path)
    return path
