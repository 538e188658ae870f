"""UIDs that depend on the inputs alone, so that the same work twice gives the same objects."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from pydicom.uid import UID

SOFTWARE = f"dicom-node {version('dicom-node')}"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "dicom-node.report")
LAYOUT = "2"
"""Part of every object's UID: to be raised when the same findings become another content."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the result depends on.

    sources   text that stands for the source instances.
    inputs    text that stands for the sources and everything that was done with them.
    device    text that stands for program and model, without the sources.
    """

    sources: str
    inputs: str
    device: str

    def uid(self, *role: object) -> str:
        """UID of one thing made from these inputs; the words of ``role`` tell the things apart."""
        return derive_uid(LAYOUT, self.inputs, *role)

    @property
    def frame_of_reference_uid(self) -> str:
        """For sources without one: equal for every analysis of the same instances."""
        return derive_uid(self.sources, "frame of reference")

    @property
    def device_uid(self) -> str:
        """UID of program and model together; other weights, other device (IHE AIR)."""
        return derive_uid(self.device, "device")


def derive_uid(*parts: object) -> str:
    """A UID below 2.25 (PS3.5 B.2) from the parts, written so that no two lists of texts are the same."""
    text = json.dumps([str(part) for part in parts])
    return str(UID(f"2.25.{uuid.uuid5(NAMESPACE, text).int}"))


def join(values: Sequence[str]) -> str:
    """Sorted, so that the order of arrival does not matter."""
    return "|".join(sorted(values))


def describe_settings(settings: Mapping[str, str]) -> list[str]:
    """One ``key=value`` per setting, sorted."""
    return [f"{key}={settings[key]}" for key in sorted(settings)]
