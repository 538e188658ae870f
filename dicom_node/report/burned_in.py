"""Burned-in text: what the pictures of the tissue in pages, documents and companions say of it."""

from pydicom import Dataset

from dicom_node.report.origin import Origin
from models.scan import Scan

UNKNOWN = "unknown"


def burned_in_of(scan: Scan) -> str:
    """yes, no or unknown, as assemble found it."""
    return scan.facts.get("burned_in", UNKNOWN)


def say_burned_in(dataset: Dataset, origin: Origin, required: bool = False) -> None:
    """Set Burned In Annotation and Recognizable Visual Features (PS3.3 C.7.6.1, C.24.2).

    What is not known is absent, which the standard reads as "may or may not"; a document, where it is
    ``required`` (type 1), then says YES. The source's word on visual features is carried.
    """
    known = burned_in_of(origin.acquisition.scan)
    if known != UNKNOWN or required:
        dataset.BurnedInAnnotation = "NO" if known == "no" else "YES"
    said = {str(item.get("RecognizableVisualFeatures") or "").upper() for item in origin.raw[0]}
    if "YES" in said or said == {"NO"}:
        dataset.RecognizableVisualFeatures = "YES" if "YES" in said else "NO"
