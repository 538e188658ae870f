"""report: the pages that people look at, as Secondary Capture and as PDF, and the maps beside them."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_node.report import Written, write_objects
from dicom_node.report.origin import open_origin
from dicom_node.report.parametric_map import quantities
from dicom_node.report.relief import heights_mm
from dicom_node.report.sheet import as_pdf, as_pixels, draw_sheets
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from models.scan import Geometry, Scan
from tests.conftest import peer
from tests.plain_analysis import Plain
from tests.report_phantom import Request, make_case, make_findings, make_scan
from tests.viewer_study import layers, picture

WANTED = (Destination("pacs", objects=("PM", "SC", "PDF")),)


def named(name: str) -> Request:
    """A shear-wave study of a person of a name."""

    def edit(dataset: Dataset) -> None:
        dataset.PatientName, dataset.PatientID = name, f"ID-{name}"

    return Request(Style(form="enhanced"), shear_wave=True, edit=edit)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Written]:
    folder = tmp_path_factory.mktemp("pages")
    study, outcomes = make_case(folder / "source", named("Quackenbush"))
    return write_objects(study, outcomes, folder, WANTED)


def read(written: Sequence[Written], kind: str) -> list[Dataset]:
    return [dcmread(item.path) for item in written if item.kind == kind]


def test_two_pages_are_one_series_of_images(written: Sequence[Written]) -> None:
    first, second = read(written, "page")
    assert first.SOPClassUID == second.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    for page in (first, second):
        assert page.BodyPartExamined == "LSPINE"
        assert page.BurnedInAnnotation == "NO"
        assert page.PatientName == "Quackenbush"
        assert page.pixel_array.shape == (992, 1402, 3)
        assert "Research use only" in page.DerivationDescription
        # The red band that says so.
        assert tuple(page.pixel_array[8, 700]) == (156, 31, 31)


def test_who_it_is_stands_in_the_header_alone(written: Sequence[Written], tmp_path: Path) -> None:
    study, outcomes = make_case(tmp_path / "source", named("Zebedee"))
    others = read(write_objects(study, outcomes, tmp_path, WANTED), "page")
    for one, other in zip(read(written, "page"), others, strict=True):
        assert one.PatientName != other.PatientName
        assert one.PixelData == other.PixelData


def test_the_document_holds_both_pages(written: Sequence[Written], tmp_path: Path) -> None:
    (document,) = read(written, "document")
    assert document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1"
    assert (document.Modality, document.MIMETypeOfEncapsulatedDocument) == (
        "DOC",
        "application/pdf",
    )
    pdf = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert pdf.count(b"/Type /Page ") == 2
    assert b"Quackenbush" not in pdf


@pytest.mark.peer
def test_the_document_says_what_a_reader_needs(written: Sequence[Written], tmp_path: Path) -> None:
    (document,) = read(written, "document")
    path = tmp_path / "pages.pdf"
    path.write_bytes(document.EncapsulatedDocument[: document.EncapsulatedDocumentLength])
    command = [peer("pdftotext"), "-layout", path, "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert text.count("RESEARCH USE ONLY. Not a medical device. Not for diagnosis.") == 2
    for words in (
        "Myofascial pain: probability 87 %",
        "Superficial fascial membrane",
        "The deep fat is out of focus.",
        "pixels 0.25 x 0.25 mm (measured), frames 0.5 mm apart (measured)",
        "-8.00 (-9.50 to -4.50)",
        "null 13.7",
    ):
        assert words in text


@pytest.mark.peer
def test_the_document_looks_like_the_page(tmp_path: Path) -> None:
    """Most of all the tint of the layers, which a PDF loses where images lie on each other."""
    labelmap = layers()
    sheets = draw_sheets(picture(labelmap), make_findings(labelmap), "layer")
    path = tmp_path / "pages.pdf"
    path.write_bytes(as_pdf(sheets))
    command = [peer("pdftoppm"), "-r", "120", "-l", "1", "-png", "-singlefile", path]
    subprocess.run([*command, tmp_path / "page"], check=True)
    with Image.open(tmp_path / "page.png") as shown:
        seen = np.asarray(shown.convert("RGB"), dtype=np.float64)
    page = as_pixels(sheets[0]).astype(np.float64)
    rows, columns = (min(lengths) for lengths in zip(seen.shape[:2], page.shape[:2], strict=True))
    (seen, seen_range), (page, range_) = (blocks(p[:rows, :columns]) for p in (seen, page))
    # Letters and edges are drawn a fraction of a pixel elsewhere.
    even = (seen_range < 6) & (range_ < 6)
    assert even.mean() > 0.6
    assert (np.ptp(page, axis=-1)[even] > 8).sum() > 4000
    assert np.abs(seen - page)[even].max() < 3.0


def blocks(pixels: np.ndarray, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Mean color of each block, and how far its pixels are apart."""
    rows, columns = (length // size for length in pixels.shape[:2])
    split = pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, 3)
    return split.mean(axis=(1, 3)), np.ptp(split, axis=(1, 3)).max(axis=-1)


