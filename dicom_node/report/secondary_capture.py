"""Secondary Capture: a drawn page as an image that every archive takes (PS3.3 A.8.1)."""

import highdicom as hd
import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.report.burned_in import say_burned_in
from dicom_node.report.concepts import declare_schemes
from dicom_node.report.header import carry_identity
from dicom_node.report.laterality import set_image_laterality
from dicom_node.report.origin import Origin
from dicom_node.report.references import instance_item, unique_headers


def build_page(origin: Origin, pixels: NDArray[np.uint8], number: int) -> SCImage:
    """One page, uint8 (row, column, red green blue); all pages of an outcome are one series."""
    named = origin.constructor("page", 9000 + 10 * origin.number + 7)
    named |= {
        "sop_instance_uid": origin.uid("page", "instance", number),
        "instance_number": number + 1,
    }
    result = SCImage(
        pixels,
        # JPEG 2000 without loss encodes colors by its reversible transform (PS3.5 section 8.2.4).
        photometric_interpretation="YBR_RCT" if origin.form.encoding == "j2k" else "RGB",
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        study_instance_uid=origin.study_uid,
        patient_orientation=("L", "P"),
        series_description=f"{origin.name} pages, research only"[:64],
        **named,
    )
    carry_identity(origin.header, result)
    page: Dataset = result
    # A drawing has no direction in the patient; the constructor wants one.
    page.PatientOrientation = ""
    page.ImageType = ["DERIVED", "SECONDARY"]
    page.BodyPartExamined = "LSPINE"
    say_burned_in(page, origin)
    set_image_laterality(page, origin.acquisition.scan)
    page.ContentDate = page.DateOfSecondaryCapture = ""
    page.DerivationDescription = "Drawn from the findings of an analysis. Research use only."
    page.SourceImageSequence = [instance_item(header) for header in unique_headers(origin)]
    origin.finish(result)
    declare_schemes(result)
    return result
