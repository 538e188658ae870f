"""report: each destination gets what it wants, in its form, from one run."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import build_context

from dicom_node.deliver import deliver
from dicom_node.errors import ReportError
from dicom_node.report import Moments, Written, write_objects
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from dicom_node.study import Outcome, Study
from tests.conftest import Pacs, peer
from tests.plain_analysis import Plain
from tests.report_phantom import SHAPE, Request, make_case, make_scan, write_source
from tests.report_reading import content, groups, tracking

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
DESTINATIONS = (
    Destination("plain"),
    Destination("twin"),
    Destination("stone", objects=("SEG", "SR"), sr="comprehensive", seg_frames="dense"),
    Destination("small", objects=("SEG", "SR", "PDF"), encoding="deflated"),
    Destination("labels", objects=("SEG", "SC"), seg="labelmap", encoding="j2k"),
    Destination("packed", objects=("SEG",), encoding="j2k"),
)
MOMENTS = Moments(1.8e9)


@dataclass(frozen=True)
class Case:
    """What was written once for all destinations; layer 2 is on no slice, and slice 6 has no layer."""

    study: Study
    outcome: Outcome
    written: Sequence[Written]

    def due(self, name: str) -> Mapping[str, list[Written]]:
        """What one destination gets, by kind."""
        found: dict[str, list[Written]] = {}
        for item in self.written:
            if name in item.due:
                found.setdefault(item.kind, []).append(item)
        return found

    def read(self, name: str, kind: str) -> Dataset:
        return dcmread(self.due(name)[kind][0].path)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("forms")
    request = Request(Style(form="enhanced"), shear_wave=True, present=(1, 3, 4, 5, 6))
    study, outcomes = make_case(folder / "source", request)
    return Case(study, outcomes[0], write_objects(study, outcomes, folder, DESTINATIONS, MOMENTS))


def test_each_gets_what_it_wants_and_nothing_is_written_twice(case: Case) -> None:
    counts = {
        each.name: {kind: len(items) for kind, items in case.due(each.name).items()}
        for each in DESTINATIONS
    }
    everything = {"segmentation": 1, "map": 2, "measurements": 1, "page": 2}
    assert counts == {
        "plain": everything,
        "twin": everything,
        "stone": {"segmentation": 1, "measurements": 1},
        "small": {"segmentation": 1, "measurements": 1, "document": 1},
        "labels": {"segmentation": 1, "page": 2},
        "packed": {"segmentation": 1},
    }
    assert case.due("plain") == case.due("twin")
    assert len(case.written) == 6 + 2 + 3 + 3 + 1
    assert not any(item.verdict for item in case.written)


def test_a_form_is_another_instance_in_another_series_with_the_same_tracking(case: Case) -> None:
    masks = [dcmread(item.path) for item in case.written if item.kind == "segmentation"]
    assert len({mask.SOPInstanceUID for mask in masks}) == len(masks) == 5
    assert len({mask.SeriesInstanceUID for mask in masks}) == 5
    assert len({mask.FrameOfReferenceUID for mask in masks}) == 1
    uids = {
        tuple(item.TrackingUID for item in mask.SegmentSequence if item.SegmentNumber)
        for mask in masks
    }
    assert len(uids) == 1


def test_a_report_refers_to_the_objects_that_go_the_same_way(case: Case) -> None:
    for name in ("plain", "stone", "small"):
        report = case.read(name, "measurements")
        named = {
            str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            for item in content(report)
            if item.get("ValueType") == "IMAGE"
        }
        masks = {item.sop_instance_uid for item in case.written if item.kind == "segmentation"}
        assert named & masks == {case.due(name)["segmentation"][0].sop_instance_uid}
        maps = {item.sop_instance_uid for item in case.due(name).get("map", [])}
        evidence = {
            str(item.ReferencedSOPInstanceUID)
            for key in (
                "CurrentRequestedProcedureEvidenceSequence",
                "PertinentOtherEvidenceSequence",
            )
            for study in report.get(key, [])
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        every_map = {item.sop_instance_uid for item in case.written if item.kind == "map"}
        assert evidence & every_map == maps


def test_reports_are_of_the_wanted_class_with_the_same_content(case: Case) -> None:
    plain, stone = case.read("plain", "measurements"), case.read("stone", "measurements")
    assert plain.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert stone.SOPClassUID == stone.file_meta.MediaStorageSOPClassUID
    assert stone.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert isinstance(
        hd.sr.srread(case.due("stone")["measurements"][0].path), hd.sr.ComprehensiveSR
    )
    assert [tracking(group) for group in groups(plain)] == [tracking(g) for g in groups(stone)]


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("plain", "1.2.840.10008.1.2.1"),
        ("small", "1.2.840.10008.1.2.1.99"),
        ("labels", "1.2.840.10008.1.2.4.90"),
        ("packed", "1.2.840.10008.1.2.4.90"),
    ],
)
def test_files_are_encoded_as_wanted(case: Case, name: str, syntax: str) -> None:
    items = [item for items in case.due(name).values() for item in items]
    syntaxes = {str(dcmread(item.path).file_meta.TransferSyntaxUID) for item in items}
    assert syntaxes == {syntax}


@pytest.mark.parametrize("name", ["plain", "stone", "small", "labels", "packed"])
def test_every_form_of_mask_has_the_voxels_of_the_findings(case: Case, name: str) -> None:
    item = case.due(name)["segmentation"][0]
    mask = hd.seg.segread(item.path)
    source = case.study.acquisitions[0].sources[0].headers()[0]
    values = mask.get_pixels_by_source_frame(
        str(source.SOPInstanceUID),
        list(range(1, SHAPE[0] + 1)),
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    assert np.array_equal(values, case.outcome.findings.segmentation.labelmap)
    described = [number for number in mask.segment_numbers if number]
    assert described == [1, 2, 3, 4, 5, 6]


def test_dense_frames_are_all_there(case: Case) -> None:
    sparse, dense = case.read("plain", "segmentation"), case.read("stone", "segmentation")
    assert dense.NumberOfFrames == 6 * SHAPE[0]
    assert sparse.NumberOfFrames < dense.NumberOfFrames
    labels = case.read("labels", "segmentation")
    assert labels.SOPClassUID == LABEL_MAP
    assert labels.NumberOfFrames == SHAPE[0] - 1


def test_images_too_small_for_jpeg_2000_are_named(tmp_path: Path) -> None:
    scan = make_scan()
    scan = replace(scan, voxels=scan.voxels[:, :5, :31], valid=scan.valid[:5, :31])
    study = write_source(tmp_path / "source", scan, Style())
    with pytest.raises(ReportError, match="31 x 33 pixels are too few for JPEG 2000"):
        write_objects(study, [Outcome(0, "plain", Plain().run(scan))], tmp_path, DESTINATIONS[-1:])


def test_settings_are_part_of_a_uid_and_nothing_else_is(case: Case, tmp_path: Path) -> None:
    renamed = [replace(DESTINATIONS[2], name="other", host="elsewhere")]
    again = write_objects(case.study, [case.outcome], tmp_path, renamed, MOMENTS)
    before = [item for items in case.due("stone").values() for item in items]
    assert [item.sha256 for item in again] == [item.sha256 for item in before]


def test_an_archive_that_takes_only_the_default_gets_them_converted(
    case: Case, pacs: Pacs, tmp_path: Path
) -> None:
    items = [case.due(name)["segmentation"][0] for name in ("small", "labels", "packed")]
    pacs.stop()
    classes = {item.sop_class_uid for item in items}
    pacs.start(*(build_context(each, ImplicitVRLittleEndian) for each in classes))
    deliver([item.path for item in items], pacs.destination, "NODE")
    for item in items:
        sent = dcmread(item.path)
        path = tmp_path / "arrived.dcm"
        path.write_bytes(pacs.kept[item.sop_instance_uid])
        arrived = dcmread(path, force=True)
        arrived.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        assert np.array_equal(arrived.pixel_array, sent.pixel_array)
        assert arrived.SegmentSequence == sent.SegmentSequence


@pytest.mark.peer
def test_dciodvfy_finds_no_error_in_any_form(case: Case, tmp_path: Path) -> None:
    program = peer("dciodvfy")
    for item in case.written:
        dataset = dcmread(item.path)
        path = tmp_path / "plain.dcm"
        if item.sop_class_uid == LABEL_MAP:
            continue  # a class that it does not know
        if dataset.file_meta.TransferSyntaxUID.is_deflated:  # which it cannot read
            dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
            dataset.save_as(path)
        else:
            path = item.path
        done = subprocess.run([program, path], capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert not errors, (item.path.name, errors[:3])
