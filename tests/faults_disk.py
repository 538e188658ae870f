"""Disks that run full while studies come, are worked off and are recorded: for ``tests.faults``."""

import os
import signal
import time
from pathlib import Path

from dicom_node.deliver import deliver
from dicom_node.errors import DeliveryError
from dicom_node.files.content import fingerprint
from tests.conftest import Pacs, RunningNode, free_port, make_study, start_node, wait_for
from tests.surroundings import (
    Fault,
    assert_sound,
    full,
    grow,
    readiness,
    small_disk,
    states,
    wait_until_delivered,
)
from tests.test_receive_space import instance, stored

STARTED_SECONDS = 12.0
"""For a role to start, or to die of it: some import for seconds."""

NO_MARK = "[receive.limits]\nfree_mib = 0"
"""Without the mark nothing but the disk itself stops what comes."""


def while_received(folder: Path) -> str:
    """Instances of 1 MiB until the disk is full, and once more when it has grown."""
    disk, other = folder / "data", f"sqlite:///{folder}/node.db"
    with (
        small_disk(disk, 24),
        start_node(
            folder, roles=("receive",), quiet_seconds=600.0, database=other, receive=NO_MARK
        ) as node,
    ):
        paths = [instance(folder, 1) for _ in range(40)]
        refused = [path for path in paths if not _taken(node, path)]
        assert refused, "the disk did not run full"
        _assert_kept(node, len(paths) - len(refused))
        grow(disk, 100)
        assert all(_taken(node, path) for path in refused), "refused also after the disk has grown"
        _assert_kept(node, len(paths))
        return f"{len(refused)} of {len(paths)} heard 0xA700, all taken later, none cut off"


def _taken(node: RunningNode, path: Path) -> bool:
    try:
        deliver([path], node.destination, "SCANNER")
    except DeliveryError as error:
        if "0xA700" not in error.reason:
            raise
        return False
    return True


def _assert_kept(node: RunningNode, count: int) -> None:
    rows = node.rows("select path, sha256 from instances")
    assert len(stored(node)) == len(rows) == count
    assert all(fingerprint(node.data / path) == sha256 for path, sha256 in rows)


def _under_work(folder: Path, disk: Path, **options: str) -> str:
    """Two studies in hand when the disk runs full, a third one sent then; every role is killed meanwhile."""
    studies = [make_study(folder / f"sent-{seed}", seed=seed) for seed in (311, 312, 313)]
    archive, port = Pacs(), free_port()
    with (
        small_disk(disk, 24),
        start_node(
            folder,
            archive.destination,
            receive=NO_MARK,
            more=f"[web]\nport = {port}\nlost_seconds = 6",
            **options,  # type: ignore[arg-type] # text alone
        ) as node,
    ):
        hold = node.gate / "hold"
        hold.touch()
        for paths in studies[:2]:
            node.send(*paths)
        wait_for(node.runs, "the first analysis")
        with full(disk):
            hold.unlink()
            refused = _refused(node, studies[2])
            wait_for(lambda: f"free in {disk}" in readiness(port), "the word of /readyz")
            roles = list(node.node.pids())
            for role in roles:
                _kill(node, role)
            _assert_no_death(node)
            assert "delivered" not in states(node, studies[:2])
            _assert_said_once(port, disk)
        began = time.monotonic()
        children = node.node._children
        wait_for(lambda: all(children[role].ready.is_set() for role in roles), "every role")
        back = time.monotonic() - began
        if refused:
            node.send(*studies[2])
        wait_until_delivered(node, studies, 120)
        wait_for(lambda: readiness(port) == "ready", "/readyz")
        assert_sound(node)
        left = [path for path in disk.rglob("*unfinished*")]
        assert not left, left
    archive.stop()
    assert set(archive.kept) == set(archive.arrivals)
    assert len(archive.kept) == 6
    doubled = len(archive.arrivals) - len(archive.kept)
    told = "0xA700, " if refused else ""
    return (
        f"{told}readyz 503; {len(roles)} roles killed, none died again, all at work {back:.0f} s after there "
        f"was room; 3 of 3 delivered unaided, sound; {doubled} objects sent twice"
    )


def _refused(node: RunningNode, paths: tuple[Path, ...]) -> bool:
    return not all(_taken(node, path) for path in paths)


def _kill(node: RunningNode, role: str) -> None:
    """And see it started again, though not a byte is free; it may have to wait for room."""
    killed = node.node.pid(role)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: node.node.pid(role) != killed, f"{role} again")


def _assert_no_death(node: RunningNode) -> None:
    """No role ends and is started again and again while it waits; the window can be asked."""
    before = node.node.pids()
    time.sleep(STARTED_SECONDS)
    assert node.node.pids() == before, "a role died while the disk was full"
    wait_for(node.node._children["web"].ready.is_set, "the window")


def _assert_said_once(port: int, disk: Path) -> None:
    """Whoever can say nothing for want of room is not called dead; who can, says so soon."""
    wait_for(lambda: "no sign of life" not in readiness(port), "a word of the disk alone")
    assert readiness(port).count(f"free in {disk}") == 1


def under_files(folder: Path) -> str:
    disk = folder / "files"
    return _under_work(folder, disk, own=f'files_dir = "{disk}"')


def under_database(folder: Path) -> str:
    disk = folder / "database"
    return _under_work(folder, disk, database=f"sqlite:///{disk}/node.db")


def under_all(folder: Path) -> str:
    return _under_work(folder, folder / "data")


UNAIDED = "0xA700 or taken; nothing cut off; all goes on by itself"
FAULTS = (
    Fault("disk full while instances come", "0xA700, nothing cut off", while_received),
    Fault("disk of files_dir full under work", UNAIDED, under_files),
    Fault("disk of the SQLite file full under work", UNAIDED, under_database),
    Fault("the one disk of all full under work", UNAIDED, under_all),
)