def test_shear_wave_speed_is_a_map_in_the_units_of_the_standard(written: Sequence[Written]) -> None:
    saliency, speed = read(written, "map")
    assert saliency.SeriesInstanceUID != speed.SeriesInstanceUID
    shared = speed.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == ("130611", "DCM")
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "cm/s"
    for item in (saliency, speed):
        assert item.ContentCreatorName == "dicom-node"
        window = item.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
        top = float(item.pixel_array.max())
        assert window.VOILUTFunction == "LINEAR_EXACT"
        low, high = (window.WindowCenter + sign * window.WindowWidth / 2 for sign in (-1, 1))
        assert low == pytest.approx(0)
        assert high >= top * 0.999
    inside = make_scan().valid
    values = speed.pixel_array
    assert values.dtype == np.float32
    assert np.allclose(values[inside[::-1]], 250.0)  # frames ascend, slices descend
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    places = [
        np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for group in speed.PerFrameFunctionalGroupsSequence
    ]
    along = np.array(places) @ np.cross(cosines[:3], cosines[3:])
    assert (np.diff(along) > 0).all()


def test_where_the_scanner_gave_no_speed_the_map_is_zero(tmp_path: Path) -> None:
    study, (outcome,) = make_case(tmp_path / "source", named("Quackenbush"))
    origin = open_origin(study, outcome)
    voxels = origin.acquisition.scan.voxels.copy()
    voxels[2, :, :10] = 0  # not valid there
    scan = replace(origin.acquisition.scan, voxels=voxels)
    origin = replace(origin, acquisition=replace(origin.acquisition, scan=scan))
    _, speed = quantities(origin)
    assert not speed.values[:, :10].any()
    assert np.allclose(speed.values[:, 10:], 250.0)


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["page", "document", "map"])
def test_dciodvfy_finds_no_error(written: Sequence[Written], kind: str) -> None:
    for item in written:
        if item.kind == kind:
            command = [peer("dciodvfy"), item.path]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
            assert not errors, errors[:3]


def test_findings_without_decision_or_millimeters_can_be_drawn() -> None:
    scan = make_scan()
    voxels, valid = scan.voxels[:, :5], scan.valid[:5]
    scan = replace(scan, voxels=voxels, valid=valid, geometry=Geometry())
    for figure in draw_sheets(scan, Plain().run(scan), "plain"):
        assert as_pixels(figure).std() > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_height_is_the_number_of_rows_of_one_run_that_ends_in_the_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.sort(random.integers(0, 4, (2, 6, 3)).astype(np.uint8), axis=1)
    shuffled = np.where(random.random((2, 1, 3)) < 0.5, labels, random.permuted(labels, axis=1))
    valid = np.ones(labels.shape, bool)
    valid[:, -1] = random.random((2, 3)) < 0.5
    affine = np.diag([1.0, 0.3, 1.0, 1.0])
    voxels = np.zeros((1, *labels.shape), np.float32)
    scan = Scan(voxels, ("b-mode",), ("1",), valid, affine, Geometry("measured"))
    found = heights_mm(scan, shuffled, 2)
    for position, column in np.ndindex(found.shape):
        rows = np.flatnonzero(shuffled[position, :, column] == 2)
        whole = rows.size and np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))
        whole = whole and rows[-1] < 5 and valid[position, rows[-1] + 1, column]
        expected = rows.size * 0.3 if whole else np.nan
        assert found[position, column] == pytest.approx(expected, nan_ok=True)
