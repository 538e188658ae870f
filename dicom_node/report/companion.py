"""Companion: the source once more as single images of square pixels with a place in space.

For viewers that lay no result over a multi-frame object. The segmentation, maps and report of the same
destination refer to these images in place of the source, which these images name.
"""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
from highdicom import ContributingEquipment
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import compress
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, UltrasoundImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.errors import ReportError
from dicom_node.report.burned_in import say_burned_in
from dicom_node.report.header import CHARACTER_SET, EQUIPMENT, carry_identity, clean_header
from dicom_node.report.laterality import set_image_laterality
from dicom_node.report.origin import Origin
from dicom_node.report.proxy import place
from dicom_node.report.references import known_class, source_items
from dicom_node.report.square import Grid, square_findings, square_grid, square_scan
from dicom_node.study import Acquisition, Source, SourceFrame

BRIGHTEST = 255
LOSSY = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


def square_origin(origin: Origin) -> Origin:
    """The outcome on square pixels; its sources are still the received ones."""
    scan = origin.acquisition.scan
    grid = square_grid(scan)
    findings = square_findings(origin.findings, scan, grid)
    return replace(
        origin,
        outcome=replace(origin.outcome, findings=findings),
        acquisition=replace(origin.acquisition, scan=square_scan(scan, grid)),
    )


def refer_to_companions(squared: Origin, companions: list[Dataset], paths: list[Path]) -> Origin:
    """The outcome on square pixels with the written images as its only source; the scanner stays."""
    frames = tuple(SourceFrame(number, None) for number in range(len(companions)))
    return replace(
        squared,
        acquisition=Acquisition(squared.acquisition.scan, (Source(tuple(paths), frames),)),
        raw=(tuple(companions),),
        headers=(tuple(_scanned(clean_header(item), squared.header) for item in companions),),
    )


def _scanned(header: Dataset, source: Dataset) -> Dataset:
    """A header with the equipment of the source, which is what objects name as that of their acquisition."""
    for keyword in EQUIPMENT:
        header.pop(keyword, None)
        if keyword in source:
            setattr(header, keyword, source[keyword].value)
    return header


def _equipment(origin: Origin, own: list[Dataset]) -> list[Dataset]:
    """The scanner before the program, as in the other objects; a scanner without a name is left out."""
    if not origin.header.Manufacturer:
        return own
    known = deepcopy(origin.header)
    known.SOPClassUID = known_class(origin)
    return [ContributingEquipment.for_image_acquisition(known), *own]


def build_companion(origin: Origin, pixels: NDArray[np.uint8], position: int) -> Dataset:
    """The image of one slice, uint8 (row, column) on square pixels."""
    result = Dataset()
    named = origin.constructor("companion", 9000 + 10 * origin.number + 9)
    result.file_meta = FileMetaDataset()
    result.SpecificCharacterSet = CHARACTER_SET
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    result.SOPInstanceUID = origin.uid("companion", "instance", position)
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    carry_identity(origin.header, result)
    for keyword in (keyword for keyword in LOSSY if keyword in origin.header):
        setattr(result, keyword, origin.header[keyword].value)
    result.Modality = origin.acquisition.scan.modality
    result.SeriesInstanceUID = named["series_instance_uid"]
    result.SeriesNumber = named["series_number"]
    result.SeriesDescription = f"{origin.name} source on square pixels"[:64]
    result.InstanceNumber = position + 1
    result.Manufacturer = named["manufacturer"]
    result.ManufacturerModelName = named["manufacturer_model_name"]
    result.SoftwareVersions = named["software_versions"]
    result.DeviceSerialNumber = named["device_serial_number"]
    result.ContributingEquipmentSequence = _equipment(origin, named["contributing_equipment"])
    result.ContentDate = result.ContentTime = ""
    result.ImageType = ["DERIVED", "SECONDARY"]
    result.BodyPartExamined = "LSPINE"
    say_burned_in(result, origin)
    set_image_laterality(result, origin.acquisition.scan)
    result.PatientOrientation = ""
    result.DerivationDescription = "Resampled to square pixels, black outside the tissue."
    result.SourceImageSequence = source_items(origin, position)
    _set_place(result, origin, square_grid(origin.acquisition.scan), position)
    _set_pixels(result, pixels, origin.form.transfer_syntax("companion"))
    origin.finish(result)
    return result


def _set_place(result: Dataset, origin: Origin, grid: Grid, position: int) -> None:
    """Frame of Reference and Image Plane; edges stay, so the center of the first pixel moves a little."""
    placement = place(origin)
    step_mm, row_mm, column_mm = origin.acquisition.scan.spacing_mm
    along_row, along_column = np.array(placement.orientation).reshape(2, 3)
    first = np.array(placement.positions_mm[position])
    first = first + along_row * grid.columns[0] * column_mm + along_column * grid.rows[0] * row_mm
    own = origin.header.get("FrameOfReferenceUID")
    result.FrameOfReferenceUID = own or origin.identity.frame_of_reference_uid
    result.PositionReferenceIndicator = ""
    result.ImageOrientationPatient = [
        format_number_as_ds(float(value)) for value in placement.orientation
    ]
    result.ImagePositionPatient = [format_number_as_ds(float(value) + 0.0) for value in first]
    result.PixelSpacing = [format_number_as_ds(float(grid.spacing_mm))] * 2
    result.SliceThickness = format_number_as_ds(float(placement.thickness_mm))
    result.SpacingBetweenSlices = format_number_as_ds(float(step_mm))


def _set_pixels(result: Dataset, pixels: NDArray[np.uint8], syntax: str) -> None:
    result.Rows, result.Columns = pixels.shape
    result.SamplesPerPixel, result.PhotometricInterpretation = 1, "MONOCHROME2"
    result.BitsAllocated = result.BitsStored = 8
    result.HighBit, result.PixelRepresentation = 7, 0
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    if syntax == JPEG2000Lossless:
        compress(result, syntax, generate_instance_uid=False)


def gray_of(squared: Origin, position: int) -> NDArray[np.uint8]:
    """Pixels of one slice; what lies outside the tissue, where names may be burned in, is black.

    Raises ReportError where the gray levels do not fit into a byte.
    """
    scan = squared.acquisition.scan
    gray = np.rint(np.where(scan.valid[position], scan.voxels[0, position], 0.0))
    if gray.min() < 0 or gray.max() > BRIGHTEST:
        raise ReportError(
            f"study {squared.study_uid}: gray levels up to {gray.max():g} do not fit into companion images; "
            "set companion = false for its destinations"
        )
    return gray.astype(np.uint8)
