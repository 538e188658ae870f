"""The door: every command explains itself, mistakes are told in one line, and files in give results out."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.cli import app

COMMANDS = [
    ["serve"], ["demo"], ["process"], ["send"], ["phantom"], ["check"], ["train"], ["evaluate"],
    ["bundle"], ["bundle", "export"], ["bundle", "import"],
    ["jobs"], ["jobs", "list"], ["jobs", "show"], ["jobs", "retry"], ["jobs", "cancel"],
]  # fmt: skip


def run(
    *arguments: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One run of the installed command."""
    command = [str(Path(sys.executable).with_name("dicom-node")), *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study with shear wave, written by the command."""
    folder = tmp_path_factory.mktemp("phantom")
    done = run("phantom", "--out", folder, "--seed", "7", "--size", "16x128x128", "--shear-wave")
    assert done.returncode == 0, done.stderr
    return folder


def test_help_lists_every_command_and_says_research_use() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "Not a medical device" in done.stdout
    for command, *_ in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_explains_itself(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["process"], ["process", "/nowhere", "--out", "x"],
        ["phantom"], ["phantom", "--out", "x", "--form", "film"],
        ["send", "/dev/null", "--to", "nobody"], ["phantom", "--out", "x", "--size", "big"],
        ["jobs", "list", "--config", "/nowhere/node.toml"],
        ["train", "layer", "--data", "/nowhere"], ["train", "layer", "--data", "."],
        ["bundle", "import", ".", "--out", "x"], ["bundle", "export", "knee", "--out", "x"],
        ["evaluate", "layer", "--volumes", "0"],
        ["cohort", ".", "--out", "x", "--subjects", "/nowhere.csv"],
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_2_without_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dicom-node")), *arguments],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_a_folder_that_cannot_be_written_is_named_in_one_line() -> None:
    done = run("phantom", "--out", "/proc/nowhere", "--size", "4x64x64")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "/proc/nowhere" in done.stderr


def test_phantom_writes_a_study_and_its_truth(phantom: Path) -> None:
    truth = json.loads((phantom / "truth" / "truth.json").read_text())
    assert truth["seed"] == 7
    assert len(truth["thickness_mm"]) >= 5
    assert list((phantom / "truth").glob("*.nii.gz"))
    headers = [
        dcmread(path, stop_before_pixels=True)
        for path in sorted((phantom / "dicom").rglob("*.dcm"))
    ]
    assert len(headers) == 2
    assert len({header.StudyInstanceUID for header in headers}) == 1


@pytest.fixture(scope="module")
def processed(phantom: Path) -> Path:
    done = run("process", phantom / "dicom", "--out", phantom / "processed")
    assert done.returncode == 0, done.stderr
    return phantom / "processed"


def test_process_writes_objects_findings_and_picture(processed: Path) -> None:
    classes = {dcmread(path).Modality for path in processed.glob("*.dcm")}
    assert {"SEG", "SR"} <= classes
    findings = json.loads((processed / "findings.json").read_text())
    assert findings["studies"][0]["status"] == "analyzed"
    assert (processed / "overlay.png").read_bytes()[:4] == b"\x89PNG"
    assert "esearch use only" in (processed / "report.html").read_text()


def test_process_twice_gives_identical_objects(
    phantom: Path, processed: Path, tmp_path: Path
) -> None:
    """But for the time at which they were made; that the same time gives the same bytes is tested apart."""
    assert run("process", phantom / "dicom", "--out", tmp_path).returncode == 0
    first = {path.name: without_times(path) for path in processed.glob("*.dcm")}
    second = {path.name: without_times(path) for path in tmp_path.glob("*.dcm")}
    assert first
    assert [name for name in first | second if first.get(name) != second.get(name)] == []


def without_times(path: Path) -> str:
    """SHA-256 of all that is in an object beside dates and times."""
    dataset = dcmread(path)
    dataset.walk(
        lambda below, element: below.pop(element.tag) if element.VR in ("DA", "TM", "DT") else None
    )
    told = b"" if "PixelData" not in dataset else bytes(dataset.pop("PixelData").value)
    return hashlib.sha256(dataset.to_json().encode() + told).hexdigest()


def test_process_refuses_with_exit_3_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    done = run("process", tmp_path / "in", "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "there is no file" in done.stderr
    (tmp_path / "in" / "note.txt").write_text("not DICOM")
    done = run("process", tmp_path / "in", "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "note.txt" in done.stderr
    findings = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert findings["refused_files"][0]["path"].endswith("note.txt")


def test_no_help_loses_a_word_in_brackets() -> None:
    told = [each.callback.__doc__ or "" for each in app.registered_commands if each.callback]
    assert len(told) > 10
    assert [text for text in told if re.search(r"\[[a-z]+\]", text)] == []
