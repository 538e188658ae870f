"""Frames are put together from the fragments of scanners and archives; an empty fragment is none."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from dicom_node.errors import UnsupportedPixels
from dicom_node.scanner import Style, write_study
from tests.assemble_studies import SHAPE, assemble_one, edit, make_scan

COUNT = SHAPE[0]
ENCODINGS = ("jpeg", "jpeg-ls", "j2k-lossless", "rle")
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def item(value):
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(value)) + value


def write(folder, encoding, arrange, table="none"):
    """One multi-frame instance, its fragments as ``arrange`` makes them of the frames.

    A table says where each frame begins; "counted" where each fragment does, empty ones too.
    """
    (path,) = write_study(make_scan(), folder, Style("multiframe", encoding))
    frames = list(generate_frames(dcmread(path).PixelData, number_of_frames=COUNT))
    fragments = arrange(frames)
    places = np.cumsum([0] + [len(item(one)) for one in fragments])
    begins = [
        int(place) for place, one in zip(places, fragments, strict=False) if _begins(one, frames)
    ]

    def change(dataset):
        offsets = {"basic": begins, "counted": places[:-1].tolist()}.get(table, [])
        dataset.PixelData = item(struct.pack(f"<{len(offsets)}L", *offsets))
        dataset.PixelData += b"".join(map(item, fragments))
        if table == "extended":
            dataset.ExtendedOffsetTable = struct.pack(f"<{COUNT}Q", *begins)
            dataset.ExtendedOffsetTableLengths = struct.pack(f"<{COUNT}Q", *map(len, frames))

    edit(path, change)
    return path


def _begins(fragment, frames):
    return bool(fragment) and any(frame.startswith(fragment) for frame in frames)


def halves(frames):
    cut = [(frame[: len(frame) // 4 * 2], frame[len(frame) // 4 * 2 :]) for frame in frames]
    return [half for pair in cut for half in pair]


WITH_EMPTY = {
    "last": lambda frames: [*frames, b""],
    "two last": lambda frames: [*frames, b"", b""],
    "first": lambda frames: [b"", *frames],
    "middle": lambda frames: [*frames[:2], b"", *frames[2:]],
    "everywhere": lambda frames: [part for frame in frames for part in (b"", frame)] + [b""],
}


@pytest.mark.parametrize("table", ["none", "basic", "extended", "counted"])
@pytest.mark.parametrize("arrange", WITH_EMPTY)
def test_an_empty_fragment_is_no_frame(tmp_path, arrange, table):
    for encoding in ENCODINGS if table == "none" else ("jpeg",):
        whole = assemble_one([write(tmp_path / encoding, encoding, list)])
        path = write(tmp_path / f"{encoding}-empty", encoding, WITH_EMPTY[arrange], table)
        assert (assemble_one([path]).voxels == whole.voxels).all()


@pytest.mark.parametrize("table", ["none", "basic"])
@pytest.mark.parametrize("encoding", ["jpeg", "jpeg-ls", "j2k-lossless"])
def test_frames_in_several_fragments_with_empty_ones_between(tmp_path, encoding, table):
    whole = assemble_one([write(tmp_path / "whole", encoding, list)])
    for name, arrange in {
        "halves": halves,
        "empty": lambda frames: [part for half in halves(frames) for part in (half, b"")],
    }.items():
        path = write(tmp_path / name, encoding, arrange, table)
        assert (assemble_one([path]).voxels == whole.voxels).all()


@pytest.mark.parametrize(
    "tail",
    [b"", b"\xfe\xff\xdd\xe0\x08\0\0\0", DELIMITER * 2, DELIMITER + bytes(7), DELIMITER[:4]],
    ids=["none", "of a length", "twice", "zeros behind", "cut"],
)
def test_the_delimiter_after_the_last_fragment_may_be_odd(tmp_path, tail):
    path = write(tmp_path, "jpeg", WITH_EMPTY["last"])
    whole = assemble_one([path])
    path.write_bytes(path.read_bytes().removesuffix(DELIMITER) + tail)
    assert (assemble_one([path]).voxels == whole.voxels).all()


@pytest.mark.parametrize("table", ["none", "basic", "counted"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_empty_fragment_does_not_stand_for_a_lost_frame(tmp_path, encoding, table):
    path = write(tmp_path, encoding, lambda frames: [*frames[:1], b"", *frames[2:]], table)
    with pytest.raises(UnsupportedPixels, match="cannot be decoded"):
        assemble_one([path])


@pytest.mark.skipif(
    "DICOM_NODE_TEST_DATA" not in os.environ,
    reason="DICOM_NODE_TEST_DATA names no folder of real files",
)
def test_the_file_from_the_field():
    folder = Path(os.environ["DICOM_NODE_TEST_DATA"]) / "field" / "50e_zero_last_fragment"
    assert assemble_one(sorted(folder.glob("*.dcm"))).shape == (8, 64, 64)
