"""process, before any analysis: which files are instances of which study, and what the others are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from dicom_node.process import find_studies, process
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Destination, Node, Settings
from models.scan import Geometry, Scan
from tests.conftest import make_study


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("study_uid", ["..", ".", "1..2", "1.2.", "../x"])
def test_a_study_uid_that_names_another_folder_is_refused(study_uid: str, tmp_path: Path) -> None:
    path = make_study(tmp_path, slices=2)[0]
    dataset = dcmread(path)
    with disable_value_validation():
        dataset.StudyInstanceUID = study_uid
        dataset.save_as(path)
    studies, unreadable = find_studies([path])
    assert studies == {}
    assert [file for file, _ in unreadable] == [path]


def test_damaged_file_meta_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    path = make_study(tmp_path, slices=2)[0]
    content = bytearray(path.read_bytes())
    transfer_syntax = content.index(b"\x02\x00\x10\x00UI")
    content[transfer_syntax + 4 : transfer_syntax + 6] = b"BB"  # no value representation
    path.write_bytes(content)
    _, ((file, reason),) = find_studies([path])
    assert file == path
    assert "NotImplementedError" in reason


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of what is odd in these files
@pytest.mark.skipif(
    "DICOM_NODE_TEST_DATA" not in os.environ, reason="DICOM_NODE_TEST_DATA is not set"
)
def test_hostile_files_are_taken_or_refused_with_a_reason() -> None:
    folder = Path(os.environ["DICOM_NODE_TEST_DATA"], "hostile")
    studies, unreadable = find_studies([folder])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(map(len, studies.values())) + len(unreadable) == len(files) > 100


def test_viewers_that_will_not_show_the_layers_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two layers on 201 frames of 6 x 6 pixels: too many for one viewer, no whole bytes for the other."""
    shape = (201, 6, 6)
    geometry = Geometry("measured", "measured", "measured")
    affine = np.diag([0.5, 0.5, 0.5, 1.0])[[2, 1, 0, 3]]
    gray = np.random.default_rng(0).integers(1, 255, (1, *shape)).astype(np.float32)
    scan = Scan(gray, ("b-mode",), ("1",), np.ones(shape, bool), affine, geometry)
    paths = write_study(scan, tmp_path / "in", Style())
    settings = Settings(node=Node(analyses=("tests.plain_analysis:analysis",)))
    assert process(paths, tmp_path / "out", settings) == 0
    (study,) = json.loads((tmp_path / "out" / "findings.json").read_text())["studies"]
    weasis, ohif = study["cautions"]
    assert weasis.startswith("Segmentation of 402 frames: Weasis")
    assert ohif.startswith("Segmentation of 6 x 6 pixels: OHIF")
    assert ohif in capsys.readouterr().err


def _study(folder: Path) -> list[Path]:
    shape = (3, 40, 40)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])[[2, 1, 0, 3]]
    gray = np.random.default_rng(0).integers(1, 255, (1, *shape)).astype(np.float32)
    geometry = Geometry("measured", "measured", "measured")
    scan = Scan(gray, ("b-mode",), ("1",), np.ones(shape, bool), affine, geometry)
    return write_study(scan, folder, Style())


def test_each_destination_has_a_folder_with_what_it_would_get(tmp_path: Path) -> None:
    destinations = (
        Destination("pacs", objects=("SEG", "SR")),
        Destination("stone/1", objects=("SEG", "SR"), sr="comprehensive", encoding="deflated"),
        Destination("Stone_1", objects=("SEG",), seg="labelmap", companion=True),
        Destination("..", objects=("SEG",), refusals=False),
    )
    settings = Settings(
        node=Node(analyses=("tests.plain_analysis:analysis",)), destinations=destinations
    )
    out = tmp_path / "out"
    assert process(_study(tmp_path / "in"), out, settings) == 0
    folders = {path.name for path in out.iterdir() if path.is_dir()}
    assert folders == {"pacs", "stone_1", "Stone_1-2", "_"}
    assert not list(out.glob("*.dcm"))

    def read(folder: str) -> dict[str, list[Dataset]]:
        kinds: dict[str, list[Dataset]] = {}
        for path in sorted((out / folder).iterdir()):
            kinds.setdefault(path.name.split("-")[0], []).append(dcmread(path))
        return kinds

    assert set(read("pacs")) == {"segmentation", "measurements"}
    (report,) = read("stone_1")["measurements"]
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert report.file_meta.TransferSyntaxUID.is_deflated
    (mask,) = read("Stone_1-2")["segmentation"]
    assert mask.SegmentationType == "LABELMAP"
    assert len(read("Stone_1-2")["companion"]) == 3
    (study,) = json.loads((out / "findings.json").read_text())["studies"]
    assert all((out / name).is_file() for name in study["objects"])
    assert "pacs/segmentation-0-plain.dcm" in study["objects"]


def test_a_refusal_goes_to_those_who_want_it(tmp_path: Path) -> None:
    destinations = (Destination("pacs"), Destination("silent", refusals=False))
    settings = Settings(
        node=Node(analyses=("tests.plain_analysis:analysis",)), destinations=destinations
    )
    path = _study(tmp_path / "in")[0]
    dataset = dcmread(path)
    dataset.Modality = "OT"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.save_as(path)
    assert process([path], tmp_path / "out", settings) == 3
    assert [file.name for file in (tmp_path / "out").rglob("*.dcm")] == ["answer.dcm"]
    assert (tmp_path / "out" / "pacs" / "answer.dcm").is_file()
