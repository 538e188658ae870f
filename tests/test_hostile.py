"""Hostile files, through real sockets and through the command: each is taken or refused, none does harm."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node import jobs
from dicom_node.assemble import assemble_study
from dicom_node.deliver import echo
from dicom_node.errors import StudyError
from dicom_node.process import find_studies
from tests.conftest import ROOT, Pacs, RunningNode, start_node, wait_for
from tests.hostile_files import SOURCES, as_ultrasound, files, read, send

LARGEST_BYTES = 10**9
LONGEST_SECONDS = 5.0  # of processor time
LONGEST_ANSWER_SECONDS = 30.0  # by the clock, on a machine that does much else
DONE = ["delivered"]
STUDIES = 12
"""The files are dealt out to so many studies, each of which must end whatever its neighbors hold."""

pytestmark = [
    SOURCES,
    # the test's own reading of hostile files, and our own bad UIDs that come back in answers
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All hostile files, as if they were ultrasound."""
    made = tmp_path_factory.mktemp("hostile")
    for number, path in enumerate(files()):
        content = as_ultrasound(path.read_bytes(), number % STUDIES)
        (made / f"{number:03}-{path.name}").write_bytes(content)
    return made


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def test_by_c_store_each_gets_an_answer_and_its_study_an_end(folder: Path, tmp_path: Path) -> None:
    archive = Pacs()
    names = (
        "receive",
        "work",
        "deliver",
    )  # none of the files becomes a scan that would have to be analyzed
    with start_node(tmp_path, archive.destination, roles=names) as node:
        roles = {role: node.node.pid(role) for role in names}
        statuses = []
        for number, path in enumerate(sorted(folder.iterdir())):
            hostile = read(path, number)
            started = time.monotonic()
            statuses.append(send(hostile, node.destination))
            assert time.monotonic() - started < LONGEST_ANSWER_SECONDS, path.name
        echo(node.destination, "SCANNER")
        taken = node.rows("select sop_uid, path from instances")
        assert len(taken) == statuses.count(0x0000) > 100
        for sop_uid, path in taken:
            keywords = ["SOPInstanceUID"]
            dataset = dcmread(node.data / path, specific_tags=keywords)
            in_meta = dataset.file_meta.MediaStorageSOPInstanceUID
            assert (dataset.get("SOPInstanceUID") or in_meta) == sop_uid
        assert {0x0000, 0xC000} <= set(statuses)
        wait_for(lambda: all_ended(node), "the end of every study", 120)
        for role, pid in roles.items():
            assert node.node.pid(role) == pid, f"{role} died"
            assert peak_bytes(pid) < LARGEST_BYTES, role
    archive.stop()


def all_ended(node: RunningNode) -> bool:
    """Every study is refused, with a code, and the archive has the report."""
    return all(
        job.state == "refused" and job.code and [each.status for each in job.deliveries] == DONE
        for job in jobs.list_jobs(node.settings)
    )


MEASURED = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)
"""In a process of its own: a child's peak begins with that of the process it was forked from."""


def test_by_the_command_each_file_has_its_reason(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[node]\nanalyses = ["tests.plain_analysis:analysis"]\n')
    command = [sys.executable, "-m", "dicom_node", "process", str(folder)]
    command += ["--out", str(tmp_path / "out"), "--config", str(config)]
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *command],
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
        )
    text = (tmp_path / "log").read_text()
    assert done.returncode == 3, text
    assert "Traceback" not in text
    assert int(done.stdout.split()[-1]) * 1024 < LARGEST_BYTES
    found = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert found["refused_files"]
    assert len(found["studies"]) >= STUDIES
    for study in found["studies"]:
        assert study["status"] == "refused"
        assert study["objects"] == ["answer.dcm"]
        assert study["reasons"]
        assert (Path(study["folder"]) / "answer.dcm").exists()


def test_alone_each_ends_in_time(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        studies, refused = find_studies([path])
        assert len(studies) + len(refused) == 1, path.name
        for study_uid, instances in studies.items():
            started = time.process_time()
            with contextlib.suppress(StudyError):
                assert assemble_study(study_uid, 0, instances, ()).acquisitions
            assert time.process_time() - started < LONGEST_SECONDS, path.name
