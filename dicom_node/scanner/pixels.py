"""Frames into Pixel Data: color model, encoding, file."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from dicom_node.scanner.style import ENCODINGS, LOSSY, NATIVE
from dicom_node.scanner.volume import Volume

JPEG_QUALITY = 95
J2K_PSNR_DB = 50.0


def store(dataset: Dataset, volume: Volume, frames: range, path: Path) -> None:
    """Add the Image Pixel module (PS3.3 C.7.6.3) with these slices of the volume and write the file.

    Native frames go through one buffer, so that the pixels are in memory once beside the scan.
    """
    _describe(dataset, volume)
    syntax = ENCODINGS[volume.encoding]
    if volume.encoding in NATIVE:
        buffer = io.BytesIO()
        for number in frames:
            buffer.write(_native(_colored(volume.frame(number), volume.color), volume))
        if buffer.tell() % 2:
            buffer.write(b"\0")
        buffer.seek(0)
        dataset.PixelData = buffer
    else:
        codes = [_encode(_colored(volume.frame(n), volume.color), volume) for n in frames]
        dataset.PixelData = encapsulate(codes)
        if volume.encoding in LOSSY:
            pixels = len(frames) * dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
            dataset.LossyImageCompressionRatio = f"{pixels / sum(map(len, codes)):.2f}"
    dataset["PixelData"].VR = "OW" if volume.bits > 8 or syntax.is_implicit_VR else "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset.save_as(path, enforce_file_format=True)


def _describe(dataset: Dataset, volume: Volume) -> None:
    dataset.Rows, dataset.Columns = volume.shape[1:]
    dataset.SamplesPerPixel = 3 if volume.color in ("RGB", "YBR_FULL_422") else 1
    dataset.PhotometricInterpretation = _photometric(volume)
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = volume.bits
    dataset.HighBit = volume.bits - 1
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "01" if volume.encoding in LOSSY else "00"
    if volume.encoding in LOSSY:
        dataset.LossyImageCompressionMethod = (
            "ISO_10918_1" if volume.encoding == "jpeg" else "ISO_15444_1"
        )
    if volume.color == "PALETTE COLOR":
        _describe_palette(dataset, volume.encoding)


def _photometric(volume: Volume) -> str:
    """What the file says of its color; JPEG 2000 turns RGB into its own components (PS3.5 section 8.2.4)."""
    if volume.color == "RGB":
        return {"j2k": "YBR_ICT", "j2k-lossless": "YBR_RCT"}.get(volume.encoding, "RGB")
    return volume.color


def _describe_palette(dataset: Dataset, encoding: str) -> None:
    """A gray palette that runs backward, so that indices cannot be taken for gray levels."""
    order = ">u2" if encoding == "big-endian" else "<u2"
    entries = (np.arange(255, -1, -1) * 257).astype(order).tobytes()
    for color in ("Red", "Green", "Blue"):
        setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{color}PaletteColorLookupTableData", entries)


def _colored(gray: NDArray, color: str) -> NDArray:
    """Gray levels in the color model, (row, column) or (row, column, sample)."""
    if color == "PALETTE COLOR":
        return 255 - gray
    if color == "RGB":
        return np.repeat(gray[..., None], 3, axis=2)
    if color == "YBR_FULL_422":
        return np.stack((gray, np.full_like(gray, 128), np.full_like(gray, 128)), axis=2)
    return gray


def _native(frame: NDArray, volume: Volume) -> bytes:
    if volume.color == "YBR_FULL_422":
        frame = _halve_chroma(frame)
    if volume.encoding == "big-endian":
        frame = frame.astype(frame.dtype.newbyteorder(">"))
    return frame.tobytes()


def _halve_chroma(frame: NDArray) -> NDArray:
    """Y1 Y2 Cb Cr for each pair of pixels (PS3.3 C.7.6.3.1.2)."""
    if frame.shape[1] % 2:
        raise ValueError("YBR_FULL_422 needs an even number of columns")
    packed = (frame[:, 0::2, 0], frame[:, 1::2, 0], frame[:, 0::2, 1], frame[:, 0::2, 2])
    return np.stack(packed, axis=2)


def _encode(frame: NDArray, volume: Volume) -> bytes:
    if volume.encoding == "jpeg":
        return _jpeg(frame, volume.color)
    if volume.encoding == "jpeg-lossless":
        return _jpeg_lossless(frame, volume)
    options: dict[str, Any] = {"j2k_psnr": [J2K_PSNR_DB]} if volume.encoding == "j2k" else {}
    return get_encoder(ENCODINGS[volume.encoding]).encode(
        np.ascontiguousarray(frame),
        rows=frame.shape[0],
        columns=frame.shape[1],
        number_of_frames=1,
        samples_per_pixel=frame.shape[2] if frame.ndim == 3 else 1,
        bits_allocated=volume.bits,
        bits_stored=volume.bits,
        pixel_representation=0,
        planar_configuration=0,
        photometric_interpretation=_photometric(volume),
        **options,
    )


def _jpeg(frame: NDArray, color: str) -> bytes:
    buffer = io.BytesIO()
    if color == "YBR_FULL_422":
        image = Image.fromarray(frame, mode="YCbCr")
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:2")
    else:
        Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, keep_rgb=True)
    return buffer.getvalue()


def _jpeg_lossless(frame: NDArray, volume: Volume) -> bytes:
    """GDCM is the only installed encoder of JPEG Lossless; it takes and gives whole images."""
    writer = gdcm.ImageWriter()  # owns the image, so it must live until the change is done
    image = writer.GetImage()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((frame.shape[1], frame.shape[0], 1))
    kind = gdcm.PhotometricInterpretation.GetPIType(volume.color)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    samples = frame.shape[2] if frame.ndim == 3 else 1
    image.SetPixelFormat(gdcm.PixelFormat(samples, volume.bits, volume.bits, volume.bits - 1, 0))
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetByteStringValue(frame.tobytes())
    image.SetDataElement(element)
    change = gdcm.ImageChangeTransferSyntax()
    wanted = gdcm.TransferSyntax.GetTSType(ENCODINGS[volume.encoding])
    change.SetTransferSyntax(gdcm.TransferSyntax(wanted))
    change.SetInput(image)
    if not change.Change():
        raise ValueError("GDCM cannot encode this image as JPEG Lossless")
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    return b"".join(_fragments(fragments))


def _fragments(fragments: gdcm.SequenceOfFragments) -> Iterator[bytes]:
    for number in range(fragments.GetNumberOfFragments()):
        text = fragments.GetFragment(number).GetByteValue().GetBuffer()
        yield text.encode("utf-8", "surrogateescape")
