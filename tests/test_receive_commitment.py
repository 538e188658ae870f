"""Storage commitment: the answer is true, and it reaches a scanner that has gone or is away for a while."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import MRImageStorage, UltrasoundImageStorage, generate_uid

from tests.conftest import RunningNode, free_port, make_study, start_node, study_uid_of, wait_for
from tests.dicom_scanner import Scanner, ask_commitment, sop_uids, store

PORT = free_port()
PEER = f'[[peers]]\nae_title = "AWAY"\nhost = "127.0.0.1"\nport = {PORT}\n'

# our own bad UIDs
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """Only reception: what is asked for is answered without any other role."""
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, roles=("receive",), quiet_seconds=600.0, more=PEER) as running:
        yield running


def test_committed_is_only_what_is_on_disk_with_its_content(
    node: RunningNode, tmp_path: Path
) -> None:
    paths = make_study(tmp_path / "sent", seed=71)
    scanner = Scanner()
    association = scanner.associate(node)
    store(association, *paths)
    rows = node.rows(
        f"select sop_uid, path from instances where study_uid = '{study_uid_of(paths[0])}'"
    )
    good, damaged, lost, other = sorted(rows)
    with (node.data / damaged[1]).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    (node.data / lost[1]).unlink()
    unknown = generate_uid()
    asked = [good[0], damaged[0], lost[0], unknown]
    assert ask_commitment(association, asked) == 0x0000
    failed = {damaged[0]: 0x0110, lost[0]: 0x0110, unknown: 0x0112}
    assert scanner.report() == (2, [good[0]], failed)
    assert ask_commitment(association, [other[0]], str(MRImageStorage)) == 0x0000
    assert scanner.report() == (2, [], {other[0]: 0x0119})
    assert ask_commitment(association, []) == 0x0115
    assert ask_commitment(association, ["../../etc"]) == 0x0115
    # The scanner sends again what is lost and what is damaged, and it is whole again.
    store(association, *paths)
    uids = sop_uids(paths)
    assert ask_commitment(association, uids, str(UltrasoundImageStorage)) == 0x0000
    assert scanner.report() == (1, uids, {})
    association.release()


def test_the_answer_is_brought_to_a_scanner_that_has_gone(
    node: RunningNode, tmp_path: Path
) -> None:
    paths = make_study(tmp_path / "sent", seed=72)
    scanner = Scanner("AWAY")
    association = scanner.associate(node)
    store(association, *paths)
    assert ask_commitment(association, sop_uids(paths)) == 0x0000
    association.release()  # at once: there is nobody to answer any more
    wait_for(lambda: attempts(node, "AWAY") >= 1, "an attempt while the scanner is away")
    pid = node.node.pid("receive")
    os.kill(pid, 9)  # and the request outlives the receiver
    wait_for(lambda: node.node.pid("receive") != pid, "a new receiver")
    with scanner.listening(PORT):
        assert scanner.report() == (1, sop_uids(paths), {})
        answered = "select count(*) from commitments where answered_at is null"
        wait_for(lambda: node.rows(answered) == [(0,)], "the answer on record")


def attempts(node: RunningNode, requestor: str) -> int:
    rows = node.rows(f"select attempts from commitments where requestor = '{requestor}'")
    return max((row[0] for row in rows), default=0)


def test_who_has_gone_and_has_no_address_is_said_not_to_know(
    node: RunningNode, tmp_path: Path
) -> None:
    paths = make_study(tmp_path / "sent", seed=73)
    association = Scanner("NOBODY").associate(node)
    store(association, *paths)
    assert ask_commitment(association, sop_uids(paths)) == 0x0000
    association.release()
    wait_for(lambda: attempts(node, "NOBODY") == 1, "the attempt")
    ((outcome, answered_at),) = node.rows(
        "select outcome, answered_at from commitments where requestor = 'NOBODY'"
    )
    assert outcome == (
        "4 of 4 committed; not told: its association is closed, and neither [[peers]] nor "
        "[[destinations]] names it"
    )
    assert answered_at is not None
