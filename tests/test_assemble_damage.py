"""Whatever else arrives ends in a StudyError that says why, in bounded time and memory."""

import random
import struct
import time

import pytest
from pydicom import dcmread

from dicom_node.assemble import assemble_study
from dicom_node.errors import GeometryUnknown, Incomplete, StudyError, UnsupportedPixels
from dicom_node.scanner import Style, write_study
from dicom_node.scanner.style import ENCODINGS
from tests.assemble_studies import SHAPE, SPACING_MM, assemble, edit, make_scan, store


def move(dataset, millimeters):
    dataset.ImagePositionPatient[2] = float(dataset.ImagePositionPatient[2]) + millimeters


def blank(dataset):
    dataset.PixelData = bytes(len(dataset.PixelData))


def smaller(dataset):
    dataset.Rows -= 1
    dataset.PixelData = dataset.PixelData[: dataset.Rows * dataset.Columns]


def huge(dataset):
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = 60_000, 60_000, 60_000


def tilt(dataset):
    dataset.ImageOrientationPatient = [0.9, 0.1, 0, 0, -1, 0]


@pytest.mark.parametrize(
    ("form", "number", "change", "error", "reason"),
    [
        ("frames", 1, lambda d: move(d, 0.3), GeometryUnknown, "unevenly"),
        ("frames", 1, lambda d: move(d, SPACING_MM[0]), GeometryUnknown, "same place"),
        ("frames", 3, lambda d: move(d, -2 * SPACING_MM[0]), Incomplete, "2 missing"),
        ("frames", 2, tilt, GeometryUnknown, "parallel"),
        ("frames", 2, smaller, UnsupportedPixels, "different size"),
        (
            "frames",
            2,
            lambda d: d.update({"FrameOfReferenceUID": "1.2"}),
            GeometryUnknown,
            "frames of",
        ),
        ("frames", 2, lambda d: setattr(d, "PixelData", b"\0\0"), UnsupportedPixels, "cut off"),
        ("frames-plain", 2, lambda d: setattr(d, "InstanceNumber", 2), Incomplete, "same instance"),
        ("frames-plain", 2, lambda d: setattr(d, "InstanceNumber", None), Incomplete, "no order"),
        ("multiframe", 0, lambda d: setattr(d, "NumberOfFrames", 1), Incomplete, "one frame"),
        ("multiframe", 0, lambda d: setattr(d, "NumberOfFrames", 5), UnsupportedPixels, "cut off"),
        ("multiframe", 0, blank, UnsupportedPixels, "blank"),
        ("multiframe", 0, huge, UnsupportedPixels, "too large"),
        ("enhanced", 0, lambda d: setattr(d, "Modality", "CT"), StudyError, "no ultrasound"),
        ("multiframe", 0, lambda d: delattr(d, "Rows"), StudyError, "no image"),
        (
            "multiframe",
            0,
            lambda d: delattr(d, "PixelData"),
            UnsupportedPixels,
            "cut off",
        ),
        (
            "enhanced",
            0,
            lambda d: d.PerFrameFunctionalGroupsSequence.pop(),
            UnsupportedPixels,
            "frames",
        ),
    ],
)
def test_a_bad_instance_ends_in_a_clear_error(tmp_path, form, number, change, error, reason):
    paths = write_study(make_scan(), tmp_path, Style(form))
    edit(paths[number], change)
    with pytest.raises(error, match=reason) as caught:
        assemble(paths)
    assert caught.value.study_uid == dcmread(paths[0]).StudyInstanceUID


def test_missing_frames_are_found_with_and_without_positions(tmp_path):
    for form in ("frames", "frames-plain"):
        paths = write_study(make_scan(), tmp_path / form, Style(form))
        with pytest.raises(Incomplete, match="missing"):
            assemble([*paths[:1], *paths[2:]])


