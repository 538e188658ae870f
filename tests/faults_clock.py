"""A clock that is set while a study arrives, a delivery waits and workers live: for ``tests.faults``."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from tests.conftest import (
    Pacs,
    RunningNode,
    free_port,
    make_study,
    start_node,
    study_uid_of,
    wait_for,
)
from tests.surroundings import FakedClock, Fault, readiness, wait_until_delivered

HOUR, DAY = 3600, 86400
STEPS = (HOUR, -HOUR, DAY, -DAY)
QUIET_SECONDS = 5.0
SOON_SECONDS = 40.0
"""On a loaded machine; the clock is wrong by an hour at least."""


@contextmanager
def node_with_clock(
    folder: Path, *archives: Pacs, roles: tuple[str, ...] = (), more: str = ""
) -> Iterator[tuple[RunningNode, FakedClock]]:
    """A node whose processes live by a clock of their own."""
    clock = FakedClock(folder)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in clock.environment.items():
            environment.setenv(name, value)
        with start_node(
            folder,
            *(each.destination for each in archives),
            roles=roles,
            quiet_seconds=QUIET_SECONDS,
            receive="release_seconds = 1.0",
            more=more,
        ) as node:
            yield node, clock


def associate(node: RunningNode, paths: tuple[Path, ...]) -> Association:
    meta = dcmread(paths[0], stop_before_pixels=True).file_meta
    context = build_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    association = AE("SCANNER").associate("127.0.0.1", node.node.port, [context], "DICOM_NODE")
    assert association.is_established
    return association


def store(association: Association, *paths: Path) -> None:
    for path in paths:
        assert association.send_c_store(path).Status == 0x0000


def generations(node: RunningNode, paths: tuple[Path, ...]) -> list[tuple[int, str]]:
    query = "select generation, evidence from generations where study_uid = "
    return [(row[0], row[1]) for row in node.rows(f"{query}'{study_uid_of(paths[0])}'")]


def in_one_piece(
    node: RunningNode, clock: FakedClock, paths: tuple[Path, ...], seconds: int
) -> float:
    """The clock is set with half of a study here and its line open: it closes once, with all of it, soon."""
    association = associate(node, paths)
    store(association, *paths[:2])
    clock.set(seconds)
    time.sleep(QUIET_SECONDS + 3)
    assert not generations(node, paths), f"closed while it came, {seconds:+d} s"
    store(association, *paths[2:])
    association.release()
    began = time.monotonic()
    _closed_whole(node, paths, seconds)
    return time.monotonic() - began


def _closed_whole(node: RunningNode, paths: tuple[Path, ...], seconds: int) -> None:
    wait_for(
        lambda: generations(node, paths), f"the end of the study, {seconds:+d} s", SOON_SECONDS
    )
    rows = node.rows(
        f"select distinct generation from instances where study_uid = '{study_uid_of(paths[0])}'"
    )
    assert rows == [(0,)], f"split, {seconds:+d} s: {rows}"


def between_lines(
    node: RunningNode, clock: FakedClock, paths: tuple[Path, ...], seconds: int
) -> None:
    """The first half on a line that broke; the clock is set; the second half comes in time on another."""
    association = associate(node, paths)
    store(association, *paths[:2])
    association.abort()
    time.sleep(1)
    clock.set(seconds)
    time.sleep(QUIET_SECONDS / 2)
    association = associate(node, paths)
    store(association, *paths[2:])
    association.release()
    _closed_whole(node, paths, seconds)


def while_it_closes(
    node: RunningNode, clock: FakedClock, paths: tuple[Path, ...], seconds: int
) -> None:
    """The clock is set when all has come on a line that broke: nothing stirs the study any more."""
    association = associate(node, paths)
    store(association, *paths)
    association.abort()
    time.sleep(0.5)
    clock.set(seconds)
    _closed_whole(node, paths, seconds)


def arriving(folder: Path) -> str:
    slowest = 0.0
    with node_with_clock(folder, roles=("receive", "work")) as (node, clock):
        for number, seconds in enumerate(STEPS):
            studies = [
                make_study(folder / f"sent-{number}-{n}", seed=330 + 3 * number + n)
                for n in range(3)
            ]
            slowest = max(slowest, in_one_piece(node, clock, studies[0], seconds))
            between_lines(node, clock, studies[1], seconds)
            while_it_closes(node, clock, studies[2], seconds)
    return f"12 studies closed once and whole; {slowest:.0f} s after their release at most"


def waiting(folder: Path) -> str:
    """An archive is down, is tried again, and comes back; the workers are alive all the while."""
    archive, port, tries = Pacs(), free_port(), []
    with node_with_clock(folder, archive, more=f"[web]\nport = {port}") as (node, clock):
        for number, seconds in enumerate((*STEPS, 30 * DAY, -30 * DAY)):
            paths = make_study(folder / f"sent-{number}", seed=350 + number)
            archive.stop()
            node.send(*paths)
            wait_for(lambda: _attempts(node, paths) >= 2, "two attempts")  # noqa: B023 - waited for here
            before = _attempts(node, paths)
            clock.set(seconds)
            time.sleep(8)
            tries.append(_attempts(node, paths) - before)
            assert tries[-1] <= 8, f"hammered: {tries[-1]} attempts in 8 s, {seconds:+d} s"
            archive.start()
            wait_until_delivered(node, [paths], SOON_SECONDS)
            wait_for(lambda: readiness(port) == "ready", "/readyz", SOON_SECONDS)
        doubled = len(archive.arrivals) - len(set(archive.arrivals))
        assert not doubled, f"{doubled} objects sent twice"
    archive.stop()
    return f"6 of 6 delivered once, {max(tries)} attempts in 8 s at most, readyz again in time"


def _attempts(node: RunningNode, paths: tuple[Path, ...]) -> int:
    uid = study_uid_of(paths[0])
    query = f"select max(attempts) from deliveries join results using (sop_uid) where study_uid = '{uid}'"
    return node.rows(query)[0][0] or 0


FAULTS = (
    Fault(
        "clock set by 1 h, -1 h, 1 d, -1 d while studies arrive",
        "closed once, whole, soon",
        arriving,
    ),
    Fault(
        "clock set by up to 30 d while deliveries wait",
        "delivered once, soon, not given up, not hammered; workers count as alive",
        waiting,
    ),
)
