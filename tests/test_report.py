"""report: what is written, read back by pydicom and highdicom alone, for every form of source."""

from collections.abc import Iterator
from functools import cache

import highdicom as hd
import numpy as np
import pydicom.sr._concepts_dict as dictionary
import pytest
from pydicom import Dataset, dcmread

from dicom_node.scanner import Style
from dicom_node.study import Source
from tests.report_phantom import (
    DIGEST,
    SEGMENTS,
    SHAPE,
    Request,
)
from tests.report_reading import TOOL, groups, has_lines, named, tracking, write

FORMS = ("enhanced", "enhanced-apex", "multiframe", "frames", "frames-plain")
CASES = {
    **{form: Request(Style(form=form)) for form in FORMS},
    **{
        f"{form}, shear wave": Request(Style(form=form), shear_wave=True)
        for form in ("enhanced", "multiframe", "frames-plain")
    },
    "multi-frame JPEG": Request(Style(form="multiframe", encoding="jpeg", color="YBR_FULL_422")),
    "layers 2 and 5 absent": Request(present=(1, 3, 4, 6)),
    "non-square pixels": Request(spacing_mm=(0.5, 0.2, 0.25)),
}
TEMPLATE_CODES = ("276214006", "260753009", "{pixels}", "en-US")
"""Names that highdicom's templates write otherwise than the dictionary prints them."""


@pytest.fixture(params=CASES.values(), ids=CASES.keys(), scope="module")
def case(request, tmp_path_factory):
    return (*write(tmp_path_factory.mktemp("report"), request.param), request.param)


