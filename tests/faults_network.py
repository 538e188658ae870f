"""Peers that fall silent without a word: archives in a delivery, scanners in the middle of a study.

Packets are dropped by iptables for one port of 127.0.0.1 alone, so that neither side hears of an end.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node import deliver as deliver_module
from tests.conftest import Pacs, RunningNode, make_study, start_node, study_uid_of, wait_for
from tests.faults_clock import associate, generations, store
from tests.surroundings import Fault, states, wait_until_delivered

SILENCE = "[receive.limits]\nfree_mib = 0\nidle_seconds = 10\npdu_seconds = 5\nsend_seconds = 5"


@contextmanager
def dropped(port: int) -> Iterator[None]:
    """What goes to a port of this machine, and what comes from it, is lost."""
    rules = [
        ["-i", "lo", "-p", "tcp", direction, str(port), "-j", "DROP"]
        for direction in ("--dport", "--sport")
    ]
    try:
        for rule in rules:
            done = subprocess.run(
                ["iptables", "-I", "INPUT", *rule], capture_output=True, text=True, check=False
            )
            if done.returncode:
                pytest.skip(f"no packets can be dropped here: {done.stderr.strip()}")
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-D", "INPUT", *rule], capture_output=True, check=False)


class SlowPacs(Pacs):
    """Takes its time for each object, so that the network can be lost between two."""

    seconds = 2.0

    def _store(self, event):  # type: ignore[no-untyped-def] # pynetdicom's handlers
        time.sleep(self.seconds)
        return super()._store(event)


def archive_falls_silent(folder: Path) -> str:
    """Between two objects; the first one's answer has come. Then the network is back, with no end told."""
    archive, other = SlowPacs("silent"), Pacs("other")
    first, second = (make_study(folder / f"sent-{seed}", seed=seed) for seed in (371, 372))
    with start_node(folder, archive.destination, other.destination, receive=SILENCE) as node:
        node.send(*first)
        wait_for(lambda: len(archive.arrivals) == 1, "the first object")
        began = time.monotonic()
        with dropped(archive.destination.port):
            wait_for(lambda: len(other.kept) == 2, "the other archive, which is there")
            node.send(*second)
            wait_for(lambda: len(other.kept) == 4, "the other archive, for the next study")
            wait_for(lambda: _waiting(node, first), "the delivery to hear of the silence", 300)
            heard = time.monotonic() - began
        archive.seconds = 0.0
        wait_until_delivered(node, [first, second], 400)
        took = time.monotonic() - began
        assert states(node, [first, second]) == ["delivered", "delivered"]
    archive.stop()
    other.stop()
    doubled = len(archive.arrivals) - len(set(archive.arrivals))
    assert len(archive.kept) == len(other.kept) == 4, "an object is missing"
    assert doubled <= 1, f"{doubled} objects sent again"
    limit = deliver_module.DIMSE_SECONDS
    return (
        f"the other archive was not held up; silence noticed after {heard:.0f} s (limit {limit}), all "
        f"delivered after {took:.0f} s, {doubled} unanswered object sent again under its UID"
    )


def _waiting(node: RunningNode, paths: tuple[Path, ...]) -> bool:
    query = (
        "select count(*) from deliveries join results using (sop_uid) where destination = 'silent' "
        f"and status = 'waiting' and study_uid = '{study_uid_of(paths[0])}'"
    )
    return node.rows(query)[0][0] > 0


def scanner_is_lost(folder: Path) -> str:
    """In the middle of a study, without a FIN; its slot comes free, and the study waits for quiet time."""
    paths = make_study(folder / "sent", seed=373)
    limits = f"{SILENCE}\nassociations = 1\nassociations_per_address = 2"
    with start_node(
        folder,
        roles=("receive", "work"),
        quiet_seconds=8.0,
        receive=f"release_seconds = 1.0\n{limits}",
    ) as node:
        lost = associate(node, paths)
        store(lost, *paths[:2])
        port = lost.dul.socket.socket.getsockname()[1]  # type: ignore[union-attr]
        began = time.monotonic()
        with dropped(port):
            wait_for(lambda: _is_free(node, paths), "the slot of the lost one", 60)
            freed = time.monotonic() - began
            wait_for(lambda: generations(node, paths), "the end of the study", 60)
            closed = time.monotonic() - began
        ((generation, evidence),) = generations(node, paths)
        assert evidence.startswith("quiet time"), evidence
        lost.abort()
        again = associate(node, paths)
        store(again, *paths)  # as a scanner does that has heard no end
        again.release()
        wait_for(lambda: len(generations(node, paths)) == 2, "the study with the late instances")
        count = node.rows("select count(*) from instances")[0][0]
        assert count == len(paths), f"{count} instances of {len(paths)}"
    return (
        f"slot free after {freed:.0f} s (idle_seconds 10), closed by quiet time after {closed:.0f} s; sent "
        f"again, {count} of {len(paths)} kept once, the late ones as generation {generation + 1}"
    )


def _is_free(node: RunningNode, paths: tuple[Path, ...]) -> bool:
    try:
        associate(node, paths).release()
    except AssertionError:
        return False
    return True


FAULTS = (
    Fault(
        "archive falls silent in a delivery",
        "noticed, tried again, nothing lost or doubled; others not held up",
        archive_falls_silent,
    ),
    Fault(
        "scanner is lost in a study, no FIN",
        "its slot comes free; not taken for a release; sent again, kept once",
        scanner_is_lost,
    ),
)
