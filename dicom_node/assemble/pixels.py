"""Stored pixels into gray levels, frame by frame, by one fixed decoder for each transfer syntax."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.pixels import apply_color_lut, iter_pixels, pixel_array

from dicom_node.assemble.codestream import sizes
from dicom_node.assemble.grouping import Stack
from dicom_node.assemble.instances import Instance, malformed
from dicom_node.assemble.overlay import (
    GRAY_SPREAD,
    LUMA,
    LUMA_BINS,
    chroma_table,
    is_tint,
    spread_of,
)
from dicom_node.errors import Incomplete, UnsupportedPixels

# Decoders of the same JPEG differ by some gray levels, so the choice is fixed: (pydicom plugin, package). For
# JPEG-LS it is GDCM, because pyjpegls works for many seconds on some damaged frames.
DECODERS = {
    uid.ImplicitVRLittleEndian: ("", "pydicom"),
    uid.ExplicitVRLittleEndian: ("", "pydicom"),
    uid.ExplicitVRBigEndian: ("", "pydicom"),
    uid.RLELossless: ("pydicom", "pydicom"),
    uid.JPEGBaseline8Bit: ("pillow", "pillow"),
    uid.JPEGExtended12Bit: ("gdcm", "python-gdcm"),
    uid.JPEGLossless: ("gdcm", "python-gdcm"),
    uid.JPEGLosslessSV1: ("gdcm", "python-gdcm"),
    uid.JPEGLSLossless: ("gdcm", "python-gdcm"),
    uid.JPEGLSNearLossless: ("gdcm", "python-gdcm"),
    uid.JPEG2000Lossless: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.JPEG2000: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2KLossless: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2KLosslessRPCL: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2K: ("pylibjpeg", "pylibjpeg-openjpeg"),
}
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
GRAY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, slots=True, eq=False)
class Gray:
    """Gray levels float32 (slice, row, column), and bool which pixels are colored, or None.

    A tint colors the whole echo and hides nothing, so ``colored`` is None then.
    """

    levels: NDArray[np.float32]
    colored: NDArray[np.bool_] | None
    is_tinted: bool


def decoder(instance: Instance) -> str:
    """Name and version of what decodes an instance, "" when nothing does."""
    _, package = DECODERS.get(instance.header.file_meta.TransferSyntaxUID, ("", ""))
    return f"{package} {version(package)}" if package else ""


def decode_gray(
    study_uid: str,
    stack: Stack,
    levels: NDArray[np.float32],
    read: Callable[[int, NDArray[np.uint8], NDArray[np.bool_]], None] | None = None,
) -> Gray:
    """Fill ``levels`` (slice, row, column) with the gray levels of a stack.

    Equal channels give their value, others their luma. Colored pixels are reported, because a color map
    laid over B-mode is no echo. ``read`` gets the slice number, each color frame (row, column, 3), 8 bits,
    and which of its pixels are colored. Raises UnsupportedPixels, Incomplete.
    """
    colored: NDArray[np.bool_] | None = None
    table = np.zeros((LUMA_BINS, 6))
    for slot, instance, frame in _decoded(study_uid, stack):
        header = instance.header
        photometric = header.PhotometricInterpretation
        with malformed(study_uid, "the color model cannot be read"):
            if photometric == "PALETTE COLOR":
                frame = _palette(frame, header)
            if frame.ndim == 2:
                levels[slot] = _inverted(frame, header) if photometric == "MONOCHROME1" else frame
                continue
            frame = _bytes(frame, header)
        spread = spread_of(frame)
        luma = frame.astype(np.float32) @ LUMA
        levels[slot] = np.where(spread == 0, frame[..., 0], luma)
        if colored is None:
            colored = np.zeros(levels.shape, np.bool_)
        colored[slot] = spread > GRAY_SPREAD
        table += chroma_table(frame, luma, colored[slot])
        if read:
            read(slot, frame, colored[slot])
    is_tinted = colored is not None and is_tint(table)
    return Gray(levels, None if is_tinted else colored, is_tinted)


def decode_stored(study_uid: str, stack: Stack) -> Iterator[tuple[int, NDArray]]:
    """(slice, stored values (row, column)) of a MONOCHROME2 stack. Raises UnsupportedPixels, Incomplete."""
    for slot, instance, frame in _decoded(study_uid, stack):
        if instance.header.PhotometricInterpretation != "MONOCHROME2" or frame.ndim != 2:
            raise UnsupportedPixels(study_uid, "measured values are stored as MONOCHROME2 only")
        yield slot, frame


def _decoded(study_uid: str, stack: Stack) -> Iterator[tuple[int, Instance, NDArray]]:
    """Each frame once, with its slice; one instance after the other, one frame in memory at a time."""
    wanted: dict[int, dict[int, int]] = defaultdict(dict)
    for slot, frame in enumerate(stack.frames):
        wanted[id(frame.instance)][frame.number - 1] = slot
    for instance in stack.instances:
        slots = wanted[id(instance)]
        for index, array in enumerate(_frames(study_uid, instance)):
            if index in slots:
                yield slots.pop(index), instance, array
        if slots:
            raise Incomplete(study_uid, f"{len(slots)} frames have no pixel data")


def _frames(study_uid: str, instance: Instance) -> Iterator[NDArray]:
    """All frames of an instance, (row, column) or (row, column, red-green-blue)."""
    with malformed(study_uid, "the description of the pixels cannot be read"):
        header = instance.header
        syntax = header.file_meta.TransferSyntaxUID
        photometric = header.get("PhotometricInterpretation")
    if syntax not in DECODERS:
        raise UnsupportedPixels(study_uid, f"transfer syntax {syntax.name} is not decoded")
    if photometric not in (*GRAY, *COLOR, "PALETTE COLOR"):
        raise UnsupportedPixels(
            study_uid, "the photometric interpretation is not one of ultrasound"
        )
    plugin, _ = DECODERS[syntax]
    with malformed(study_uid, "the pixel data cannot be decoded: damaged or cut off"):
        if syntax.is_compressed and syntax != uid.RLELossless:
            _check_codes(instance)
        if photometric == "YBR_FULL_422" and not syntax.is_compressed:
            # pydicom 3.0.2 loses the halved chroma after the first frame it iterates over.
            path, count = instance.stored.path, instance.frame_count
            arrays: Iterator[NDArray] = (pixel_array(path, index=index) for index in range(count))
        else:
            arrays = iter_pixels(instance.stored.path, decoding_plugin=plugin)
        for array in arrays:
            if array.shape[:2] != (header.Rows, header.Columns):
                raise ValueError("decoded to another size than the header says")
            yield array


def _check_codes(instance: Instance) -> None:
    """Raises ValueError when a compressed frame has another size than its header says."""
    header = instance.header
    for size in sizes(instance.stored.path, instance.frame_count):
        if size != (header.Rows, header.Columns):
            raise ValueError("compressed at another size than the header says")


def _inverted(frame: NDArray, header: Dataset) -> NDArray:
    """MONOCHROME1 shows its smallest value white (PS3.3 C.7.6.3.1.2)."""
    signed, bits = int(header.PixelRepresentation), int(header.BitsStored)
    return (-1 if signed else 2**bits - 1) - frame.astype(np.float32)


def _palette(frame: NDArray, header: Dataset) -> NDArray:
    """Red, green, blue 0-255 of palette indices (PS3.3 C.7.6.3.1.5); 16-bit palettes carry 8 bits above."""
    colors = apply_color_lut(frame, header)
    is_wide = int(header.RedPaletteColorLookupTableDescriptor[2]) > 8 and colors.max() > 255
    return colors >> 8 if is_wide else colors


def _bytes(frame: NDArray, header: Dataset) -> NDArray[np.uint8]:
    """Colors of more than 8 bits cut to 8, which is what a color map is told by."""
    bits = 8 if frame.dtype == np.uint8 else int(header.BitsStored)
    return np.asarray(frame >> max(0, bits - 8), np.uint8)
