"""The order of system calls: nothing is acknowledged, or recorded, before it would survive a power loss."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.conftest import (
    Pacs,
    RunningNode,
    make_study,
    peer,
    start_node,
    study_uid_of,
    wait_for,
)
from tests.test_receive_stow import PORT, Answer, body_of, post

SYNCS = ("fsync", "fdatasync")
SENDS = ("sendto", "sendmsg", "write")
RENAMES = ("rename", "renameat", "renameat2")
CALL = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>(.*)|(\w+)\((.*))$")
NETWORK = r"<(?:socket|TCP\w*):.*"
UNFINISHED = " <unfinished ...>"

Call = tuple[str, str]
"""Its name, and its arguments with the paths of descriptors."""


def calls_of(trace: str) -> list[Call]:
    """System calls in the order of their end; of their beginning where something leaves the process."""
    calls, begun = [], {}
    for line in trace.splitlines():
        if not (match := CALL.match(line)):
            continue
        thread, resumed, rest, name, arguments = match.groups()
        if resumed:
            if call := begun.pop(thread, None):
                calls.append((call[0], call[1] + rest))
        elif not arguments.endswith(UNFINISHED) or name in SENDS:
            calls.append((name, arguments))
        else:
            begun[thread] = (name, arguments.removesuffix(UNFINISHED))
    return calls


@contextmanager
def traced(process: int, path: Path) -> Iterator[Callable[[], list[Call]]]:
    """strace on a running role until the block ends; the calls so far."""
    wanted = f"trace={','.join((*SYNCS, *RENAMES, *SENDS))}"
    command = [peer("strace"), "-f", "-y", "-s", "16", "-e", wanted, "-o", path, "-p", str(process)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            pytest.skip(f"strace cannot attach here: {line.strip()}")
        try:
            yield lambda: calls_of(path.read_text())
        finally:
            tracer.terminate()


def assert_in_order(calls: list[Call], *steps: tuple[tuple[str, ...], str]) -> int:
    """Each step (names of calls, pattern of their arguments) after the one before; the last one's place."""
    at = -1
    for names, pattern in steps:
        found = [
            place
            for place, (name, arguments) in enumerate(calls)
            if place > at and name in names and re.search(pattern, arguments)
        ]
        assert found, f"no {names} {pattern} after step {at} in {calls}"
        at = found[0]
    return at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs]]:
    archive = Pacs("archive")
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, archive.destination, receive=f"web_port = {PORT}") as node:
        yield node, archive
    archive.stop()


KEPT = (
    (SYNCS, r"/incoming/"),
    (RENAMES, r"/incoming/.*/store/[0-9a-f]{64}\.dcm"),
    (SYNCS, r"/store>"),
    (SYNCS, r"node\.db-wal>"),
)


@pytest.mark.peer
def test_durable_before_success(world: tuple[RunningNode, Pacs], tmp_path: Path) -> None:
    """C-STORE, STOW-RS, and what is set aside: file, rename, folder, commit, and only then the answer."""
    node, _ = world
    paths = make_study(tmp_path / "sent", seed=81)
    with traced(node.node.pid("receive"), tmp_path / "trace") as calls:
        node.send(paths[0])
        answers = (SENDS, rf'{NETWORK}"\\4\\0')  # P-DATA-TF
        at = assert_in_order(calls(), *KEPT, answers)
        assert at == assert_in_order(calls(), answers), "an answer before the commit"

        before = len(calls())
        uid = str(dcmread(paths[1]).SOPInstanceUID)
        assert post(body_of([paths[1].read_bytes()])) == Answer(200, {uid: 0})
        web = calls()[before:]
        assert_in_order(web, *KEPT, (SENDS, rf'{NETWORK}"HTTP/1'))

        other = dcmread(paths[0])
        other.PixelData = bytes(len(other.PixelData))
        before = len(calls())
        body = body_of([as_bytes(other, tmp_path)])
        assert list(post(body).reasons.values()) == [0xC001]
        aside = (SYNCS, r"/store/[0-9a-f]{64}"), (RENAMES, r"/store/.*/quarantine/")
        end = (SYNCS, r"/quarantine>"), (SENDS, rf'{NETWORK}"HTTP/1')
        assert_in_order(calls()[before:], *KEPT[:3], *aside, *end)


def as_bytes(dataset: object, folder: Path) -> bytes:
    dataset.save_as(folder / "other.dcm")
    return (folder / "other.dcm").read_bytes()


@pytest.mark.peer
def test_durable_before_recorded(world: tuple[RunningNode, Pacs], tmp_path: Path) -> None:
    """A result's file, its folder, the folders above, and only then the row and the delivery."""
    node, archive = world
    paths = make_study(tmp_path / "sent", seed=82)
    uid = study_uid_of(paths[0])
    study = re.escape(uid)

    def arrived() -> bool:  # another study's may come meanwhile
        made = [
            row[0] for row in node.rows(f"select sop_uid from results where study_uid = '{uid}'")
        ]
        return len(made) == 2 and set(made) <= archive.kept.keys()

    with traced(node.node.pid("work"), tmp_path / "trace") as calls:
        node.send(*paths)
        wait_for(arrived, "the results")
        found = calls()
    folder = rf"/results/{study}/0\.unfinished"
    for name in ("segmentation", "measurements"):
        assert_in_order(
            found,
            (SYNCS, rf"{folder}/{name}.*\.dcm>"),
            (SYNCS, rf"{folder}>"),
            (RENAMES, rf"{folder}.*/results/{study}/0\""),
            (SYNCS, rf"/results/{study}>"),
            (SYNCS, r"/results>"),
            (SYNCS, rf"{re.escape(os.fspath(node.data.name))}>"),
            (SYNCS, r"node\.db-wal>"),
            (SENDS, rf'{NETWORK}"\\4\\0'),
        )
