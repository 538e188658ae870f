"""Memory: what the kernel does to an analysis that outgrows its limit, and what the roles hold over time."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node import jobs
from tests.conftest import Pacs, make_study, start_node, study_uid_of, wait_for
from tests.surroundings import MIB, Fault, states, wait_until_delivered

GROUP = Path("/sys/fs/cgroup/memory/dicom-node-faults")
STUDIES, WARM = 50, 10


@contextmanager
def limited(mib: int) -> Iterator[Path]:
    """A control group (version 1) with so much memory; the file for the numbers of its processes."""
    try:
        GROUP.mkdir(exist_ok=True)  # left by one that was cut off
        (GROUP / "memory.limit_in_bytes").write_text(str(mib * MIB))
    except OSError as error:
        pytest.skip(f"no memory can be limited here: {error.strerror}")
    try:
        yield GROUP / "cgroup.procs"
    finally:
        with contextlib.suppress(OSError):
            GROUP.rmdir()


def children(pid: int) -> list[int]:
    """Of whichever thread."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def outgrown(folder: Path) -> str:
    """The role and what it starts share the limit, as under ``MemoryMax``; 16 slices take 2 GiB."""
    archive = Pacs()
    with limited(900) as group, start_node(folder, archive.destination) as node:
        infer, pids = node.node.pid("infer"), node.node.pids()
        for pid in (infer, *children(infer)):
            group.write_text(str(pid))
        study, good = (make_study(folder / f"sent-{n}", seed=381 + n, slices=n) for n in (16, 4))
        node.send(*study)
        wait_for(lambda: states(node, [study]) == ["failed to analyze"], "the dead letter", 200)
        reason = jobs.show_job(node.settings, study_uid_of(study[0]))[0].reason
        assert "memory" in reason, reason
        tries = len(node.runs())
        assert tries == 2, f"{tries} attempts"
        wait_for(lambda: len(archive.kept) == 1, "the answer that says why")
        node.send(*good)
        wait_until_delivered(node, [good], 120)
        assert node.node.pids() == pids, "a role died with it"
    archive.stop()
    return f"killed in both attempts, then: {reason}; answered; no role died, the next study is delivered"


def _analyses(infer: int) -> list[int]:
    """Of the role's children the one that runs the analyses, not the one that counts its semaphores."""
    return [
        pid for pid in children(infer) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def over_studies(folder: Path) -> str:
    """What each role holds after 10 studies, and after 50."""
    archive = Pacs()
    with start_node(folder, archive.destination) as node:
        held: list[dict[str, float]] = []
        for number in range(STUDIES):
            paths = make_study(folder / f"sent-{number}", seed=400 + number)
            node.send(*paths)
            if number + 1 in (WARM, STUDIES):
                expected = 2 * (number + 1)
                wait_for(lambda: len(archive.kept) == expected, "the studies so far", 300)  # noqa: B023 - waited for here
                time.sleep(2)
                roles = {role: resident_mib(pid) for role, pid in node.node.pids().items()}
                (child,) = _analyses(node.node.pid("infer"))
                held.append(roles | {"analyses": resident_mib(child)})
    archive.stop()
    first, last = held
    told = ", ".join(f"{role} {first[role]:.0f} to {last[role]:.0f} MiB" for role in last)
    grown = {role: last[role] - first[role] for role in last}
    assert max(grown.values()) < 40, told
    return f"after {WARM} and {STUDIES} studies: {told}"


FAULTS = (
    Fault(
        "analysis outgrows a memory limit of the kernel",
        "second attempt, clear dead letter, roles live, next study delivered",
        outgrown,
    ),
    Fault("memory of the roles over 50 studies", "no growth beyond 1 MiB a study", over_studies),
)
