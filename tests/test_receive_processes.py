"""Several receiving processes on one port: each takes its part, and together they keep the promise of one."""

import http.client
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.deliver import echo
from dicom_node.errors import NodeError, Unreachable
from dicom_node.node import Node
from dicom_node.settings import load
from tests.conftest import RunningNode, free_port, make_study, start_node, wait_for
from tests.dicom_scanner import Scanner, ask_commitment, sop_uids, store

PROCESSES, SCANNERS = 3, 12
NAMES = {"receive", "receive-2", "receive-3"}
HERE = "127.0.0.1"
WEB_PORT = free_port()
SETTINGS = f"processes = {PROCESSES}\nweb_port = {WEB_PORT}"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    with start_node(tmp_path, roles=("receive",), quiet_seconds=600.0, receive=SETTINGS) as running:
        yield running


def carrying(node: RunningNode) -> set[str]:
    """Which processes have associations now that have sent something."""
    return {row[0] for row in node.rows("select distinct receiver from associations")}


def echoes(node: RunningNode) -> bool:
    try:
        echo(node.destination, "SCANNER")
    except Unreachable:
        return False
    return True


def test_each_takes_its_part_and_answers_for_it(node: RunningNode, tmp_path: Path) -> None:
    """Whoever heard a request for commitment has its association, and the others leave it to him."""
    studies = [make_study(tmp_path / f"study-{n}", seed=90 + n, slices=2) for n in range(SCANNERS)]
    scanners = [Scanner(f"US{n}") for n in range(SCANNERS)]
    associations = [scanner.associate(node) for scanner in scanners]

    def send(n: int) -> None:
        store(associations[n], *studies[n])
        assert ask_commitment(associations[n], sop_uids(studies[n])) == 0x0000

    threads = [threading.Thread(target=send, args=(n,)) for n in range(SCANNERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(carrying(node)) > 1
    for scanner, paths in zip(scanners, studies, strict=True):
        assert scanner.report() == (1, sop_uids(paths), {})
    for association in associations:
        association.release()
    outcomes = node.rows("select outcome, attempts from commitments")
    assert outcomes == [("2 of 2 committed", 1)] * SCANNERS
    assert all(scanner.reports.empty() for scanner in scanners)  # nobody heard it twice
    assert len(list((node.data / "store").rglob("*.dcm"))) == 2 * SCANNERS
    wait_for(lambda: not carrying(node), "the end of all associations")
    beating = "select executor from heartbeats where role = 'receive' and seen_at > 0"
    wait_for(lambda: {row[0] for row in node.rows(beating)} == NAMES, "a sign of life of each")
    line = http.client.HTTPConnection(HERE, WEB_PORT, timeout=30)
    line.request("POST", "/studies")
    assert line.getresponse().status == 415  # one of them has the web's door too


def test_one_that_is_killed_cuts_off_its_own_alone(node: RunningNode, tmp_path: Path) -> None:
    pids = node.node.pids()
    assert set(pids) == NAMES
    incoming = node.data / "incoming"
    for name in ("receive-2.young.dcm", "receive-3.young.dcm", "receive-9.young.dcm"):
        (incoming / name).write_bytes(b"half")
    for name, pid in pids.items():
        os.kill(pid, signal.SIGSTOP if name == "receive" else signal.SIGKILL)
    # Whoever has the time accepts: here only those that come again, from the same socket.
    wait_for(lambda: echoes(node), "an answer while one stands still")
    os.kill(pids["receive"], signal.SIGCONT)
    killed = {pid for name, pid in pids.items() if name != "receive"}
    wait_for(lambda: killed.isdisjoint(node.node.pids().values()), "both to be started again")
    # Each removes at its start what itself has left unfinished; what is young and nobody's has an hour.
    wait_for(
        lambda: [each.name for each in incoming.iterdir()] == ["receive-9.young.dcm"], "sweeps"
    )
    paths = make_study(tmp_path / "sent", seed=80)
    node.send(*paths)
    assert node.rows("select count(*) from instances") == [(len(paths),)]


def test_who_stops_hears_nobody_any_more(tmp_path: Path) -> None:
    with start_node(tmp_path, roles=("receive",), receive="processes = 2") as node:
        port, scanner = node.node.port, Scanner()
        association = scanner.associate(node)
        stopping = threading.Thread(target=node.node.stop)
        stopping.start()

        def is_closed() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((HERE, port)) != 0

        wait_for(is_closed, "the port to be closed")
        store(association, *make_study(tmp_path / "sent", seed=81))  # what is in hand is finished
        association.release()
        stopping.join()
        assert node.rows("select count(*) from instances") == [(4,)]


def test_a_port_that_another_holds_is_said(tmp_path: Path) -> None:
    with socket.create_server((HERE, 0)) as other:
        port = other.getsockname()[1]
        path = tmp_path / "node.toml"
        path.write_text(
            f"[node]\ndata_dir = '{tmp_path}'\n[receive]\nprocesses = 2\nport = {port}\n"
        )
        held = f"cannot listen on {HERE}:{port}: Address already in use; who holds the port"
        with pytest.raises(NodeError, match=re.escape(held)):
            Node(load(path, {}), path, ("receive",)).start()
