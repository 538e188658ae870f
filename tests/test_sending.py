"""What a destination does not take: it gets the rest, is tried again, and `jobs` says why and when."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node import index, jobs
from dicom_node.jobs import Delivery
from tests.conftest import Pacs, RunningNode, make_study, start_node, study_uid_of, wait_for
from tests.guarded import errors_into


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs, Path]]:
    archive, folder = Pacs("pacs"), tmp_path_factory.mktemp("node")
    with contextlib.ExitStack() as stack:
        with errors_into(folder / "log"):
            node = stack.enter_context(start_node(folder, archive.destination))
        yield node, archive, folder / "log"
    archive.stop()


@pytest.fixture
def node(world: tuple[RunningNode, Pacs, Path]) -> RunningNode:
    return world[0]


@pytest.fixture
def archive(world: tuple[RunningNode, Pacs, Path]) -> Pacs:
    world[1].forget()
    return world[1]


def log_of(world: tuple[RunningNode, Pacs, Path]) -> list[dict]:
    return [json.loads(line) for line in world[2].read_text().splitlines()]


def send(node: RunningNode, folder: Path, seed: int) -> str:
    paths = make_study(folder / f"{seed}", seed)
    node.send(*paths)
    return study_uid_of(paths[0])


def delivery(node: RunningNode, study_uid: str) -> Delivery | None:
    return next(iter(jobs.show_job(node.settings, study_uid)[0].deliveries), None)


def delivered(node: RunningNode, study_uid: str) -> Delivery:
    def look() -> Delivery | None:
        found = delivery(node, study_uid)
        return found if found and found.acknowledged == 2 else None

    return wait_for(look, f"{study_uid} delivered")


def objects(node: RunningNode, study_uid: str) -> list[str]:
    """In order of writing, which is that of the first attempt."""
    rows = node.rows(
        f"select sop_uid from results where study_uid = '{study_uid}' order by made_at"
    )
    return [row[0] for row in rows]


def put_off(node: RunningNode, study_uid: str) -> None:
    """The next attempt is in an hour."""
    engine = index.open_engine(node.settings.node.database_url)
    client = index.open_client(engine)

    def off() -> bool:
        runs = client.list_workflows(workflow_id_prefix=f"{study_uid}:0:deliver", status="DELAYED")
        for run in runs:
            client.set_workflow_delay(run.workflow_id, delay_seconds=3600)
        return bool(runs)

    wait_for(off, "an attempt that waits")
    client.destroy()
    engine.dispose()


def command(node: RunningNode, *words: str) -> subprocess.CompletedProcess[str]:
    config = str(node.data.with_name("node.toml"))
    program = [sys.executable, "-P", "-m", "dicom_node", "jobs", *words, "--config", config]
    return subprocess.run(program, capture_output=True, text=True)


def test_one_that_is_not_taken_now_keeps_no_other_back(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    first: list[str] = []

    def answer(sop_uid: str) -> int:
        first.append(sop_uid)
        return 0x0110 if len(first) == 1 else 0x0000

    archive.answer = answer
    study_uid = send(node, tmp_path, 2)
    delivered(node, study_uid)
    one, other = objects(node, study_uid)
    assert archive.arrivals == [one, other, one]


def test_the_next_attempt_begins_with_what_was_not_tried(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """The archive aborts at the first object and is gone."""

    def answer(sop_uid: str) -> int:
        if not archive.arrivals:
            archive.abort_at = {sop_uid}
            archive.stop()
        else:
            archive.abort_at = set()
        return 0x0000

    archive.answer = answer
    study_uid = send(node, tmp_path, 3)
    wait_for(lambda: archive.arrivals, "the first object")
    waiting = wait_for(
        lambda: (found := delivery(node, study_uid)) and found.attempts and found, "the attempt"
    )
    archive.start()
    assert "objects not tried: 1" in waiting.reason
    delivered(node, study_uid)
    one, other = objects(node, study_uid)
    assert archive.arrivals == [one, other, one]


def test_a_duplicate_after_an_unanswered_send_is_a_success_with_a_note(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """The archive stores an object, and its answer is lost; it then refuses a second one of that UID."""
    seen: list[str] = []

    def answer(sop_uid: str) -> int:
        archive.abort_at = {sop_uid} if len(seen) == 0 else set()
        seen.append(sop_uid)
        return 0x0111 if seen.count(sop_uid) > 1 else 0x0000

    archive.answer = answer
    study_uid = send(node, tmp_path, 4)
    found = delivered(node, study_uid)
    assert (found.status, found.next_attempt) == ("warning", "")
    assert found.reason == "0x0111: it was there already, from a send that was not answered"


def test_a_duplicate_that_was_never_sent_is_refused(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """Whose object that is, nobody knows; the other one is delivered, and a retry is possible."""
    archive.answer = lambda _sop_uid: 0x0111 if not archive.arrivals else 0x0000
    study_uid = send(node, tmp_path, 6)
    wait_for(
        lambda: jobs.show_job(node.settings, study_uid)[0].state == "failed to deliver", "the end"
    )
    found = delivery(node, study_uid)
    assert found
    assert (found.status, found.acknowledged) == ("failed", 1)
    assert "an object of this UID that we have not sent" in found.reason
    assert "jobs retry" in found.next_attempt
    told = command(node, "retry", "--destination", "pacs", "--all")
    assert told.stdout.strip() == "destination pacs: studies: 1 sent now", told.stderr
    delivered(node, study_uid)


def test_what_is_refused_is_not_sent_with_each_attempt(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    busy = [0xA700, 0xA700, 0x0000]

    def answer(_sop_uid: str) -> int:
        return 0xC000 if not archive.arrivals else busy.pop(0)

    archive.answer = answer
    study_uid = send(node, tmp_path, 7)
    wait_for(
        lambda: jobs.show_job(node.settings, study_uid)[0].state == "failed to deliver", "the end"
    )
    one, other = objects(node, study_uid)
    assert archive.arrivals == [one, other, other, other]
    assert "answered 0xC000" in jobs.show_job(node.settings, study_uid)[0].reason
    jobs.retry_job(node.settings, study_uid)
    archive.answer = lambda _sop_uid: 0x0000
    delivered(node, study_uid)


def test_a_rejection_is_visible_at_once_and_mended_by_an_administrator(
    world: tuple[RunningNode, Pacs, Path], archive: Pacs, tmp_path: Path
) -> None:
    node = world[0]
    archive.stop()
    archive._options["require_calling_aet"] = ["SOMEBODY"]
    archive.start()
    studies = [send(node, tmp_path, seed) for seed in (8, 9)]
    for study_uid in studies:
        put_off(node, study_uid)
    found = delivery(node, studies[0])
    assert found
    assert found.status == "waiting"
    assert "Calling AE title not recogni" in found.reason
    assert "does not know DICOM_NODE; enter it there" in found.reason
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", found.next_attempt)
    shown = command(node, "show", studies[0]).stdout
    assert re.search(r"^  pacs: why +association rejected: Calling", shown, re.MULTILINE)
    assert re.search(rf"^  pacs: next +{found.next_attempt}$", shown, re.MULTILINE)
    lines = [each for each in log_of(world) if each.get("cause") == "calling AE title"]
    assert {(each["level"], each["event"]) for each in lines} == {("warning", "failed to deliver")}

    archive.stop()
    del archive._options["require_calling_aet"]
    archive.start()
    told = command(node, "retry", "--destination", "pacs", "--all", "--json")
    assert sorted(json.loads(told.stdout)["studies"]) == sorted(studies), told.stderr
    for study_uid in studies:
        delivered(node, study_uid)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--destination", "nobody", "--all"], "there is: pacs"),
        (["--all"], "--all goes with --destination"),
        ([], "name a STUDY"),
        (["1.2.3", "--destination", "pacs"], "1.2.3"),
    ],
)
def test_a_wrong_retry_is_told(node: RunningNode, words: list[str], said: str) -> None:
    done = command(node, "retry", *words)
    assert done.returncode
    assert said in done.stderr


def test_pauses_begin_anew_when_something_was_acknowledged(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    archive.stop()
    study_uid = send(node, tmp_path, 10)
    wait_for(lambda: (found := delivery(node, study_uid)) and found.attempts >= 3, "three attempts")
    archive.answer = lambda _sop_uid: 0xA700 if len(archive.kept) == 1 else 0x0000
    archive.start()
    wait_for(lambda: archive.kept, "one object")
    engine = index.open_engine(node.settings.node.database_url)
    client = index.open_client(engine)

    def pauses() -> list[float]:
        runs = client.list_workflows(workflow_id_prefix=f"{study_uid}:0:deliver:")
        return [run.input["args"][-1]["waited"] for run in runs]

    waited = wait_for(lambda: (all_ := pauses()) and 1.0 in all_[2:] and all_, "a pause anew")
    archive.answer = lambda _sop_uid: 0x0000
    client.destroy()
    engine.dispose()
    delivered(node, study_uid)
    assert max(waited) > 2.0


def test_a_duplicate_is_believed_where_the_sender_was_killed_before_the_answer(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    """The last test here: the process that is started again says nothing into the log above."""
    seen: list[str] = []

    def answer(sop_uid: str) -> int:
        seen.append(sop_uid)
        if len(seen) == 1:
            os.kill(node.node.pid("work"), 9)
        return 0x0111 if seen.count(sop_uid) > 1 else 0x0000

    archive.answer = answer
    study_uid = send(node, tmp_path, 5)
    assert delivered(node, study_uid).status == "warning"
