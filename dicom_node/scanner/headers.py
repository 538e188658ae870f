"""What every instance of the stand-in scanner says of patient, study, series and equipment."""

from pydicom import Dataset

from dicom_node.scanner.style import Style
from dicom_node.scanner.volume import Mapping, Volume

DATE, TIME = "20240102", "030405"
UNITS = {
    "m/s": ("m/s", "UCUM", "meter per second"),
    "cm/s": ("cm/s", "UCUM", "centimeter/second"),
    "kPa": ("kPa", "UCUM", "kPa"),
}
SHEAR_WAVE_SPEED = ("130611", "DCM", "Shear Wave Speed")
ELASTICITY = ("110830", "DCM", "Elasticity")


def item(code: tuple[str, str, str]) -> Dataset:
    """A coded concept as an item (PS3.3 section 8.8)."""
    dataset = Dataset()
    dataset.CodeValue, dataset.CodingSchemeDesignator, dataset.CodeMeaning = code
    return dataset


def instance(sop_class_uid: str, volume: Volume, number: int, style: Style) -> Dataset:
    """Patient, General Study, General Series, Equipment and SOP Common modules of a person who never was."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = style.uid(f"{volume.name}|{number}")
    dataset.PatientName = f"PHANTOM^{style.seed}"
    dataset.PatientID = f"PHANTOM-{style.seed}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = style.uid("study")
    dataset.StudyDate, dataset.StudyTime = DATE, TIME
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
    dataset.StudyDescription = "SYNTHETIC lumbar ultrasound"
    dataset.Modality = "US"
    dataset.SeriesInstanceUID = style.uid(f"{volume.name}|series")
    dataset.SeriesNumber = volume.number
    dataset.SeriesDescription = volume.name
    dataset.BodyPartExamined = "LSPINE"
    dataset.Manufacturer, dataset.ManufacturerModelName = style.manufacturer, style.model
    dataset.StationName, dataset.DeviceSerialNumber = style.station, "0"
    dataset.SoftwareVersions = "1"
    dataset.InstanceNumber = number
    dataset.ContentDate, dataset.ContentTime = DATE, TIME
    dataset.AcquisitionDateTime = DATE + TIME
    dataset.BurnedInAnnotation = "NO"
    return dataset


def real_world_value(mapping: Mapping, bits: int) -> Dataset:
    """An item of the Real World Value Mapping Sequence (PS3.3 C.7.6.16.2.11); a stored 0 is not mapped."""
    dataset = Dataset()
    dataset.RealWorldValueFirstValueMapped = 1
    dataset.RealWorldValueLastValueMapped = 2**bits - 1
    dataset.RealWorldValueIntercept, dataset.RealWorldValueSlope = 0.0, mapping.slope
    dataset.LUTExplanation, dataset.LUTLabel = "shear wave", "SWE"
    dataset.MeasurementUnitsCodeSequence = [item(UNITS[mapping.unit])]
    quantity = Dataset()
    quantity.ValueType = "CODE"
    quantity.ConceptNameCodeSequence = [item(("246205007", "SCT", "Quantity"))]
    quantity.ConceptCodeSequence = [item(ELASTICITY if mapping.unit == "kPa" else SHEAR_WAVE_SPEED)]
    dataset.QuantityDefinitionSequence = [quantity]
    return dataset
