"""Hostile and broken senders, all at once: others are served meanwhile, and nothing of them is left."""

import contextlib
import os
import resource
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from dicom_node.receive.server import HardServer, hardener, release
from dicom_node.settings import Limits
from tests import attack
from tests.attack import Echoes, Target, holding, told
from tests.conftest import RunningNode, peer, start_node, wait_for

LIMITS = attack.LIMITS + "associations = 128\n"
PATIENT_SECONDS = 20.0
"""On a busy machine; a receiver that is stopped answers never."""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, roles=("receive",), receive=LIMITS) as node:
        with Echoes(node).running():
            attack.idle(target := Target(node))
        target.close()
        yield node


def test_attacks_from_everywhere_stop_nobody_and_leave_nothing(receiver: RunningNode) -> None:
    """What each hears is in its own words; ``make attack`` runs them one by one, with times."""
    expected = {
        attack.held: "12 closed",
        attack.dripping: "1 closed",
        attack.stalled: "10 closed",
        attack.idle: "10 aborted",
        attack.giant: "10 closed",
        attack.reset: "10 aborted, 10 reset by us",
        attack.pipelined: "20 aborted",
        attack.deaf: "cut off",
        attack.lying: "1 closed, 4 answered, 1 aborted",
        attack.lingering: "10 released",
    }
    wait_for(lambda: holding(receiver).connections == 1, "the warming up to be over")
    before, echoes = holding(receiver), Echoes(receiver)
    targets = [Target(receiver, f"127.0.1.{number + 1}") for number in range(len(expected))]
    with echoes.running(), ThreadPoolExecutor(len(expected)) as pool:
        heard = list(pool.map(lambda run, target: run(target), expected, targets))
    assert dict(zip(expected, heard, strict=True)) == expected
    assert (echoes.failures, max(echoes.seconds) < PATIENT_SECONDS) == (0, True)

    def is_as_before() -> bool:  # though the attackers have closed nothing
        now = holding(receiver)
        counts = (now.threads <= before.threads, now.connections, now.bells, now.files)
        return counts == (True, before.connections, 0, 0)

    wait_for(is_as_before, f"the receiver to be as before: {before}")
    assert holding(receiver).resident < before.resident + 40
    for target in targets:
        target.close()


def test_one_address_does_not_take_all_associations(receiver: RunningNode) -> None:
    target, echoes = Target(receiver), Echoes(receiver)
    with echoes.running():
        heard = told([target.connect(attack.request()) for _ in range(100)])
    # For a moment, one that is just accepted counts twice; never are there more than allowed.
    assert heard in [f"{100 - count} closed, {count} accepted" for count in (30, 31, 32)]
    assert echoes.failures == 0
    target.close()


@pytest.mark.peer
def test_beyond_1024_descriptors() -> None:
    """Where ``select`` fails; in this process, whose descriptors the test can use up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1400:
        pytest.skip("this machine allows no more descriptors")
    entity = AE("ANY")
    entity.add_supported_context(Verification)
    handlers = [(evt.EVT_CONN_OPEN, hardener(Limits())), (evt.EVT_CONN_CLOSE, release)]
    server = entity.make_server(("127.0.0.1", 0), evt_handlers=handlers, server_class=HardServer)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(1100):
                stack.enter_context(open(os.devnull))
            command = [peer("echoscu"), "127.0.0.1", str(server.server_address[1])]
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
    finally:
        server.shutdown()
        thread.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
