"""Examples for training: masks of SEG objects, ours and others', land on the voxels they were drawn on."""

import json
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicom_node.errors import ExamplesError
from dicom_node.examples import write_examples
from dicom_node.report import write_objects
from dicom_node.scanner import Style
from models.scan import Scan
from models.training.subjects import read_words
from tests.report_phantom import Request, make_case, make_labelmap
from tests.report_reading import NO_PAGES

FORMS = ("enhanced", "enhanced-apex", "multiframe", "frames", "frames-plain")
NAMES = ("Skin", "Fat above", "Scarpa", "Fat below", "Thoracolumbar fascia", "Erector")
Change = Callable[[dict[str, object], np.ndarray], np.ndarray]


@pytest.fixture
def names(tmp_path: Path) -> dict[str, int]:
    """What every site gets, and the words of another drawing program's user."""
    folder = tmp_path / "words"
    folder.mkdir()
    lines = [f'"{name}" = {number}' for number, name in enumerate(NAMES, start=1)]
    text = "\n".join(["[layers]", *lines])
    (folder / "layers.toml").write_text(text, encoding="utf-8")
    return dict(read_words(folder).layers)


def read_one(out: Path) -> tuple[Scan, np.ndarray | None]:
    (entry,) = json.loads((out / "examples.json").read_text(encoding="utf-8"))["examples"]
    labels = np.load(out / entry["labels"]) if entry["labels"] else None
    return Scan.load(out / entry["scan"]), labels


@pytest.mark.parametrize("form", FORMS)
def test_our_own_masks_come_back_from_every_form(
    tmp_path: Path, names: dict[str, int], form: str
) -> None:
    study, outcomes = make_case(tmp_path / "data" / "images", Request(Style(form=form)))
    (tmp_path / "data" / "results").mkdir()
    write_objects(study, outcomes, tmp_path / "data" / "results", NO_PAGES)
    said = write_examples(tmp_path / "data", tmp_path / "out", names, own=True)
    scan, labels = read_one(tmp_path / "out")
    np.testing.assert_array_equal(labels, make_labelmap())
    np.testing.assert_array_equal(scan.voxels, study.acquisitions[0].scan.voxels)
    assert any("made by a program" in line for line in said)


def edited(dataset: Dataset, change: str) -> Dataset:
    """Our SEG after another program had it in hand."""
    if "renamed" in change:
        dataset.Manufacturer = "Editor"
    if "stripped" in change:
        del dataset.ContributingEquipmentSequence
    for segment in dataset.SegmentSequence:
        if "drawn" in change:
            segment.SegmentAlgorithmType = "SEMIAUTOMATIC"
    return dataset


@pytest.mark.parametrize(
    ("change", "taken"),
    [("", False), ("renamed", False), ("renamed, stripped", False), ("drawn", True),
     ("renamed, drawn", True)],
)  # fmt: skip
def test_our_own_masks_are_no_truth_unless_told(
    tmp_path: Path, names: dict[str, int], change: str, taken: bool
) -> None:
    """They would teach the network its own mistakes; what a person changed of them is that person's."""
    data = tmp_path / "data"
    study, outcomes = make_case(data / "images", Request(Style(form="frames")))
    (data / "results").mkdir()
    written = write_objects(study, outcomes, data / "results", NO_PAGES)
    (path,) = (item.path for item in written if dcmread(item.path).Modality == "SEG")
    edited(dcmread(path), change).save_as(path)
    if taken:
        assert not any("--own" in line for line in write_examples(data, tmp_path / "out", names))
        return
    with pytest.raises(
        ExamplesError, match=r"1 of 1 SEG are results of this program.*--own"
    ) as caught:
        write_examples(data, tmp_path / "out", names)
    assert path.name in str(caught.value)
    assert not (tmp_path / "out").exists()
    said = write_examples(data, tmp_path / "out", names, own=True)
    assert any("1 of 1 SEG are results of this program" in line for line in said)
    (entry,) = json.loads((tmp_path / "out" / "examples.json").read_text())["examples"]
    assert entry["own"]


