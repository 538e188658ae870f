"""Disks that run full under work in hand: the stages wait, and go on by themselves."""

import os
import signal
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.errors import Busy, DiskFull
from tests import attack
from tests.conftest import Pacs, RunningNode, free_port, make_study, start_node, wait_for
from tests.surroundings import (
    assert_sound,
    full,
    readiness,
    small_disk,
    states,
    wait_until_delivered,
)
from tests.test_receive_space import send, split, status_of


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_full_disks_of_files_and_of_the_database(
    tmp_path: Path, pacs: Pacs, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def heard(words: str) -> bool:
        said.append(capfd.readouterr().err)
        return words in "".join(said)

    first, second, third = (make_study(tmp_path / f"sent-{n}", seed=300 + n) for n in range(3))
    files, database, port = tmp_path / "files", tmp_path / "database", free_port()
    with (
        small_disk(files, 24),
        small_disk(database, 24),
        start_node(
            tmp_path,
            pacs.destination,
            database=f"sqlite:///{database}/node.db",
            own=f'files_dir = "{files}"',
            receive="[receive.limits]\nfree_mib = 0",
            more=f"[web]\nport = {port}",
        ) as node,
    ):
        hold = node.gate / "hold"
        hold.touch()
        node.send(*first)
        wait_for(node.runs, "the first analysis")
        with full(files):
            hold.unlink()
            wait_for(lambda: heard('"event": "no room on the disk"'), "the word in the log")
            assert f"free in {files}" in readiness(port)
            assert states(node, [first]) == ["assembled"]
        wait_until_delivered(node, [first])

        hold.touch()
        node.send(*second)
        wait_for(lambda: len(node.runs()) == 2 + said_again(said), "the second analysis")
        with full(database):
            hold.unlink()
            with pytest.raises(Busy):
                node.send(*third)
            wait_for(lambda: heard(f'"folder": "{database}"'), "the word in the log")
            assert f"free in {database}" in readiness(port)
        node.send(*third)
        wait_until_delivered(node, [second, third])
        assert_sound(node)
        assert heard('"event": "worker begins anew"'), "what could not be recorded was not mended"
    assert sorted(pacs.arrivals) == sorted(set(pacs.arrivals)), "sent twice"
    assert len(pacs.kept) == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_roles_that_are_killed_while_the_disk_of_the_database_is_full(
    tmp_path: Path, pacs: Pacs, capfd: pytest.CaptureFixture[str]
) -> None:
    """They wait for room without dying of it, then all goes on; what a receiver carried is recorded."""
    disk, port = tmp_path / "database", free_port()
    study = make_study(tmp_path / "sent", seed=310)
    with (
        small_disk(disk, 24),
        start_node(
            tmp_path,
            pacs.destination,
            database=f"sqlite:///{disk}/node.db",
            receive="[receive.limits]\nfree_mib = 0",
            more=f"[web]\nport = {port}\nlost_seconds = 3",
        ) as node,
    ):
        (node.gate / "hold").touch()
        line = attack.Target(node).associate()
        send(line, str(dcmread(study[0]).SOPInstanceUID), split(study[0])[1])
        assert status_of(line) == 0x0000
        assert len(node.rows("select * from associations")) == 1
        with full(disk):
            wait_for(lambda: f"free in {disk}" in readiness(port), "the word of /readyz")
            killed = [kill(node, role) for role in ("receive", "infer", "work")]
            wait_for(node.node._children["receive"].ready.is_set, "the receiver, for its answers")
            with pytest.raises(Busy):
                node.send(*study)
            time.sleep(7)  # the others would have died twice
            assert node.node.pids().items() >= dict(killed).items()
            reasons = readiness(port)
            assert "no role can say that it lives" in reasons
            assert "no sign of life" not in reasons
        line.close()
        (node.gate / "hold").unlink()
        node.send(*study)
        wait_until_delivered(node, [study], 120)
        assert node.rows("select * from associations") == []
        wait_for(lambda: readiness(port) == "ready", "/readyz")
        audited = (node.data / "audit" / "receive.xml").read_text()
        assert "the receiver was killed meanwhile" in audited
    told = capfd.readouterr().err
    assert '"event": "no room on the disk"' in told
    assert "Traceback" not in told


def kill(node: RunningNode, role: str) -> tuple[str, int]:
    """A role, and its number when it was started again."""
    before = node.node.pid(role)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: node.node.pid(role) != before, f"{role} again")
    return role, node.node.pid(role)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_start_on_a_full_disk_says_so(tmp_path: Path) -> None:
    disk = tmp_path / "database"
    with small_disk(disk, 24):
        database = f"sqlite:///{disk}/node.db"
        (tmp_path / "first").mkdir()
        with start_node(tmp_path / "first", roles=("receive",), database=database):
            pass
        with (
            full(disk),
            pytest.raises(DiskFull, match="no room on the disk of the database"),
            start_node(tmp_path, roles=("receive",), database=database),
        ):
            pass


def said_again(said: list[str]) -> int:
    """How often an analysis whose findings found no room was begun again."""
    return "".join(said).count('"event": "failed to analyze"')
