"""The window: status page, metrics, readiness. It only looks."""

from dicom_node.web.app import make_app
from dicom_node.web.server import Web

__all__ = ["Web", "make_app"]
