"""UIDs and dates that depend on the inputs alone, so that the same work twice gives the same objects."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from pydicom import Dataset
from pydicom.uid import UID

SOFTWARE = f"dicom-node {version('dicom-node')}"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "dicom-node.report")
UNKNOWN_DATE, UNKNOWN_TIME = "19000101", "000000"
"""Content Date is mandatory (PS3.3 C.8.20.2); this says that no source instance has one."""

DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the result depends on, and the moment all its dates are pinned to.

    sources   text that stands for the source instances.
    inputs    text that stands for the sources and everything that was done with them.
    device    text that stands for program and model, without the sources.
    """

    sources: str
    inputs: str
    device: str
    date: str
    time: str

    def uid(self, *role: object) -> str:
        """UID of one thing made from these inputs; the words of ``role`` tell the things apart."""
        return derive_uid(self.inputs, *role)

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


def pinned_moment(header: Dataset) -> tuple[str, str]:
    """Date and time of the study, else of the series or the image, as DA and TM."""
    for keyword in DATES:
        date = str(header.get(keyword) or "")
        if re.fullmatch(r"\d{8}", date):
            time = str(header.get(keyword.replace("Date", "Time")) or "")
            return date, time if re.fullmatch(r"\d{6}(\.\d{1,6})?", time) else UNKNOWN_TIME
    return UNKNOWN_DATE, UNKNOWN_TIME
