"""The surroundings of a node, and how they fail: small disks that run full, and a node that is watched."""

import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node import jobs
from tests.conftest import PATIENCE_SECONDS, RunningNode, study_uid_of, wait_for

MIB = 1 << 20
BLOCK = bytes(4096)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong around a node: what shall become of the studies, and the trial of it.

    ``run`` gets a folder of its own, says in a few words what was seen, and fails where that is not it.
    """

    name: str
    wanted: str
    run: Callable[[Path], str]


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    """A file system of its own at a folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def grow(folder: Path, mib: int) -> None:
    """Give a small disk another size."""
    subprocess.run(["mount", "-o", f"remount,size={mib}m", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Not a byte is free on a disk until the block ends."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while file.write(BLOCK):
                pass
    except OSError:
        yield
    finally:
        filler.unlink()


def readiness(port: int) -> str:
    """What /readyz says; "ready" where it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30):
            return "ready"
    except urllib.error.HTTPError as error:
        return error.read().decode()


def states(node: RunningNode, studies: Sequence[Sequence[Path]]) -> list[str]:
    """The state of each study."""
    found = (jobs.show_job(node.settings, study_uid_of(paths[0]))[0] for paths in studies)
    return [job.state for job in found]


def wait_until_delivered(
    node: RunningNode, studies: Sequence[Sequence[Path]], seconds: float = PATIENCE_SECONDS
) -> None:
    """All of them, unaided."""
    wanted = ["delivered"] * len(studies)
    wait_for(lambda: states(node, studies) == wanted, "all studies to be delivered", seconds)


def assert_sound(node: RunningNode) -> None:
    """SQLite says that its file is."""
    assert node.rows("pragma integrity_check") == [("ok",)]


SLEEP = """import select, time
time.sleep = lambda seconds: select.select([], [], [], max(seconds, 0)) and None
"""


class FakedClock:
    """The wall clock of the processes that are started with it: libfaketime, set while they run.

    Their folder must be in PYTHONPATH, as it is of a node that tests start.
    """

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        if not found:
            pytest.skip("faketime is not installed")
        # Version 0.9.10 fails each clock_nanosleep of a process whose monotonic clock it leaves alone.
        (folder / "sitecustomize.py").write_text(SLEEP)
        self._file = folder / "clock"
        self._ahead = 0
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """Move it by so much from where it is."""
        self._ahead += seconds
        scratch = self._file.with_suffix(".new")
        scratch.write_text(f"{self._ahead:+d}\n")
        scratch.replace(self._file)
