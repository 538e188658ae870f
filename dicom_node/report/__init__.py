"""report: findings become DICOM objects (segmentation, measurements, map); ``report.page`` is for the eye."""

from dicom_node.report.answer import write_answer
from dicom_node.report.moments import Moments
from dicom_node.report.objects import Written, hold_back, write_objects
from dicom_node.report.predecessors import follow

__all__ = ["Moments", "Written", "follow", "hold_back", "write_answer", "write_objects"]
