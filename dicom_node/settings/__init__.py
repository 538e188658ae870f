"""The rules: node.toml as frozen dataclasses; unknown keys, wrong types, bad values are errors."""

from dicom_node.settings.access import Access, Caller, Identity, Link, Tls
from dicom_node.settings.destinations import Destination
from dicom_node.settings.files import Files
from dicom_node.settings.keeping import Keep
from dicom_node.settings.limits import Limits
from dicom_node.settings.observe import Audit, Web
from dicom_node.settings.parts import (
    LARGEST_MIB,
    Analyze,
    Assemble,
    Node,
    OtherWeights,
    Report,
)
from dicom_node.settings.reading import Settings, load
from dicom_node.settings.senders import Peer, Receive
from dicom_node.settings.sources import COLOR_MAPS, Color, Expect, Match, Source

__all__ = [
    "COLOR_MAPS",
    "LARGEST_MIB",
    "Access",
    "Analyze",
    "Assemble",
    "Audit",
    "Caller",
    "Color",
    "Destination",
    "Expect",
    "Files",
    "Identity",
    "Keep",
    "Limits",
    "Link",
    "Match",
    "Node",
    "OtherWeights",
    "Peer",
    "Receive",
    "Report",
    "Settings",
    "Source",
    "Tls",
    "Web",
    "load",
]
