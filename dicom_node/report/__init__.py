"""report: findings become DICOM objects (segmentation, measurements, map) and a page for the eye."""

from dicom_node.report.objects import Written, write_objects
from dicom_node.report.page import write_page

__all__ = ["Written", "write_objects", "write_page"]
