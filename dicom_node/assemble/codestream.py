"""The size a compressed frame says of itself, read before any decoder allocates for it.

A few damaged bytes can make a decoder of JPEG-LS or JPEG 2000 work on 65,535 x 65,535 pixels for minutes.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.encaps import generate_frames

# Tag, VR, two reserved bytes and the undefined length of an encapsulated Pixel Data (PS3.5 section A.4).
PIXEL_DATA_HEADER_BYTES = 12
ITEM = b"\xfe\xff\x00\xe0"
J2K_START = b"\xff\x4f\xff\x51"
JPEG_START = b"\xff\xd8"
# Start of frame of JPEG (ISO/IEC 10918-1 table B.1), less DHT, JPG and DAC; 0xF7 is JPEG-LS.
START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def sizes(path: Path, frame_count: int) -> Iterator[tuple[int, int]]:
    """(rows, columns) that the code stream of each frame of an encapsulated instance states.

    Raises ValueError or struct.error where no size is found, EOFError where the file ends within a frame, and
    what pydicom raises on damaged items.
    """
    with path.open("rb") as file:
        dcmread(file, stop_before_pixels=True)
        file.seek(PIXEL_DATA_HEADER_BYTES, 1)
        _check_items(file, path.stat().st_size)
        for code in generate_frames(file, number_of_frames=frame_count):
            yield _size(code)


def _check_items(file: BinaryIO, end: int) -> None:
    """A decoder of JPEG 2000 makes a picture of half a frame too, so the items must be whole (PS3.5 A.4)."""
    start = file.tell()
    while len(header := file.read(8)) == 8 and header.startswith(ITEM):
        file.seek(struct.unpack("<L", header[4:])[0], 1)
        if file.tell() > end:
            raise EOFError("the last frame is cut off")
    file.seek(start)


def _size(code: bytes) -> tuple[int, int]:
    if code.startswith(JPEG_START):
        return _jpeg_size(code)
    start = code.find(J2K_START)
    if start < 0:
        raise ValueError("neither JPEG nor JPEG 2000")
    # SIZ: length, capabilities, then the right lower and the left upper corner (ISO/IEC 15444-1 A.5.1).
    right, lower, left, upper = struct.unpack_from(">4I", code, start + 8)
    return lower - upper, right - left


def _jpeg_size(code: bytes) -> tuple[int, int]:
    """Walk from marker to marker up to the start of the frame."""
    position = 2
    while True:
        prefix, marker, length = struct.unpack_from(">BBH", code, position)
        if prefix != 0xFF:
            raise ValueError("no marker where one must be")
        if marker == 0xFF:  # a marker may be preceded by fill bytes
            position += 1
        elif marker in START_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", code, position + 5)
            return rows, columns
        else:
            position += 2 + length