def other_seg(
    folder: Path, kind: str = "BINARY", flips: tuple[int, ...] = (), **options: object
) -> Path:
    """A SEG as another program writes it: its own planes, here flipped along the axes of the labelmap."""
    study, _ = make_case(folder / "images", Request(Style(form="frames")))
    scan, paths = study.acquisitions[0].scan, study.acquisitions[0].sources[0].paths
    labelmap = np.flip(make_labelmap(), flips)
    affine = scan.affine.copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (scan.shape[axis] - 1)
        affine[:3, axis] *= -1
    _, row_mm, column_mm = scan.spacing_mm
    segments = [
        hd.seg.SegmentDescription(
            number,
            name,
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(options.get("names", NAMES), start=1)
    ]
    positions = [affine[:3] @ (number, 0, 0, 1) for number in range(scan.shape[0])]
    values = labelmap
    if kind == "FRACTIONAL":
        values = (labelmap[..., None] == np.arange(1, 7)).astype(np.float32) * 0.8
    seg = hd.seg.Segmentation(
        source_images=[dcmread(path) for path in paths],
        pixel_array=values,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="other",
        manufacturer_model_name="other",
        software_versions="1",
        device_serial_number="1",
        pixel_measures=hd.PixelMeasuresSequence((row_mm, column_mm), scan.spacing_mm[0]),
        plane_orientation=hd.PlaneOrientationSequence(
            "PATIENT", np.r_[affine[:3, 2] / column_mm, affine[:3, 1] / row_mm]
        ),
        plane_positions=[hd.PlanePositionSequence("PATIENT", place) for place in positions],
    )
    path = folder / "other.dcm"
    seg.save_as(path)
    return path


@pytest.mark.parametrize(
    ("kind", "flips"),
    [
        ("BINARY", ()),
        ("BINARY", (1,)),
        ("BINARY", (2,)),
        ("BINARY", (0, 2)),
        ("FRACTIONAL", (1, 2)),
        ("LABELMAP", (0, 1, 2)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_masks_of_others_land_where_they_lie_in_the_patient(
    tmp_path: Path, names: dict[str, int], kind: str, flips: tuple[int, ...]
) -> None:
    other_seg(tmp_path, kind, flips)
    assert write_examples(tmp_path, tmp_path / "out", names) == ()
    _, labels = read_one(tmp_path / "out")
    np.testing.assert_array_equal(labels, make_labelmap())


def test_a_segment_that_is_no_layer_is_named_and_can_be_mapped(
    tmp_path: Path, names: dict[str, int]
) -> None:
    path = other_seg(tmp_path, names=("Skin", "Ligament", *NAMES[2:]))
    with pytest.raises(ExamplesError, match=r"segment 2 'Ligament'.*layers\.toml") as caught:
        write_examples(tmp_path, tmp_path / "out", names)
    assert str(dcmread(path).SOPInstanceUID) in str(caught.value)
    write_examples(tmp_path, tmp_path / "out", names | {"ligament": 0})
    _, labels = read_one(tmp_path / "out")
    assert labels is not None
    assert set(np.unique(labels)) == {0, 1, 3, 4, 5, 6}
    write_examples(tmp_path, tmp_path / "out", names | {"#2": 4})
    _, labels = read_one(tmp_path / "out")
    np.testing.assert_array_equal(labels == 4, np.isin(make_labelmap(), (2, 4)))


def test_a_mask_without_its_scan_and_a_layer_drawn_twice_are_errors(
    tmp_path: Path, names: dict[str, int]
) -> None:
    path = other_seg(tmp_path)
    again = dcmread(path)
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    again.save_as(tmp_path / "again.dcm")
    with pytest.raises(ExamplesError, match="both draw layer 1"):
        write_examples(tmp_path, tmp_path / "out", names)
    (tmp_path / "again.dcm").unlink()
    for image in (tmp_path / "images").iterdir():
        dataset = dcmread(image)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = "1.2.3"
        dataset.save_as(image)
    with pytest.raises(ExamplesError, match="none of the scans"):
        write_examples(tmp_path, tmp_path / "out", names)


def test_a_frame_of_mask_outside_its_scan_is_named(tmp_path: Path, names: dict[str, int]) -> None:
    path = other_seg(tmp_path)
    seg = dcmread(path)
    place = seg.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence[0]
    place.ImagePositionPatient[2] = 500.0
    seg.save_as(path)
    with pytest.raises(ExamplesError, match=r"frame 5, segment .*outside its scan"):
        write_examples(tmp_path, tmp_path / "out", names)


def test_a_scan_without_masks_is_an_example_too(tmp_path: Path, names: dict[str, int]) -> None:
    make_case(tmp_path / "data", Request())
    write_examples(tmp_path / "data", tmp_path / "out", names)
    assert read_one(tmp_path / "out")[1] is None


def test_no_dicom_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no DICOM")
    assert write_examples(tmp_path, tmp_path / "out", {}) == ()
    assert not (tmp_path / "out").exists()
