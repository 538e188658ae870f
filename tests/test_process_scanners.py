"""What hand-held scanners write: taken where nothing is to be guessed, else the fault is named."""

import json
import os
from pathlib import Path

import pytest
from pydicom import config, dcmread
from pydicom.encaps import encapsulate, generate_frames

from dicom_node.assemble import assemble_study
from dicom_node.process import find_studies, process
from dicom_node.settings import Node, Settings
from tests.assemble_pictures import echo, in_color, jpeg, region, write_frames

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # the tests' own reading of odd headers
PLAIN = Settings(node=Node(analyses=("tests.plain_analysis:analysis",)))


def hand_held(folder):
    """RGB declared over JFIF, no character set that is one, dashes for what is unknown, one UID left out."""
    gray = in_color(echo())

    def change(dataset):
        dataset.PhotometricInterpretation = "RGB"
        dataset.PixelData = encapsulate([jpeg(frame, 90) for frame in gray])
        dataset.SpecificCharacterSet = "ISO_IR"
        dataset.PatientID = dataset.PatientName = dataset.PatientBirthDate = "--"
        dataset.PatientSex = "Male"
        for keyword in ("Manufacturer", "InstanceNumber", "SeriesNumber"):
            delattr(dataset, keyword)

    with config.disable_value_validation():
        (path,) = write_frames(folder, gray, [region(0, 0, 79, 63)], quality=90, change=change)
        leave_out(path, "SOPInstanceUID")
    return path


def leave_out(path, keyword):
    dataset = dcmread(path)
    delattr(dataset, keyword)
    dataset.save_as(path, enforce_file_format=False)


def processed(path, out):
    status = process([path], out, PLAIN)
    return status, json.loads((out / "findings.json").read_text(encoding="utf-8"))


def test_a_hand_held_scanner_is_taken(tmp_path):
    path = hand_held(tmp_path / "scan")
    stated = dcmread(path).file_meta.MediaStorageSOPInstanceUID
    status, summary = processed(path, tmp_path / "out")
    assert (status, summary["refused_files"]) == (0, [])
    (study,) = summary["studies"]
    assert study["status"] == "analyzed"
    mask = dcmread(next((tmp_path / "out").glob("segmentation*.dcm")))
    assert mask.PatientBirthDate == mask.PatientSex == ""
    (series,) = mask.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [stated]


def test_a_uid_that_stands_nowhere_is_named(tmp_path):
    path = hand_held(tmp_path)
    dataset = dcmread(path)
    del dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.save_as(path, enforce_file_format=False)
    studies, ((_, reason),) = find_studies([path])
    assert studies == {}
    assert reason == "the scanner wrote no SOP Instance UID (0008,0018)"


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG picture"),
        (b"\0\0\0\x20ftypisom", "an MP4 or QuickTime film"),
        (b"RIFF\0\0\0\0AVI ", "an AVI film"),
    ],
)
def test_an_exported_picture_or_film_is_named(tmp_path, start, name):
    path = tmp_path / "export"
    path.write_bytes(start + bytes(400))
    _, ((_, reason),) = find_studies([path])
    assert reason == f"{name}, not DICOM: let the scanner or its app send or export DICOM"


@pytest.mark.skipif(
    "DICOM_NODE_TEST_DATA" not in os.environ,
    reason="DICOM_NODE_TEST_DATA names no folder of real files",
)
def test_real_hand_held_scanners(tmp_path):
    """One has a single frame, so it is repeated here: a film is taken with its spacing and its colors."""
    folder = Path(os.environ["DICOM_NODE_TEST_DATA"]) / "us_dicom" / "pocus_vendors"
    studies, unreadable = find_studies([folder])
    assert sum(map(len, studies.values())) == 2
    assert all("not DICOM" in reason for _, reason in unreadable)
    dataset = dcmread(folder / "sonoque_anechoic-3mm-3mm.dcm")
    (code,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData, dataset.NumberOfFrames = encapsulate([code, code]), 2
    path = tmp_path / "film.dcm"
    with config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=False)
    ((study_uid, instances),) = find_studies([path])[0].items()
    scan = assemble_study(study_uid, 0, instances, ()).acquisitions[0].scan
    assert scan.spacing_mm[1:] == pytest.approx((0.0291, 0.0291))
    assert "pixel_notes" not in scan.facts
    assert scan.valid.mean() > 0.5
