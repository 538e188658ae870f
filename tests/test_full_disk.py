"""Disks that run full under work in hand: the stages wait, and go on by themselves."""

import os
from pathlib import Path

import pytest

from dicom_node.errors import Busy
from tests.conftest import Pacs, free_port, make_study, start_node, wait_for
from tests.surroundings import (
    assert_sound,
    full,
    readiness,
    small_disk,
    states,
    wait_until_delivered,
)


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


def said_again(said: list[str]) -> int:
    """How often an analysis whose findings found no room was begun again."""
    return "".join(said).count('"event": "failed to analyze"')
