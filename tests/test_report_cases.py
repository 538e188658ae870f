"""report: sameness, odd findings, dirty headers, retired classes, refusals and errors."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from dicom_node.errors import ReportError, SeveralPatients
from dicom_node.report import Moments, write_objects
from dicom_node.report.check import Outgoing, judge
from dicom_node.report.header import clean_header
from dicom_node.report.identity import derive_uid
from dicom_node.report.origin import open_origin
from dicom_node.scanner import Style
from dicom_node.study import Outcome
from tests.report_phantom import (
    SHAPE,
    Request,
    make_case,
    make_findings,
    make_labelmap,
)
from tests.report_reading import (
    NO_PAGES,
    TOOL,
    by_kind,
    content,
    groups,
    has_lines,
    named,
    tracking,
    write,
)


def test_the_same_inputs_give_the_same_bytes_in_another_process(tmp_path):
    script = (
        "import sys, pathlib; from tests.report_phantom import make_case, Request;"
        "from dicom_node.report import Moments, write_objects;"
        "from dicom_node.scanner import Style;"
        "folder = pathlib.Path(sys.argv[1]);"
        "study, outcomes = make_case(folder, Request(Style(form='frames'), shear_wave=True));"
        "made = write_objects(study, outcomes, folder, moments=Moments(1.8e9));"
        "print(*[item.sha256 for item in made])"
    )
    outputs = []
    for name in ("first", "second"):
        command = [sys.executable, "-c", script, str(tmp_path / name)]
        root = Path(__file__).parents[1]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.split())
    assert len(outputs[0]) == 6  # SEG, two maps, SR, two pages
    assert outputs[0] == outputs[1]


def test_device_and_seconds_never_enter_an_object_but_the_weights_do(tmp_path):
    study, (outcome,) = make_case(tmp_path)

    def digests(**changes: object) -> list[tuple[str, str]]:
        run = replace(outcome.findings.run, **changes)
        changed = replace(outcome, findings=replace(outcome.findings, run=run))
        return [
            (item.sha256, item.sop_instance_uid)
            for item in write_objects(study, [changed], tmp_path, NO_PAGES, Moments(1.8e9))
        ]

    first = digests()
    assert digests(device="cpu", seconds=3.0, libraries={"torch": "3"}) == first
    mask = dcmread(tmp_path / "segmentation-0-layer.dcm")
    other = digests(weights_sha256="b" * 64)
    changed = dcmread(tmp_path / "segmentation-0-layer.dcm")
    assert not {uid for _, uid in first} & {uid for _, uid in other}
    assert device_uid(mask) != device_uid(changed)


def test_another_declaration_of_the_site_makes_other_objects(tmp_path):
    """The same instances and weights, but a volume of other millimeters: never under the same UID."""
    study, outcomes = make_case(tmp_path, Request(Style(form="multiframe")))
    (acquisition,) = study.acquisitions
    affine = acquisition.scan.affine * np.array([2.0, 1, 1, 1])  # a frame step twice as long
    declared = replace(acquisition, scan=replace(acquisition.scan, affine=affine))
    first = write_objects(study, outcomes, tmp_path, NO_PAGES)
    other = write_objects(replace(study, acquisitions=(declared,)), outcomes, tmp_path, NO_PAGES)
    assert not {w.sop_instance_uid for w in first} & {w.sop_instance_uid for w in other}


def test_no_two_lists_of_parts_give_one_uid():
    lists = [("a|", "b"), ("a", "|b"), ("a|b",), ("a", "b"), ("ab",), ("a", "", "b")]
    assert len({derive_uid(*parts) for parts in lists}) == len(lists)


def device_uid(dataset: Dataset) -> str:
    return next(i.DeviceUID for i in dataset.ContributingEquipmentSequence if "DeviceUID" in i)


@pytest.mark.parametrize("form", ["enhanced", "multiframe", "frames-plain"])
def test_an_empty_mask_is_written_and_said(tmp_path, form):
    study, (outcome,) = make_case(tmp_path / "source", Request(Style(form=form)))
    empty = make_findings(np.zeros(SHAPE, np.uint8))
    with_decision = replace(outcome, findings=empty)
    written = by_kind(write_objects(study, [with_decision], tmp_path, NO_PAGES))
    mask = dcmread(written["segmentation"].path)
    assert len(mask.SegmentSequence) == 6
    assert not mask.pixel_array.any()
    (group,) = groups(dcmread(written["measurements"].path))
    assert len(named(group, "Structure not found")) == 6
    nothing = replace(empty, classifications=(), measurements=())
    written = write_objects(study, [replace(outcome, findings=nothing)], tmp_path, NO_PAGES)
    report = dcmread(by_kind(written)["measurements"].path)
    assert report.ConceptNameCodeSequence[0].CodeValue == "nothing-found"
    assert "Dermis: not found" in [item.TextValue for item in named(report, "Reason")]


def test_a_layer_without_a_line_is_listed_without_a_caliper(tmp_path):
    study, (outcome,) = make_case(tmp_path / "source")
    measurements = tuple(
        replace(m, line=None) if m.segment == 3 else m for m in outcome.findings.measurements
    )
    changed = replace(outcome, findings=replace(outcome.findings, measurements=measurements))
    written = by_kind(write_objects(study, [changed], tmp_path, NO_PAGES))
    report = dcmread(written["measurements"].path)
    identifiers = [tracking(group)[0] for group in groups(report)]
    assert sum(name.startswith(f"{TOOL}Length") for name in identifiers) == 5
    assert identifiers.count("layer-3 Superficial fascial membrane") == 2
    # What OHIF would load as a rectangle or a probe: a line of four or five points, or a point.
    for quiet in (g for g in groups(report) if not tracking(g)[0].startswith(TOOL)):
        outlines = [item for item in quiet.ContentSequence if item.ValueType == "SCOORD"]
        assert all(item.GraphicType == "POLYLINE" for item in outlines)
        assert all(len(item.GraphicData) // 2 > 5 for item in outlines)


def test_pixels_that_are_not_square_keep_calipers_where_viewers_draw_them_right(tmp_path):
    request = Request(Style(form="multiframe"), spacing_mm=(0.5, 0.2, 0.25))
    _, _, written = write(tmp_path, request)
    assert has_lines(dcmread(written["measurements"].path))


def test_a_refused_scan_gets_its_reason_as_a_report(tmp_path):
    study, _ = make_case(tmp_path / "source")
    refusal = Outcome(0, "layer", None, "The probe was lifted: half of the frames are black.")
    (written,) = write_objects(study, [refusal], tmp_path, NO_PAGES)
    assert written.kind == "refusal"
    report = dcmread(written.path)
    assert report.ConceptNameCodeSequence[0].CodeValue == "refusal"
    assert named(report, "Reason")[0].TextValue == refusal.refusal
    codes = [
        i.ConceptCodeSequence[0].CodeValue for i in report.ContentSequence if i.ValueType == "CODE"
    ]
    assert "111245" in codes


def spoil(dataset: Dataset) -> None:
    """A header as old scanners and test phantoms write it."""
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "M\xfcller^J\xf6rg"
    dataset.PatientSex = "X"
    dataset.PatientBirthDate = "1970.01.02"
    dataset.StudyDate = "unknown"
    dataset.StudyTime = "12:34"
    for keyword in ("PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.StudyDescription = "lumbar\x07 spine " + "x" * 80
    dataset.Manufacturer = "A\\B"


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns while the header is spoiled
@pytest.mark.parametrize("form", ["enhanced", "multiframe", "frames"])
def test_a_dirty_header_becomes_a_clean_object(tmp_path, form):
    _, _, written = write(tmp_path, Request(Style(form=form), edit=spoil))
    for item in written.values():
        dataset = dcmread(item.path)
        assert str(dataset.PatientName) == "M\xfcller^J\xf6rg"
        assert (dataset.PatientSex, dataset.PatientID) == ("", "")
        assert dataset.PatientBirthDate == "19700102"
        assert dataset.StudyTime == "1234"
        assert len(dataset.StudyDescription) == 64
        assert dataset.ContentDate.isdigit()


@pytest.mark.parametrize(
    ("character_set", "name", "description"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "腰部 超音波"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", "腰部"),
        ("ISO_IR 127", "قباني^لنزار", "ظهر"),
    ],
)
def test_names_in_any_letters_come_back_as_they_were(
    tmp_path: Path, character_set: str | list[str], name: str, description: str
) -> None:
    def write_down(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = character_set
        dataset.PatientName, dataset.StudyDescription = name, description

    _, _, written = write(tmp_path, Request(Style(form="multiframe"), edit=write_down))
    for item in written.values():
        dataset = dcmread(item.path)
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert (str(dataset.PatientName), dataset.StudyDescription) == (name, description)


def test_only_what_is_not_allowed_is_changed():
    source = Dataset()
    with disable_value_validation():
        source.PatientName = "=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046"
        source.StudyTime, source.SeriesTime, source.AcquisitionTime = "14", "1430", "143060"
        source.PatientSize, source.PatientWeight = "1.7", "72.12345678901234567"
    header = clean_header(source)
    assert header.PatientName == source.PatientName
    assert (header.StudyTime, header.SeriesTime) == ("14", "1430")
    assert "AcquisitionTime" not in header
    assert "PatientWeight" not in header
    assert header.PatientSize == 1.7


@pytest.mark.parametrize(
    ("form", "retired"),
    [("frames-plain", "1.2.840.10008.5.1.4.1.1.6"), ("multiframe", "1.2.840.10008.5.1.4.1.1.3")],
)
def test_retired_ultrasound_classes_are_referenced_as_what_they_are(tmp_path, form, retired):
    def retire(dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = retired

    _, _, written = write(tmp_path, Request(Style(form=form), edit=retire))
    mask = dcmread(written["segmentation"].path)
    instances = mask.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPClassUID for item in instances} == {retired}
    report = dcmread(written["measurements"].path)
    images = {
        item.ReferencedSOPSequence[0].ReferencedSOPClassUID
        for item in content(report)
        if item.get("ValueType") == "IMAGE"
    }
    assert images == {retired, "1.2.840.10008.5.1.4.1.1.66.4"}


def test_single_frames_that_count_to_one_keep_their_place_in_the_patient(tmp_path):
    def count(dataset: Dataset) -> None:
        dataset.NumberOfFrames = 1

    study, _, written = write(tmp_path, Request(Style(form="frames"), edit=count))
    (acquisition,) = study.acquisitions
    assert acquisition.scan.geometry.frame_step == "measured"
    sources = {str(h.SOPInstanceUID): h for h in acquisition.sources[0].headers()}
    for kind in ("segmentation", "map"):
        dataset = dcmread(written[kind].path)
        plane = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        for group in dataset.PerFrameFunctionalGroupsSequence:
            reference = group.DerivationImageSequence[0].SourceImageSequence[0]
            source = sources[reference.ReferencedSOPInstanceUID]
            place = group.PlanePositionSequence[0].ImagePositionPatient
            assert np.allclose(place, source.ImagePositionPatient)
            assert np.allclose(plane.ImageOrientationPatient, source.ImageOrientationPatient)


def test_positions_that_are_all_alike_place_nothing(tmp_path):
    def pile(dataset: Dataset) -> None:
        del dataset.FrameOfReferenceUID
        dataset.ImagePositionPatient = [0, 0, 0]

    study, _, written = write(tmp_path, Request(Style(form="frames"), edit=pile))
    assert study.acquisitions[0].scan.geometry.frame_step == "assumed"
    assert "segmentation" in written


def test_a_measurement_of_an_absent_layer_is_an_error_that_names_the_study(tmp_path):
    study, (outcome,) = make_case(tmp_path / "source")
    segmentation = replace(outcome.findings.segmentation, labelmap=make_labelmap((1, 2)))
    wrong = replace(outcome, findings=replace(outcome.findings, segmentation=segmentation))
    with pytest.raises(ReportError, match=study.study_uid):
        write_objects(study, [wrong], tmp_path, NO_PAGES)


def test_a_line_of_another_length_than_its_value_is_an_error(tmp_path):
    study, (outcome,) = make_case(tmp_path / "source")
    measurements = tuple(
        replace(m, value=m.value + 5) if m.line else m for m in outcome.findings.measurements
    )
    wrong = replace(outcome, findings=replace(outcome.findings, measurements=measurements))
    with pytest.raises(ReportError, match="mm long"):
        write_objects(study, [wrong], tmp_path, NO_PAGES)


def test_a_result_never_goes_to_another_study(tmp_path):
    study, outcomes = make_case(tmp_path / "source")
    with pytest.raises(ReportError, match="belongs to study"):
        write_objects(replace(study, study_uid="1.2.3"), outcomes, tmp_path, NO_PAGES)


def test_instances_of_two_patients_make_no_result(tmp_path):
    def mix(dataset: Dataset) -> None:
        dataset.PatientID = "SECRET-1" if dataset.InstanceNumber < 3 else "SECRET-2"

    with pytest.raises(SeveralPatients, match="more than one patient") as error:
        write(tmp_path, Request(Style(form="frames"), edit=mix))
    assert "SECRET" not in str(error.value)


def test_the_written_segmentation_is_compared_with_the_findings(tmp_path):
    study, (outcome,) = make_case(tmp_path / "source")
    path = by_kind(write_objects(study, [outcome], tmp_path, NO_PAGES))["segmentation"].path
    mask = dcmread(path)
    first, second = mask.PerFrameFunctionalGroupsSequence[:2]
    first.DerivationImageSequence, second.DerivationImageSequence = (
        second.DerivationImageSequence,
        first.DerivationImageSequence,
    )
    mask.save_as(path)
    origin = open_origin(study, outcome)
    known = {
        str(header.SOPInstanceUID): (str(header.SOPClassUID), int(header.get("NumberOfFrames", 1)))
        for header in origin.raw[0]
    }
    verdict = judge(Outgoing(path, "segmentation", 0, origin, known))
    assert re.fullmatch(r"\d+ voxels differ from the findings", verdict)
