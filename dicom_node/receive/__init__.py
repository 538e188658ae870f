"""receive: the Storage SCP. An instance is on disk and in the index before its sender hears Success."""

from dicom_node.receive.scp import Receiver

__all__ = ["Receiver"]
