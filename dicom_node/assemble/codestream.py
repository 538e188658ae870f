"""Encapsulated frames, put together from their fragments, and the size that each says of itself.

The size is read before any decoder allocates for it: a few damaged bytes can make a decoder of JPEG-LS or
JPEG 2000 work on 65,535 x 65,535 pixels for minutes.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread

# Tag, VR, two reserved bytes and the undefined length of an encapsulated Pixel Data (PS3.5 section A.4).
PIXEL_DATA_HEADER_BYTES = 12
ITEM_HEADER_BYTES = 8
ITEM = b"\xfe\xff\x00\xe0"
DELIMITER = b"\xfe\xff\xdd\xe0"
J2K_START = b"\xff\x4f\xff\x51"
JPEG_START = b"\xff\xd8"
JP2_START = b"\x00\x00\x00\x0cjP  "
STARTS = (JPEG_START, J2K_START, JP2_START)
MOST_START_BYTES = max(map(len, STARTS))
# Start of frame of JPEG (ISO/IEC 10918-1 table B.1), less DHT, JPG and DAC; 0xF7 is JPEG-LS.
START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Fragment:
    """An item of encapsulated Pixel Data: where its bytes begin in the file, and how many there are."""

    start: int
    length: int


def codes(path: Path, header: Dataset, frame_count: int) -> Iterator[bytes]:
    """The code stream of each frame of an encapsulated instance (PS3.5 A.4).

    An empty fragment is no frame, wherever it is. Frames are told apart by the offset table where it fits,
    else by their number or by how a code stream begins. Raises ValueError where none of this fits, EOFError
    where the file ends within a frame.
    """
    with path.open("rb") as file:
        dcmread(file, stop_before_pixels=True)
        file.seek(PIXEL_DATA_HEADER_BYTES, 1)
        first, *fragments = _fragments(file, path.stat().st_size)
        file.seek(first.start)
        offsets = _offsets(header, file.read(first.length))
        base = first.start + first.length
        filled = [fragment for fragment in fragments if fragment.length]
        frames = _by_offsets(fragments, [base + offset for offset in offsets])
        if len(frames) < frame_count:
            frames = _by_number(file, filled, frame_count)
        for frame in frames[:frame_count]:
            yield b"".join(_read(file, fragment) for fragment in frame)


def native_bytes(path: Path) -> int:
    """Length of Pixel Data that is not encapsulated, 0 where there is none."""
    with path.open("rb") as file:
        syntax = dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID
        start = file.read(PIXEL_DATA_HEADER_BYTES)
        end = "<" if syntax.is_little_endian else ">"
        place = 4 if syntax.is_implicit_VR else 8
        return int(struct.unpack_from(f"{end}L", start, place)[0]) if len(start) > place + 3 else 0


def _fragments(file: BinaryIO, end: int) -> list[Fragment]:
    """All items, the offset table first; the delimiter after the last one may be missing.

    A decoder of JPEG 2000 makes a picture of half a frame too, so the items must be whole.
    """
    found = []
    while len(header := file.read(8)) == 8 and not header.startswith(DELIMITER):
        if not header.startswith(ITEM):
            raise ValueError("no item where one must be")
        fragment = Fragment(file.tell(), struct.unpack("<L", header[4:])[0])
        if fragment.start + fragment.length > end:
            raise EOFError("the last frame is cut off")
        file.seek(fragment.length, 1)
        found.append(fragment)
    if not found:
        raise ValueError("encapsulated pixel data without an item")
    return found


def _offsets(header: Dataset, basic: bytes) -> Sequence[int]:
    """Where frames begin, from the extended offset table (PS3.3 C.7.6.3.1.8), else from the basic one."""
    extended = header.get("ExtendedOffsetTable")
    table, letter, size = (extended, "Q", 8) if extended else (basic, "L", 4)
    return struct.unpack(f"<{len(table) // size}{letter}", table[: len(table) // size * size])


def _by_offsets(fragments: Sequence[Fragment], starts: Sequence[int]) -> list[list[Fragment]]:
    """Fragments of each frame, without those that are empty; none where the table does not fit the items."""
    items = {fragment.start - ITEM_HEADER_BYTES for fragment in fragments}
    if not starts or not items.issuperset(starts) or list(starts) != sorted(set(starts)):
        return []
    frames: list[list[Fragment]] = [[] for _ in range(len(starts) + 1)]
    for fragment in fragments:
        if fragment.length:
            frames[bisect_right(starts, fragment.start - ITEM_HEADER_BYTES)].append(fragment)
    return [] if frames[0] else [frame for frame in frames if frame]


def _by_number(
    file: BinaryIO, filled: Sequence[Fragment], frame_count: int
) -> list[list[Fragment]]:
    if len(filled) == frame_count:
        return [[fragment] for fragment in filled]
    if frame_count == 1 and filled:
        return [list(filled)]
    frames: list[list[Fragment]] = []
    for fragment in filled:
        if _read(file, fragment, MOST_START_BYTES).startswith(STARTS):
            frames.append([])
        if not frames:
            raise ValueError("the first frame has no beginning")
        frames[-1].append(fragment)
    if len(frames) < frame_count:
        raise ValueError("fewer frames than the header says")
    return frames


def _read(file: BinaryIO, fragment: Fragment, most: int = -1) -> bytes:
    file.seek(fragment.start)
    return file.read(fragment.length if most < 0 else min(most, fragment.length))


def size(code: bytes) -> tuple[int, int]:
    """(rows, columns) that the code stream of a frame states.

    Raises ValueError or struct.error where no size is found.
    """
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
