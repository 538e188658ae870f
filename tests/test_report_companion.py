"""report: companion images of square pixels, and results that lie on them."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

from dicom_node.report import Written, write_objects
from dicom_node.report.square import square_findings, square_grid, square_scan
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from dicom_node.study import Outcome, Study
from models.scan import Geometry, Scan
from tests.conftest import peer
from tests.report_phantom import SHAPE, Request, make_case, make_findings, make_labelmap
from tests.report_reading import by_kind, groups, named, tracking

SPACING_MM = (0.5, 0.2, 0.25)
WANTED = (Destination("simple", objects=("SEG", "SR"), companion=True),)


@dataclass(frozen=True)
class Case:
    study: Study
    outcome: Outcome
    written: Sequence[Written]

    def images(self) -> list[Dataset]:
        return [dcmread(item.path) for item in self.written if item.kind == "companion"]

    def read(self, kind: str) -> Dataset:
        return dcmread(by_kind(self.written)[kind].path)


@pytest.fixture(scope="module", params=["enhanced", "multiframe"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("companion")
    wanted = Request(Style(form=request.param), spacing_mm=SPACING_MM)
    study, outcomes = make_case(folder / "source", wanted)
    return Case(study, outcomes[0], write_objects(study, outcomes, folder, WANTED))


def test_every_slice_becomes_an_image_of_square_pixels(case: Case) -> None:
    images = case.images()
    (source,) = case.study.acquisitions[0].sources[0].headers()
    assert len(images) == SHAPE[0]
    assert len({image.SeriesInstanceUID for image in images}) == 1
    for number, image in enumerate(images, start=1):
        assert image.SOPClassUID == "1.2.840.10008.5.1.4.1.1.6.1"
        assert image.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert image.PixelSpacing == [0.2, 0.2]
        # 37 and 41.25 of them, and up to the next four.
        assert (image.Rows, image.Columns) == (40, 44)
        (reference,) = image.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert reference.ReferencedFrameNumber == number
        assert image.FrameOfReferenceUID == case.read("segmentation").FrameOfReferenceUID


def test_what_lies_outside_the_tissue_is_black(case: Case) -> None:
    scan = case.study.acquisitions[0].scan
    grid = square_grid(scan)
    valid = square_scan(scan, grid).valid
    for position, image in enumerate(case.images()):
        assert not image.pixel_array[~valid[position]].any()
        assert image.pixel_array[valid[position]].min() > 0


def test_the_mask_lies_on_the_images_where_it_lay_on_the_source(case: Case) -> None:
    mask, images = case.read("segmentation"), case.images()
    assert (mask.Rows, mask.Columns) == (images[0].Rows, images[0].Columns)
    places = {image.SOPInstanceUID: number for number, image in enumerate(images)}
    orientation = mask.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    for group, frame in zip(mask.PerFrameFunctionalGroupsSequence, mask.pixel_array, strict=True):
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        image = images[places[reference.ReferencedSOPInstanceUID]]
        assert "ReferencedFrameNumber" not in reference
        place = group.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(place, image.ImagePositionPatient)
        assert np.allclose(orientation.ImageOrientationPatient, image.ImageOrientationPatient)
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels = case.outcome.findings.segmentation.labelmap[places[image.SOPInstanceUID]]
        columns = np.floor((np.arange(mask.Columns) + 0.5) * 0.2 / 0.25).astype(int)
        rows, inside = slice(0, SHAPE[1]), columns < SHAPE[2]
        assert np.array_equal(frame[rows, inside] > 0, labels[:, columns[inside]] == number)
        assert not frame[SHAPE[1] :].any()
        assert not frame[:, ~inside].any()


def test_calipers_can_be_drawn_and_are_as_long(case: Case) -> None:
    lines = [g for g in groups(case.read("measurements")) if ":Length:" in tracking(g)[0]]
    assert len(lines) == 6
    uids = {image.SOPInstanceUID for image in case.images()}
    for group in lines:
        (number,) = named(group, "Thickness")
        (line,) = [item for item in number.ContentSequence if item.ValueType == "SCOORD"]
        (x0, y0, x1, y1) = line.GraphicData
        length_mm = np.hypot(x1 - x0, y1 - y0) * 0.2
        assert number.MeasuredValueSequence[0].NumericValue == pytest.approx(length_mm, abs=1e-3)
        (image,) = line.ContentSequence
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID in uids


def test_the_scanner_stays_what_scanned(case: Case) -> None:
    for kind in ("companion", "segmentation", "measurements"):
        first, ours, *_ = case.read(kind).ContributingEquipmentSequence
        assert first.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Acquisition Equipment"
        assert first.ManufacturerModelName == "stand-in scanner"
        assert ours.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"
        assert "DeviceUID" in ours


def test_it_is_another_segmentation_than_that_on_the_source(case: Case, tmp_path: Path) -> None:
    plain = (Destination("plain", objects=("SEG",)),)
    (other,) = write_objects(case.study, [case.outcome], tmp_path, plain)
    assert other.sop_instance_uid != case.read("segmentation").SOPInstanceUID


@pytest.mark.peer
def test_dciodvfy_finds_no_error(case: Case) -> None:
    for item in [*case.written[:1], *case.written[-2:]]:
        command = [peer("dciodvfy"), item.path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert not errors, (item.kind, errors[:3])


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 0.6), st.floats(0.05, 0.6))
def test_a_point_keeps_its_place_in_the_patient(row_mm: float, column_mm: float) -> None:
    affine = np.array(
        [[0, 0, column_mm, 3.0], [0, row_mm, 0, -7.0], [0.5, 0, 0, 11.0], [0, 0, 0, 1]]
    )
    voxels = np.zeros((1, *SHAPE), np.float32)
    valid = np.ones(SHAPE, bool)
    scan = Scan(voxels, ("b-mode",), ("1",), valid, affine, Geometry("measured"))
    grid = square_grid(scan)
    squared = square_scan(scan, grid)
    assert np.allclose(squared.spacing_mm[1:], min(row_mm, column_mm))
    findings = make_findings(make_labelmap(), (0.5, row_mm, column_mm))
    moved = square_findings(findings, scan, grid)
    for before, after in zip(findings.measurements, moved.measurements, strict=True):
        if before.line and after.line:
            for old, new in zip(before.line, after.line, strict=True):
                here, there = scan.affine @ [*old, 1.0], squared.affine @ [*new, 1.0]
                assert np.allclose(here, there)
    volumes = [
        np.count_nonzero(labels) * np.prod(spacing)
        for labels, spacing in (
            (findings.segmentation.labelmap, scan.spacing_mm),
            (moved.segmentation.labelmap, squared.spacing_mm),
        )
    ]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.15)


def test_where_spacing_stands_in_regions_alone_the_caution_says_what_cures_it(
    tmp_path: Path,
) -> None:
    study, outcomes = make_case(tmp_path / "source", Request(Style(form="multiframe")))
    assert "PixelSpacing" not in dcmread(study.acquisitions[0].sources[0].paths[0])
    wanted = (
        Destination("plain", objects=("SEG",)),
        Destination("placed", objects=("SEG",), companion=True),
    )
    cautions = {
        item.due: [text for text in item.cautions if "VolView" in text]
        for item in write_objects(study, outcomes, tmp_path, wanted)
        if item.kind == "segmentation"
    }
    assert [text.endswith("companion = true helps") for text in cautions["plain",]] == [True]
    assert cautions["placed",] == []
