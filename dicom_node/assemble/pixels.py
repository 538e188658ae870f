"""Stored pixels into gray levels, frame by frame, by one fixed decoder for each transfer syntax."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import (
    apply_color_lut,
    as_pixel_options,
    get_decoder,
    iter_pixels,
    pixel_array,
)

from dicom_node.assemble.codestream import codes, native_bytes, size
from dicom_node.assemble.color_model import ColorModel, Planes, model_by_length
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

    A tint colors the whole echo and hides nothing, so ``colored`` is None then. ``note`` is what a reader
    should know about the pixels.
    """

    levels: NDArray[np.float32]
    colored: NDArray[np.bool_] | None
    is_tinted: bool
    note: str


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
    model = ColorModel(study_uid)
    for slot, frame in model.in_rgb(_colors(study_uid, stack, levels)):
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
    return Gray(levels, None if is_tinted else colored, is_tinted, model.note)


def _colors(study_uid: str, stack: Stack, levels: NDArray[np.float32]) -> Iterator[Planes]:
    """The frames that have colors, of 8 bits; those that have none are filled into ``levels`` at once."""
    for slot, instance, frame, declared in _decoded(study_uid, stack):
        header = instance.header
        with malformed(study_uid, "the color model cannot be read"):
            if declared == "PALETTE COLOR":
                frame, declared = _palette(frame, header), "RGB"
            if frame.ndim == 2:
                levels[slot] = _inverted(frame, header) if declared == "MONOCHROME1" else frame
            else:
                yield Planes(slot, _bytes(frame, header), declared)


def decode_stored(study_uid: str, stack: Stack) -> Iterator[tuple[int, NDArray]]:
    """(slice, stored values (row, column)) of a MONOCHROME2 stack. Raises UnsupportedPixels, Incomplete."""
    for slot, _, frame, declared in _decoded(study_uid, stack):
        if declared != "MONOCHROME2" or frame.ndim != 2:
            raise UnsupportedPixels(study_uid, "measured values are stored as MONOCHROME2 only")
        yield slot, frame


def _decoded(study_uid: str, stack: Stack) -> Iterator[tuple[int, Instance, NDArray, str]]:
    """Each frame once, with its slice, its instance and its declared color model; one in memory at a time."""
    wanted: dict[int, dict[int, int]] = defaultdict(dict)
    for slot, frame in enumerate(stack.frames):
        wanted[id(frame.instance)][frame.number - 1] = slot
    for instance in stack.instances:
        slots = wanted[id(instance)]
        for index, (array, declared) in enumerate(_frames(study_uid, instance)):
            if index in slots:
                yield slots.pop(index), instance, array, declared
        if slots:
            raise Incomplete(study_uid, f"{len(slots)} frames have no pixel data")


def _frames(study_uid: str, instance: Instance) -> Iterator[tuple[NDArray, str]]:
    """All frames of an instance as stored, (row, column) or (row, column, plane), and their color model.

    The model is what the header says, or what the code stream says where it speaks of it (JFIF, JPEG 2000).
    """
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
    with malformed(study_uid, "the pixel data cannot be decoded: damaged or cut off"):
        for array, declared in (
            _encapsulated(instance) if syntax.is_compressed else _native(instance)
        ):
            if array.shape[:2] != (header.Rows, header.Columns):
                raise ValueError("decoded to another size than the header says")
            yield array, declared


def _native(instance: Instance) -> Iterator[tuple[NDArray, str]]:
    path, count = instance.stored.path, instance.frame_count
    declared = model_by_length(instance.header, count, native_bytes(path))
    if declared == "YBR_FULL_422":
        # pydicom 3.0.2 loses the halved chroma after the first frame it iterates over.
        arrays: Iterator[NDArray] = (
            pixel_array(path, index=index, raw=True, photometric_interpretation=declared)
            for index in range(count)
        )
    else:
        arrays = iter_pixels(path, raw=True, photometric_interpretation=declared)
    return ((array, declared) for array in arrays)


def _encapsulated(instance: Instance) -> Iterator[tuple[NDArray, str]]:
    """Frame by frame, as pydicom takes an empty fragment for a frame."""
    header = instance.header
    syntax = header.file_meta.TransferSyntaxUID
    decode = get_decoder(syntax)
    plugin, _ = DECODERS[syntax]
    options = as_pixel_options(header, number_of_frames=1, pixel_keyword="PixelData")
    options.pop("extended_offsets", None)
    options.setdefault("planar_configuration", 0)  # code streams order their planes by themselves
    for code in codes(instance.stored.path, header, instance.frame_count):
        if syntax != uid.RLELossless and size(code) != (header.Rows, header.Columns):
            raise ValueError("compressed at another size than the header says")
        frames = decode.iter_array(encapsulate([code]), raw=True, decoding_plugin=plugin, **options)
        array, properties = next(frames)
        yield array, str(properties["photometric_interpretation"])


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