def test_frames_at_one_place_are_a_film_and_no_sweep(tmp_path):
    paths = write_study(make_scan(), tmp_path, Style("frames"))
    for path in paths:
        edit(path, lambda dataset: setattr(dataset, "ImagePositionPatient", [0, 0, 0]))
    with pytest.raises(GeometryUnknown, match="film"):
        assemble(paths)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_truncated_file_is_never_a_scan_with_black_frames(tmp_path, encoding):
    paths = write_study(make_scan(), tmp_path, Style("multiframe", encoding))
    instances, study_uid = store(paths)
    paths[0].write_bytes(paths[0].read_bytes()[:-1500])
    with pytest.raises(StudyError):
        assemble_study(study_uid, 1, instances, ())


@pytest.mark.parametrize("encoding", ["rle", "jpeg", "j2k-lossless"])
def test_fewer_compressed_frames_than_announced_are_no_scan(tmp_path, encoding):
    paths = write_study(make_scan(), tmp_path, Style("multiframe", encoding))
    edit(paths[0], lambda dataset: setattr(dataset, "NumberOfFrames", SHAPE[0] + 1))
    with pytest.raises(StudyError):
        assemble(paths)


@pytest.mark.parametrize(
    ("encoding", "mark", "offset", "size"),
    [
        ("jpeg", b"\xff\xc0", 5, struct.pack(">HH", 12_000, 12_000)),
        ("jpeg-ls", b"\xff\xf7", 5, struct.pack(">HH", 12_000, 12_000)),
        ("j2k-lossless", b"\xff\x4f\xff\x51", 8, struct.pack(">II", 12_000, 12_000)),
    ],
)
def test_a_frame_that_claims_to_be_huge_is_not_decoded(tmp_path, encoding, mark, offset, size):
    paths = write_study(make_scan(), tmp_path, Style("multiframe", encoding))
    damaged = bytearray(paths[0].read_bytes())
    start = damaged.index(mark) + offset
    damaged[start : start + len(size)] = size
    paths[0].write_bytes(damaged)
    start_seconds = time.process_time()
    with pytest.raises(UnsupportedPixels, match="decoded"):
        assemble(paths)
    assert time.process_time() - start_seconds < 0.3


def test_an_empty_file_another_study_and_no_instance(tmp_path):
    paths = write_study(make_scan(), tmp_path, Style("multiframe"))
    instances, study_uid = store(paths)
    with pytest.raises(StudyError, match="another study"):
        assemble_study("1.2.3", 1, instances, ())
    with pytest.raises(StudyError, match="no instances"):
        assemble_study(study_uid, 1, [], ())
    paths[0].write_bytes(b"")
    with pytest.raises(UnsupportedPixels, match="header"):
        assemble_study(study_uid, 1, instances, ())


def test_what_is_no_ultrasound_image_is_unused_with_its_reason(tmp_path):
    good = write_study(make_scan(), tmp_path / "good", Style("multiframe"))
    report = write_study(make_scan(), tmp_path / "other", Style("enhanced"))[0]

    def into_report(dataset):
        dataset.StudyInstanceUID = dcmread(good[0]).StudyInstanceUID
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
            "1.2.840.10008.5.1.4.1.1.88.33"
        )
        del dataset.Rows

    edit(report, into_report)
    study = assemble([*good, report])
    assert len(study.acquisitions) == 1
    (unused,) = study.unused
    assert unused.reason == "no image: Comprehensive SR Storage"


def test_random_damage_ends_in_a_study_or_a_study_error(tmp_path):
    chance = random.Random(8)
    styles = [
        Style("enhanced", "implicit"),
        Style("enhanced-apex", "rle"),
        Style("multiframe", "jpeg", "YBR_FULL_422"),
        Style("multiframe", "j2k", "RGB"),
        Style("multiframe", "jpeg-ls", "RGB"),
        Style("frames", "jpeg-lossless", "PALETTE COLOR"),
    ]
    for style in styles:
        paths = write_study(make_scan(shear_wave=True), tmp_path / style.form, style)
        instances, study_uid = store(paths)
        whole = paths[0].read_bytes()
        for _ in range(12):
            damaged = bytearray(whole)
            for _ in range(chance.choice((1, 4, 30))):
                damaged[chance.randrange(132, len(whole))] = chance.choice((0, 255, 65))
            paths[0].write_bytes(damaged)
            try:
                assert assemble_study(study_uid, 1, instances, ()).acquisitions
            except StudyError:
                continue
