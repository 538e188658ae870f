"""Headers with the faults of scanners: decimal commas, numbers that are none, UIDs that are left out."""

import numpy as np
import pytest
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.analyze import analyze_study
from dicom_node.errors import UnsupportedPixels
from dicom_node.headers import read_header
from dicom_node.report import write_objects
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Source
from tests.assemble_studies import SPACING_MM, assemble, assemble_one, edit, make_scan
from tests.plain_analysis import Plain


def put(path, keyword, text, *sequences):
    """Write a value as its bytes, in the first item of nested sequences."""
    value = text.encode() + b" " * (len(text) % 2)
    tag, kind = Tag(tag_for_keyword(keyword)), dictionary_VR(keyword)

    def change(dataset):
        implicit = dataset.is_implicit_VR
        for name in sequences:
            dataset = dataset[name].value[0]
        dataset[tag] = RawDataElement(tag, kind, len(value), value, 0, implicit, True)

    with config.disable_value_validation():
        edit(path, change)


def commas(*values):
    return "\\".join(f"{float(value):g}".replace(".", ",") for value in values)


@pytest.mark.parametrize("encoding", ["explicit", "implicit"])
def test_decimal_commas_are_points_in_every_number_of_the_geometry(tmp_path, encoding):
    honest = assemble_one(write_study(make_scan(), tmp_path / "honest", Style("frames", encoding)))
    paths = write_study(make_scan(), tmp_path / "commas", Style("frames", encoding))
    for path in paths:
        header = dcmread(path)
        for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
            put(path, keyword, commas(*header[keyword].value))
    scan = assemble_one(paths)
    assert np.allclose(scan.affine, honest.affine)
    assert scan.geometry == honest.geometry


def test_decimal_commas_in_functional_groups_and_windows(tmp_path):
    honest = assemble_one(write_study(make_scan(), tmp_path / "honest", Style("enhanced")))
    (path,) = write_study(make_scan(), tmp_path / "commas", Style("enhanced"))
    shared, measures = "SharedFunctionalGroupsSequence", "PixelMeasuresSequence"
    put(path, "PixelSpacing", commas(*SPACING_MM[1:]), shared, measures)
    assert b"0,25\\0,2" in path.read_bytes()
    assert np.allclose(assemble_one([path]).affine, honest.affine)
    put(path, "WindowCenter", "128,5")
    put(path, "RescaleSlope", "1,0")
    header = read_header(path)
    assert (header.WindowCenter, header.RescaleSlope) == (128.5, 1)


@pytest.mark.parametrize("text", ["1,234.5", "0,2,3", "0.2mm", "1 000,5"])
def test_what_is_no_number_is_no_spacing(tmp_path, text):
    paths = write_study(make_scan(), tmp_path, Style("frames"))
    for path in paths:
        put(path, "PixelSpacing", f"{text}\\{text}")
    scan = assemble_one(paths)
    assert scan.geometry.in_plane == "unknown"
    assert "PixelSpacing is not 2 numbers" in scan.facts["geometry_notes"]
    scan = assemble_one(paths, (Source(pixel_spacing_mm=(0.3, 0.3)),))
    assert scan.geometry.in_plane == "declared"


@pytest.mark.parametrize(
    ("form", "keyword", "text", "reason"),
    [
        ("frames", "ImagePositionPatient", "0,2,3\\1\\2", "ImagePositionPatient is not 3 numbers"),
        ("frames", "InstanceNumber", "1,234.5", "InstanceNumber is not a whole number"),
        ("frames", "SeriesNumber", "1,5", "SeriesNumber is not a whole number"),
        ("multiframe", "NumberOfFrames", "4,0", "NumberOfFrames is not a whole number"),
    ],
)
def test_what_must_be_a_number_is_refused_by_name(tmp_path, form, keyword, text, reason):
    paths = write_study(make_scan(), tmp_path, Style(form))
    for path in paths:
        put(path, keyword, text)
    with pytest.raises(UnsupportedPixels, match=reason):
        assemble(paths)


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "BitsAllocated", "SamplesPerPixel"])
def test_what_the_scanner_left_out_is_named(tmp_path, keyword):
    paths = write_study(make_scan(), tmp_path, Style("multiframe"))
    edit(paths[0], lambda dataset: delattr(dataset, keyword))
    with pytest.raises(UnsupportedPixels, match=f"left out.*{keyword}"):
        assemble(paths)


def test_results_have_the_numbers_that_were_analyzed(tmp_path):
    """Also beside numbers that are none, which nobody needs."""
    paths = write_study(make_scan(), tmp_path, Style("frames"))
    for path in paths:
        put(path, "PixelSpacing", commas(*SPACING_MM[1:]))
        put(path, "PatientWeight", "70,5")
        put(path, "SliceThickness", "1,234.5")
    study = assemble(paths)
    written = write_objects(study, analyze_study(study, (Plain(),)), tmp_path)
    mask = next(dcmread(one.path) for one in written if "segmentation" in one.path.name)
    measures = mask.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.PixelSpacing == list(SPACING_MM[1:])
    report = next(dcmread(one.path) for one in written if "measurements" in one.path.name)
    assert report.PatientWeight == 70.5


def test_uids_of_the_meta_information_are_taken_where_the_data_set_has_none(tmp_path):
    paths = write_study(make_scan(), tmp_path, Style("multiframe"))
    uids = [(read_header(path).SOPInstanceUID, read_header(path).SOPClassUID) for path in paths]

    def remove(dataset):
        del dataset.SOPInstanceUID
        del dataset.SOPClassUID

    with config.disable_value_validation():
        for path in paths:
            data = dcmread(path)
            remove(data)
            data.save_as(path, enforce_file_format=False)
    assert [
        (read_header(path).SOPInstanceUID, read_header(path).SOPClassUID) for path in paths
    ] == uids
