"""Encapsulated PDF: the drawn pages as one document (PS3.3 A.45.1)."""

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.report.burned_in import say_burned_in
from dicom_node.report.header import CHARACTER_SET, carry_identity
from dicom_node.report.laterality import set_image_laterality
from dicom_node.report.origin import Origin
from dicom_node.report.references import instance_item, unique_headers


def build_document(origin: Origin, document: bytes) -> Dataset:
    """The document with the header of its study."""
    named = origin.constructor("document", 9000 + 10 * origin.number + 8)
    result = Dataset()
    result.file_meta = FileMetaDataset()
    result.SpecificCharacterSet = CHARACTER_SET
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    result.SOPInstanceUID = named["sop_instance_uid"]
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    carry_identity(origin.header, result)
    result.Modality = "DOC"
    result.SeriesInstanceUID, result.SeriesNumber = (
        named["series_instance_uid"],
        named["series_number"],
    )
    result.SeriesDescription = f"{origin.name} pages as PDF, research only"[:64]
    result.InstanceNumber = 1
    result.Manufacturer = named["manufacturer"]
    result.ManufacturerModelName = named["manufacturer_model_name"]
    result.SoftwareVersions = named["software_versions"]
    result.DeviceSerialNumber = named["device_serial_number"]
    result.ContributingEquipmentSequence = named["contributing_equipment"]
    result.ConversionType = "WSD"
    result.ContentDate = result.ContentTime = ""
    result.AcquisitionDateTime = ""
    say_burned_in(result, origin, required=True)
    set_image_laterality(result, origin.acquisition.scan)
    result.DocumentTitle = f"{origin.name} analysis. Research use only."[:64]
    result.ConceptNameCodeSequence = []
    result.SourceInstanceSequence = [instance_item(header) for header in unique_headers(origin)]
    result.MIMETypeOfEncapsulatedDocument = "application/pdf"
    result.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    result.EncapsulatedDocumentLength = len(document)
    origin.finish(result)
    return result
