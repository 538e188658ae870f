"""An analysis that hangs, dies or lacks memory is set aside with its reason, and the next one runs."""

import os
from io import BytesIO
from pathlib import Path

import psutil
import pytest
import torch
from pydicom import dcmread

from dicom_node import jobs
from dicom_node.errors import MemoryShort
from models.analysis import OutOfMemory
from models.layer import LayerAnalysis
from models.scan import Scan
from tests.conftest import Pacs, RunningNode, make_study, start_node, study_uid_of, wait_for

SETTINGS = "[analyze]\ndeadline_seconds = 8.0\nrecycle_studies = 1\n"


def the_job(node: RunningNode, study_uid: str) -> jobs.Job:
    return jobs.show_job(node.settings, study_uid)[0]


def code_of_answer(pacs: Pacs, study_uid: str) -> str:
    """The reason in the report that says that a study was not analyzed; "" while there is none."""
    for content in list(pacs.kept.values()):
        report = dcmread(BytesIO(content))
        if (report.StudyInstanceUID, report.Modality) == (study_uid, "SR"):
            for item in report.ContentSequence:
                if item.ConceptNameCodeSequence[0].CodeMeaning == "Reason":
                    return str(item.ConceptCodeSequence[0].CodeValue)
    return ""


def analyses_of(node: RunningNode) -> psutil.Process | None:
    """The process apart: the child of infer that has not the interpreter's own chores."""
    children = psutil.Process(node.node.pid("infer")).children()
    found = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
    return found[0] if found else None


def test_what_no_analysis_survives_is_set_aside_and_the_node_goes_on(
    pacs: Pacs, tmp_path: Path
) -> None:
    ends = {
        13: ("did not end within 8 s", "too-slow", 1),
        17: ("was killed, as happens when memory runs out", "out-of-memory", 2),
        14: ("ran out of memory", "out-of-memory", 2),
    }
    with start_node(tmp_path, pacs.destination, more=SETTINGS) as node:
        infer = node.node.pid("infer")
        sent = {}
        for slices in (*ends, 15, 4, 5):
            paths = make_study(tmp_path / str(slices), seed=slices, slices=slices)
            node.send(*paths)
            sent[slices] = study_uid_of(paths[0])
        for slices, (reason, code, attempts) in ends.items():
            wait_for(lambda uid=sent[slices]: code_of_answer(pacs, uid), f"the answer to {slices}")
            job = the_job(node, sent[slices])
            assert (job.state, job.code) == ("failed to analyze", code)
            assert reason in job.reason
            assert code_of_answer(pacs, sent[slices]) == code
            assert node.runs().count(str(slices)) == attempts
        for slices in (15, 4, 5):
            wait_for(lambda uid=sent[slices]: the_job(node, uid).state == "delivered", str(slices))
        assert node.runs().count("15") == 2  # the second time in small pieces
        assert node.node.pid("infer") == infer  # none of this was the role's end
        before = wait_for(lambda: analyses_of(node), "the process")
        node.send(*make_study(tmp_path / "more", seed=21))
        wait_for(lambda: not before.is_running(), "the renewal after a study")
        apart = wait_for(lambda: analyses_of(node), "the new process")
        os.kill(infer, 9)
        wait_for(lambda: not apart.is_running(), "its end with its owner")


def test_what_torch_says_of_memory_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seam's own exception, from the allocator of a processor; a GPU has a class of its own."""
    analysis = LayerAnalysis(Path())

    def too_much(_self: LayerAnalysis, _scan: Scan) -> None:
        torch.empty(1 << 50)

    monkeypatch.setattr(LayerAnalysis, "_run", too_much)
    with pytest.raises(OutOfMemory):
        analysis.run(None)  # type: ignore[arg-type]

    def on_the_gpu(_self: LayerAnalysis, _scan: Scan) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LayerAnalysis, "_run", on_the_gpu)
    with pytest.raises(OutOfMemory):
        analysis.run(None)  # type: ignore[arg-type]
    assert MemoryShort.code.value == "out-of-memory"
