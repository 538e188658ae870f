"""Memory: what the kernel does to an analysis that outgrows its limit, and what the roles hold over time."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Pacs, RunningNode, make_study, start_node, study_uid_of, wait_for
from tests.surroundings import MIB, Fault, states, wait_until_delivered

GROUP = Path("/sys/fs/cgroup/memory/dicom-node-faults")
STUDIES, WARM = 50, 10


@contextmanager
def limited(mib: int) -> Iterator[Path]:
    """A control group (version 1) whose processes have so much memory together; the file for their numbers."""
    try:
        GROUP.mkdir()
        (GROUP / "memory.limit_in_bytes").write_text(str(mib * MIB))
    except OSError as error:
        pytest.skip(f"no memory can be limited here: {error.strerror}")
    try:
        yield GROUP / "cgroup.procs"
    finally:
        with contextlib.suppress(OSError):
            GROUP.rmdir()


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(each) for each in path.read_text().split()] if path.exists() else []


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def outgrown(folder: Path) -> str:
    """16 slices take more than the group has; each process of the analyses is put into it as it comes."""
    archive = Pacs()
    greedy = "[analyze]\ndeadline_seconds = 120"
    with limited(400) as group, start_node(folder, archive.destination, more=greedy) as node:
        infer, pids = node.node.pid("infer"), node.node.pids()
        study = make_study(folder / "greedy", seed=381, slices=16)
        node.send(*study)
        put: set[int] = set()

        def is_over() -> bool:
            for pid in set(_analyses(infer)) - put:
                with contextlib.suppress(OSError):
                    group.write_text(str(pid))
                    put.add(pid)
            return states(node, [study])[0] not in ("received", "assembled")

        wait_for(is_over, "the end of the study", 200)
        (state,) = states(node, [study])
        assert state == "failed to analyze", state
        wait_for(lambda: len(archive.kept) == 1, "the answer that says why")
        reason = _reason(node, study)
        assert "memory" in reason, reason
        assert node.node.pids() == pids, "a role died with it"
        for pid in _analyses(infer):  # the one that is there now may live as it likes
            with contextlib.suppress(OSError):
                (GROUP.parent / "cgroup.procs").write_text(str(pid))
        good = make_study(folder / "good", seed=382)
        node.send(*good)
        wait_until_delivered(node, [good], 120)
    archive.stop()
    return f"killed {len(put) - 1} times at least, then {state!r}: {reason}; the next study is delivered"


def _analyses(infer: int) -> list[int]:
    """Of the role's children the one that runs the analyses, not the one that counts its semaphores."""
    return [
        pid for pid in children(infer) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def _reason(node: RunningNode, paths: tuple[Path, ...]) -> str:
    from dicom_node import jobs

    return jobs.show_job(node.settings, study_uid_of(paths[0]))[0].reason


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
