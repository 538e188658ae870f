"""The five forms: which SOP class, how many instances, and where each keeps its geometry."""

from collections.abc import Callable, Iterator

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from dicom_node.scanner.enhanced import enhanced
from dicom_node.scanner.headers import instance, real_world_value
from dicom_node.scanner.style import Style
from dicom_node.scanner.volume import Volume

US_MULTIFRAME = UID("1.2.840.10008.5.1.4.1.1.3.1")
US_SINGLE_FRAME = UID("1.2.840.10008.5.1.4.1.1.6.1")
FRAME_TIME_MS = "40"

Datasets = Iterator[tuple[Dataset, range]]


def datasets(volume: Volume, style: Style) -> Datasets:
    """Each instance without its pixels, and the slices that belong into it."""
    yield from _FORMS[style.form](volume, style)


def _enhanced(volume: Volume, style: Style) -> Datasets:
    yield enhanced(volume, style), range(volume.shape[0])


def _multiframe(volume: Volume, style: Style) -> Datasets:
    dataset = _classic(US_MULTIFRAME, volume, 1, style)
    dataset.NumberOfFrames = volume.shape[0]
    dataset.FrameTime = FRAME_TIME_MS
    dataset.FrameIncrementPointer = 0x00181063
    dataset.SequenceOfUltrasoundRegions = [_region(volume)]
    yield dataset, range(volume.shape[0])


def _frames(volume: Volume, style: Style) -> Datasets:
    step, row, column = volume.spacing_mm
    directions = volume.affine[:3, [2, 1]] / (column, row)
    for number in range(volume.shape[0]):
        dataset = _classic(US_SINGLE_FRAME, volume, number + 1, style)
        dataset.FrameOfReferenceUID = style.uid("frame of reference")
        dataset.PositionReferenceIndicator = ""
        position = volume.affine[:3] @ (number, 0, 0, 1)
        dataset.ImagePositionPatient = _decimals(position)
        dataset.ImageOrientationPatient = _decimals(directions.T.ravel())
        dataset.PixelSpacing = _decimals(np.array([row, column]))
        dataset.SliceThickness = DSfloat(step, auto_format=True)
        yield dataset, range(number, number + 1)


def _frames_plain(volume: Volume, style: Style) -> Datasets:
    for number in range(volume.shape[0]):
        dataset = _classic(US_SINGLE_FRAME, volume, number + 1, style)
        dataset.SequenceOfUltrasoundRegions = [_region(volume)]
        yield dataset, range(number, number + 1)


_FORMS: dict[str, Callable[[Volume, Style], Datasets]] = {
    "enhanced": _enhanced,
    "enhanced-apex": _enhanced,
    "multiframe": _multiframe,
    "frames": _frames,
    "frames-plain": _frames_plain,
}


def _classic(sop_class_uid: UID, volume: Volume, number: int, style: Style) -> Dataset:
    """General Image and US Image modules (PS3.3 C.7.6.1, C.8.5.6)."""
    dataset = instance(sop_class_uid, volume, number, style)
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientOrientation = ""
    dataset.UltrasoundColorDataPresent = 0
    dataset.TransducerType = "LINEAR"
    if volume.mapping:
        dataset.RealWorldValueMappingSequence = [real_world_value(volume.mapping, volume.bits)]
    return dataset


def _region(volume: Volume) -> Dataset:
    """US Region Calibration of the tissue (PS3.3 C.8.5.5): 2D, tissue, centimeters per pixel."""
    _, row_mm, column_mm = volume.spacing_mm
    first_row, first_column, last_row, last_column = volume.region
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 2
    region.RegionLocationMinX0, region.RegionLocationMinY0 = first_column, first_row
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = last_column, last_row
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = column_mm / 10, row_mm / 10
    return region


def _decimals(values: np.ndarray) -> list[DSfloat]:
    """Decimal strings of at most 16 characters (PS3.5 section 6.2)."""
    return [DSfloat(float(value), auto_format=True) for value in values]
