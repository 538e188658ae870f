"""report: findings become DICOM objects (segmentation, measurements, map); ``report.page`` is for the eye."""

from dicom_node.report.objects import Written, write_objects

__all__ = ["Written", "write_objects"]
