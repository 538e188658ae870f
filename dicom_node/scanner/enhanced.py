"""An Enhanced US Volume (PS3.3 A.59): shared and per-frame functional groups, patient or volume geometry."""

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from dicom_node.scanner.headers import DATE, TIME, instance, item, real_world_value
from dicom_node.scanner.style import Style
from dicom_node.scanner.volume import Volume

ENHANCED_US_VOLUME = UID("1.2.840.10008.5.1.4.1.1.6.2")
LUMBAR_REGION = ("52612000", "SCT", "Lumbar region")
TRANSVERSE, LONGITUDINAL = (
    ("62824007", "SCT", "Transverse"),
    ("38717003", "SCT", "Longitudinal"),
)
# A linear probe moved by a motor along its elevational axis, from outside the body.
VOLUME_SCAN = ("125242", "DCM", "Volume scan pattern")
LINEAR_PROBE = ("125252", "DCM", "Linear ultrasound transducer geometry")
MECHANICAL_STEERING = ("125258", "DCM", "Mechanical beam steering")
EXTERNAL_PROBE = ("125261", "DCM", "External Transducer")


def enhanced(volume: Volume, style: Style) -> Dataset:
    """One instance that holds the whole volume, without its pixels."""
    dataset = instance(ENHANCED_US_VOLUME, volume, 1, style)
    in_patient = style.form == "enhanced"
    _image(dataset, volume)
    _frame_of_reference(dataset, style, in_patient)
    dataset.NumberOfFrames = volume.shape[0]
    dataset.SharedFunctionalGroupsSequence = [_shared(volume, in_patient)]
    dataset.PerFrameFunctionalGroupsSequence = [
        _per_frame(volume, number, in_patient) for number in range(volume.shape[0])
    ]
    _dimensions(dataset, style)
    return dataset


def _image(dataset: Dataset, volume: Volume) -> None:
    """Enhanced US Image module (PS3.3 C.8.24.3) and Acquisition Context."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = DATE, TIME
    dataset.AcquisitionNumber = 1
    dataset.AcquisitionDuration = 1.0
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
    dataset.AcquisitionContextSequence = []
    dataset.PatientOrientation = ""
    dataset.AnatomicRegionSequence = [item(LUMBAR_REGION)]
    # Columns that run from head to foot show the back lengthwise.
    longitudinal = abs(volume.affine[:3, 2]).argmax() == 2
    dataset.ViewCodeSequence = [item(LONGITUDINAL if longitudinal else TRANSVERSE)]
    dataset.TransducerScanPatternCodeSequence = [item(VOLUME_SCAN)]
    dataset.TransducerGeometryCodeSequence = [item(LINEAR_PROBE)]
    dataset.TransducerBeamSteeringCodeSequence = [item(MECHANICAL_STEERING)]
    dataset.TransducerApplicationCodeSequence = [item(EXTERNAL_PROBE)]
    dataset.MechanicalIndex = 0.7
    dataset.BoneThermalIndex = dataset.CranialThermalIndex = dataset.SoftTissueThermalIndex = 0.2
    depth_mm = volume.shape[1] * volume.spacing_mm[1]
    dataset.DepthsOfFocus = depth_mm / 2
    dataset.DepthOfScanField = round(depth_mm)


def _frame_of_reference(dataset: Dataset, style: Style, in_patient: bool) -> None:
    """Frame of Reference, Ultrasound Frame of Reference, Synchronization (PS3.3 C.7.4, C.8.24.2)."""
    dataset.FrameOfReferenceUID = style.uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.VolumeFrameOfReferenceUID = style.uid("volume frame of reference")
    dataset.UltrasoundAcquisitionGeometry = "PATIENT" if in_patient else "APEX"
    dataset.VolumeToTransducerRelationship = "FIXED"
    dataset.VolumeToTransducerMappingMatrix = [float(value) for value in np.eye(4).ravel()]
    if in_patient:
        dataset.PatientFrameOfReferenceSource = "TABLE"
        dataset.TableFrameOfReferenceUID = style.uid("table frame of reference")
        dataset.VolumeToTableMappingMatrix = [float(value) for value in np.eye(4).ravel()]
    else:
        dataset.ApexPosition = [0.0, 0.0, 0.0]
    dataset.SynchronizationFrameOfReferenceUID = style.uid("synchronization")
    dataset.SynchronizationTrigger = "NO TRIGGER"
    dataset.AcquisitionTimeSynchronized = "N"


def _shared(volume: Volume, in_patient: bool) -> Dataset:
    step, row, column = volume.spacing_mm
    directions = (volume.affine[:3, [2, 1]] / (column, row)).T.ravel()
    group = Dataset()
    measures = Dataset()
    measures.PixelSpacing = [DSfloat(row, auto_format=True), DSfloat(column, auto_format=True)]
    measures.SliceThickness = measures.SpacingBetweenSlices = DSfloat(step, auto_format=True)
    group.PixelMeasuresSequence = [measures]
    in_volume = Dataset()
    in_volume.ImageOrientationVolume = [float(value) for value in directions]
    group.PlaneOrientationVolumeSequence = [in_volume]
    if in_patient:
        plane = Dataset()
        plane.ImageOrientationPatient = [DSfloat(float(v), auto_format=True) for v in directions]
        group.PlaneOrientationSequence = [plane]
    group.ImageDataTypeSequence = [_data_type(volume)]
    description = Dataset()
    description.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    description.VolumetricProperties = "VOLUME"
    description.VolumeBasedCalculationTechnique = "NONE"
    group.USImageDescriptionSequence = [description]
    if volume.mapping:
        group.RealWorldValueMappingSequence = [real_world_value(volume.mapping, volume.bits)]
    return group


def _data_type(volume: Volume) -> Dataset:
    """Image Data Type macro (PS3.3 C.7.6.16.2.24)."""
    dataset = Dataset()
    dataset.DataType = "ELASTICITY" if volume.mapping else "TISSUE_INTENSITY"
    dataset.AliasedDataType = "NO"
    dataset.ZeroVelocityPixelValue = 0
    return dataset


def _per_frame(volume: Volume, number: int, in_patient: bool) -> Dataset:
    position = volume.affine[:3] @ (number, 0, 0, 1)
    group = Dataset()
    content = Dataset()
    content.FrameAcquisitionNumber = 1
    content.FrameReferenceDateTime = content.FrameAcquisitionDateTime = DATE + TIME
    content.FrameAcquisitionDuration = 1.0
    content.DimensionIndexValues = [number + 1]
    group.FrameContentSequence = [content]
    in_volume = Dataset()
    in_volume.ImagePositionVolume = [float(value) for value in position]
    group.PlanePositionVolumeSequence = [in_volume]
    window = Dataset()
    half = 2 ** (volume.bits - 1)
    window.WindowCenter, window.WindowWidth = half, 2 * half
    group.FrameVOILUTSequence = [window]
    if in_patient:
        plane = Dataset()
        plane.ImagePositionPatient = [DSfloat(float(v), auto_format=True) for v in position]
        group.PlanePositionSequence = [plane]
    return group


def _dimensions(dataset: Dataset, style: Style) -> None:
    """Frames are counted by their position in the volume (PS3.3 C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = style.uid("dimensions")
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionOrganizationType = "3D"
    index = Dataset()
    index.DimensionOrganizationUID = organization.DimensionOrganizationUID
    index.DimensionIndexPointer = 0x00209301  # Image Position (Volume)
    index.FunctionalGroupPointer = 0x0020930E  # Plane Position (Volume) Sequence
    dataset.DimensionIndexSequence = [index]