def test_every_mask_lies_on_the_source_frame_it_was_made_from(case):
    study, outcome, written, request = case
    mask = dcmread(written["segmentation"].path)
    assert (mask.Rows, mask.Columns) == SHAPE[1:]
    labelmap = outcome.findings.segmentation.labelmap
    seen = set()
    frames = mask.pixel_array.reshape(-1, *SHAPE[1:])
    sources = study.acquisitions[0].sources
    for group, frame in zip(mask.PerFrameFunctionalGroupsSequence, frames, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        references = group.DerivationImageSequence[0].SourceImageSequence
        assert len(references) == len(sources) == 1 + request.shear_wave
        positions = [
            position_of(item, source) for item, source in zip(references, sources, strict=True)
        ]
        assert len(set(positions)) == 1
        assert np.array_equal(frame > 0, labelmap[positions[0]] == number)
        seen.add((number, positions[0]))
    assert seen == {
        (number, position)
        for position in range(SHAPE[0])
        for number in set(np.unique(labelmap[position])) - {0}
    }


@cache
def headers_of(source: Source) -> tuple[Dataset, ...]:
    return source.headers()


def position_of(item: Dataset, source: Source) -> int:
    """The slice whose source frame a reference names."""
    for position, frame in enumerate(source.frames):
        header = headers_of(source)[frame.instance]
        same = item.ReferencedSOPInstanceUID == header.SOPInstanceUID
        if same and item.get("ReferencedFrameNumber") == frame.number:
            assert item.ReferencedSOPClassUID == header.SOPClassUID
            return position
    raise AssertionError(f"{item.ReferencedSOPInstanceUID} is no source frame")


def test_all_segments_are_described_in_order_with_codes_and_colors(case):
    study, _, written, _ = case
    # Nobody may take an assumed volume for a measured one, whatever else a viewer shows.
    is_known = study.acquisitions[0].scan.geometry.frame_step in ("measured", "declared")
    doubt = "" if is_known else " (frame distance not known)"
    mask = hd.seg.segread(written["segmentation"].path)
    assert list(mask.segment_numbers) == [1, 2, 3, 4, 5, 6]
    for item, segment in zip(mask.SegmentSequence, SEGMENTS, strict=True):
        assert item.SegmentLabel == segment.label + doubt
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == segment.type.value
        assert item.TrackingID == f"layer-{segment.number} {segment.label}"
        assert item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0.1.0"
        expected = hd.color.CIELabColor.from_rgb(*segment.color).value
        assert tuple(item.RecommendedDisplayCIELabValue) == tuple(expected)
    measures = mask.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert ("SpacingBetweenSlices" in measures) == is_known
    assert mask.ContentCreatorName == "dicom-node"


def test_every_object_belongs_to_the_study_of_its_source(case):
    study, _, written, _ = case
    source = dcmread(study.acquisitions[0].sources[0].paths[0], stop_before_pixels=True)
    series = set()
    for item in written.values():
        dataset = dcmread(item.path)
        assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert dataset.StudyInstanceUID == study.study_uid
        assert dataset.PatientID == source.PatientID
        assert dataset.PatientName == source.PatientName
        assert dataset.StudyDate == source.StudyDate
        assert (dataset.SOPClassUID, dataset.SOPInstanceUID) == (
            item.sop_class_uid,
            item.sop_instance_uid,
        )
        if "FrameOfReferenceUID" in source and "FrameOfReferenceUID" in dataset:
            assert dataset.FrameOfReferenceUID == source.FrameOfReferenceUID
        (ours,) = [i for i in dataset.ContributingEquipmentSequence if "DeviceUID" in i]
        assert ours.Manufacturer == "dicom-node"
        series.add(dataset.SeriesInstanceUID)
    assert len(series) == len(written)
    assert source.SeriesInstanceUID not in series


def test_referenced_series_name_every_source_instance(case):
    study, _, written, request = case
    mask = dcmread(written["segmentation"].path)
    assert len(mask.ReferencedSeriesSequence) == 1 + request.shear_wave
    for item, source in zip(
        mask.ReferencedSeriesSequence, study.acquisitions[0].sources, strict=True
    ):
        headers = source.headers()
        assert item.SeriesInstanceUID == headers[0].SeriesInstanceUID
        named_uids = [i.ReferencedSOPInstanceUID for i in item.ReferencedInstanceSequence]
        assert sorted(named_uids) == sorted(header.SOPInstanceUID for header in headers)


def test_lossy_compression_of_the_source_is_told(case):
    study, _, written, _ = case
    source = dcmread(study.acquisitions[0].sources[0].paths[0], stop_before_pixels=True)
    mask = dcmread(written["segmentation"].path)
    assert mask.LossyImageCompression == source.get("LossyImageCompression", "00")
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        assert mask.get(keyword) == source.get(keyword)


def test_masks_have_the_positions_of_their_source(case):
    """Of patient geometry where the source has it; else in the plane that readers assume."""
    study, _, written, request = case
    mask = dcmread(written["segmentation"].path)
    shared = mask.SharedFunctionalGroupsSequence[0]
    scan, form = study.acquisitions[0].scan, request.style.form
    row_mm, column_mm = shared.PixelMeasuresSequence[0].PixelSpacing
    assert np.allclose((row_mm, column_mm), request.spacing_mm[1:])
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    placed = form in ("enhanced", "frames")
    assert np.allclose(cosines, (1, 0, 0, 0, -1, 0) if placed else (1, 0, 0, 0, 1, 0))
    for group in mask.PerFrameFunctionalGroupsSequence:
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = position_of(item, study.acquisitions[0].sources[0])
        place = group.PlanePositionSequence[0].ImagePositionPatient
        expected = (
            scan.affine @ (position, 0, 0, 1)
            if placed
            else (0, 0, position * scan.spacing_mm[0], 1)
        )
        assert np.allclose(place, expected[:3], atol=1e-6)


def test_no_viewer_goes_blank_on_the_report(case):
    """Root 126000: each Tracking UID needs coordinates, and a tool's identifier needs them below its first
    number, or OHIF 3.13 shows nothing at all.
    """
    _, _, written, _ = case
    report = dcmread(written["measurements"].path)
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert named(report, "Image Library")
    reachable, all_uids = set(), set()
    for group in groups(report):
        identifier, uid = tracking(group)
        all_uids.add(uid)
        if any(child.ValueType == "SCOORD" for child in group.ContentSequence):
            reachable.add(uid)
        numbers = [child for child in group.ContentSequence if child.ValueType == "NUM"]
        below = [child.ValueType for n in numbers[:1] for child in n.get("ContentSequence", [])]
        assert ("SCOORD" in below) == identifier.startswith(TOOL)
    assert reachable == all_uids


def test_calipers_lie_on_their_layer_and_measure_their_own_length(case):
    study, outcome, written, request = case
    report = dcmread(written["measurements"].path)
    mask = dcmread(written["segmentation"].path)
    segment_uids = {item.TrackingUID: item.SegmentNumber for item in mask.SegmentSequence}
    found = set()
    for group in groups(report):
        identifier, uid = tracking(group)
        if not identifier.startswith(f"{TOOL}Length:layer-"):
            continue
        number = segment_uids[uid]
        (value,) = [child for child in group.ContentSequence if child.ValueType == "NUM"]
        (line,) = [c for c in value.ContentSequence if c.ValueType == "SCOORD"]
        (region,) = named(group, "Image Region")
        assert list(line.GraphicData) == list(region.GraphicData)
        left, top, right, bottom = line.GraphicData
        assert left == right
        length_mm = (bottom - top) * request.spacing_mm[1]
        assert float(value.MeasuredValueSequence[0].NumericValue) == pytest.approx(length_mm)
        reference = line.ContentSequence[0].ReferencedSOPSequence[0]
        position = position_of(reference, study.acquisitions[0].sources[0])
        column = outcome.findings.segmentation.labelmap[position][:, int(left)]
        # Pixel coordinates count from the corner of the first pixel: a whole number is an edge.
        assert set(column[int(top) : int(bottom)]) == {number}
        assert column[int(bottom)] != number
        assert named(group, "Comment")[0].TextValue == f"{number} {SEGMENTS[number - 1].label}"
        found.add(number)
    square = request.spacing_mm[1] == request.spacing_mm[2]
    assert found == (set(request.present) if square else set())


def test_the_report_says_every_measurement_and_each_absent_layer(case):
    _, outcome, written, request = case
    report = hd.sr.srread(written["measurements"].path)
    regions = report.content.get_volumetric_roi_measurement_groups()
    assert len(regions) == len(request.present)
    said = {}
    for group, number in zip(regions, request.present, strict=True):
        segment = group.referenced_segment
        reference = named(group[0], "Referenced Segment")[0].ReferencedSOPSequence[0]
        assert segment is not None
        assert reference.ReferencedSegmentNumber == number
        assert reference.ReferencedSOPInstanceUID == written["segmentation"].sop_instance_uid
        for item in group.get_measurements():
            derivation = item.derivation.value if item.derivation else None
            said[number, item.name.value, derivation] = (item.value, item.unit.value)
    drawn = {m for m in outcome.findings.measurements if m.line} if has_lines(report) else set()
    for item in set(outcome.findings.measurements) - drawn:
        if item.segment is not None:
            derivation = item.derivation.value if item.derivation else None
            value, unit = said[item.segment, item.quantity.value, derivation]
            assert value == pytest.approx(item.value, rel=1e-5)
            assert unit == item.unit.value
    absent = [c for g in groups(report) for c in named(g, "Structure not found")]
    names = {item.ConceptCodeSequence[0].CodeMeaning for item in absent}
    assert names == {s.label for s in SEGMENTS if s.number not in request.present}


def test_the_decision_its_probability_and_its_provenance(case):
    study, _, written, _ = case
    group = groups(dcmread(written["measurements"].path))[-1]
    number = next(child for child in group.ContentSequence if child.ValueType == "NUM")
    measured = number.MeasuredValueSequence[0]
    assert number.ConceptNameCodeSequence[0].CodeValue == "122157"
    assert float(measured.NumericValue) == pytest.approx(87)
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert "research only" in named(group, "Comment")[0].TextValue
    said = [c.ConceptCodeSequence[0] for c in group.ContentSequence if c.ValueType == "CODE"]
    values = [item.CodeValue for item in said]
    assert "research-only" in values
    geometry = study.acquisitions[0].scan.geometry
    for part in (geometry.in_plane, geometry.frame_step, geometry.orientation):
        assert part in values
    parameters = [item.TextValue for item in named(group, "Algorithm Parameters")]
    assert f"weights_sha256={DIGEST}" in parameters
    flags = [c for c in named(group, "Reason to distrust") if c.ValueType == "TEXT"]
    assert [flag.TextValue for flag in flags] == ["The deep fat is out of focus."]


def test_the_map_is_written_where_all_geometry_was_measured(case):
    study, outcome, written, request = case
    assert ("map" in written) == (request.style.form in ("enhanced", "frames"))
    if "map" not in written:
        return
    dataset = dcmread(written["map"].path)
    frames = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(SHAPE)
    cosines = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    row, column = np.split(np.array(cosines.ImageOrientationPatient, float), 2)
    heights = []
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = position_of(item, study.acquisitions[0].sources[0])
        assert np.array_equal(frames[index], outcome.findings.attributions[0].map[position])
        assert group.FrameContentSequence[0].DimensionIndexValues == index + 1
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        heights.append(place @ np.cross(row, column))
    assert heights == sorted(heights)
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "130404"
    assert dataset.BodyPartExamined == "LSPINE"


def coded(dataset: Dataset) -> Iterator[tuple[str, str, str]]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from coded(item)
    if "CodeValue" in dataset and "CodeMeaning" in dataset:
        yield dataset.CodeValue, dataset.CodingSchemeDesignator, dataset.CodeMeaning


def test_every_code_is_in_the_dictionary_or_declared_private(case):
    _, _, written, _ = case
    known: dict[tuple[str, str], set[str]] = {}
    for scheme in ("DCM", "SCT", "LN", "UCUM"):
        for entries in dictionary.concepts[scheme].values():
            for value, (meaning, *_) in entries.items():
                known.setdefault((value, scheme), set()).add(meaning.lower())
    for item in written.values():
        dataset = dcmread(item.path)
        declared = {
            i.CodingSchemeDesignator for i in dataset.get("CodingSchemeIdentificationSequence", [])
        }
        for value, scheme, meaning in coded(dataset):
            if scheme.startswith("99"):
                assert scheme in declared
            elif value not in TEMPLATE_CODES:
                assert meaning.lower() in known[value, scheme], (value, scheme, meaning)
