"""From stored files to ultrasound images with readable headers, and a reason for every file that is none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_node.errors import NotUltrasound, StudyError, TooLarge, UnsupportedPixels
from dicom_node.headers import MALFORMED, read_header
from dicom_node.study import StoredInstance, Unused

MAX_FRAMES = 65_535
# Lossless codes shrink an echo by three, lossy ones by fifty; what shrinks by more than this holds no image.
MAX_EXPANSION = 1000


# Type 1 of every image (PS3.3 C.7.3.1, C.7.6.3).
REQUIRED = (
    "SeriesInstanceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
WHOLE_NUMBERS = ("NumberOfFrames", "SeriesNumber", "InstanceNumber")


class NotNumbers(ValueError):
    """A header value that must be numbers is none; the text names the attribute and quotes nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One ultrasound image instance: where it is stored, and its data set without pixels."""

    stored: StoredInstance
    header: Dataset

    @property
    def frame_count(self) -> int:
        return int(self.header.get("NumberOfFrames") or 1)

    @property
    def sort_key(self) -> tuple[int, str, int, str]:
        """Series and instance in the order of their numbers, so that the order of arrival does not matter."""
        series, number = (
            int(self.header.get(key) or 0) for key in ("SeriesNumber", "InstanceNumber")
        )
        return series, str(self.header.SeriesInstanceUID), number, self.stored.sop_instance_uid


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of an instance; ``number`` counts from 1."""

    instance: Instance
    number: int

    def value(self, group: str, keyword: str) -> Any:
        """An attribute of this frame: from its own functional group, else the shared one, else the data set.

        None when it is nowhere (PS3.3 section C.7.6.16).
        """
        header = self.instance.header
        own = header.get("PerFrameFunctionalGroupsSequence") or ()
        shared = header.get("SharedFunctionalGroupsSequence") or ()
        if own and len(own) < self.number:
            raise IndexError("fewer functional groups than frames")
        for place in ((own[self.number - 1],) if own else ()) + tuple(shared[:1]):
            items = place.get(group) or ()
            if items and keyword in items[0]:
                return items[0].get(keyword)
        return header.get(keyword)

    def numbers(self, group: str, keyword: str, count: int) -> NDArray[np.float64] | None:
        """The same as that many finite numbers; None when absent, NotNumbers when something else."""
        try:
            value = self.value(group, keyword)
            if value is None or value == "" or len(value) == 0:
                return None
            array = np.array([float(item) for item in value])
        except (TypeError, ValueError):
            array = np.zeros(0)
        if array.shape != (count,) or not np.isfinite(array).all():
            raise NotNumbers(f"{keyword} is not {count} numbers")
        return array


def read(
    study_uid: str, stored: Sequence[StoredInstance], largest_bytes: int
) -> tuple[list[Instance], list[tuple[Unused, StudyError]]]:
    """The ultrasound images in a fixed order, and what every other instance is."""
    images: list[Instance] = []
    others: list[tuple[Unused, StudyError]] = []
    for item in {one.sop_instance_uid: one for one in stored}.values():
        try:
            with malformed(study_uid, "the header cannot be read"):
                images.append(_image(study_uid, item, largest_bytes))
        except StudyError as error:
            others.append((Unused(item.sop_instance_uid, error.reason), error))
    with malformed(study_uid, "series and instance numbers cannot be read"):
        return sorted(images, key=lambda image: image.sort_key), others


@contextmanager
def malformed(study_uid: str, what: str) -> Iterator[None]:
    """Turn what a damaged file makes libraries raise into UnsupportedPixels.

    The text of the cause is not repeated: it may quote a header value.
    """
    try:
        yield
    except NotNumbers as error:
        raise UnsupportedPixels(study_uid, f"{what}: {error}") from None
    except MALFORMED as error:
        raise UnsupportedPixels(study_uid, f"{what} ({type(error).__name__})") from None


def _image(study_uid: str, stored: StoredInstance, largest_bytes: int) -> Instance:
    """The header of an ultrasound image. Raises StudyError saying what else the file is."""
    if read_file_meta_info(stored.path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # Its size cannot be bounded before it is inflated, and no scanner sends it.
        name = DeflatedExplicitVRLittleEndian.name
        raise UnsupportedPixels(study_uid, f"transfer syntax {name} is not taken")
    header = read_header(stored.path)
    if str(header.get("SOPInstanceUID") or "") != stored.sop_instance_uid:
        # A damaged file can "read" as an empty data set, so the UID proves that reading worked.
        raise UnsupportedPixels(study_uid, "the file does not hold this instance: damaged or empty")
    if str(header.get("StudyInstanceUID") or "") != study_uid:
        raise StudyError(study_uid, "the instance belongs to another study")
    kind = UID(str(header.get("SOPClassUID") or "")).name
    if not header.get("Rows") or not header.get("Columns"):
        raise NotUltrasound(study_uid, f"no image: {kind}")
    if header.get("Modality") != "US" and not header.get("SequenceOfUltrasoundRegions"):
        raise NotUltrasound(study_uid, f"no ultrasound: {kind}")
    if missing := [keyword for keyword in REQUIRED if header.get(keyword) in (None, "")]:
        raise UnsupportedPixels(
            study_uid, f"the scanner left out what every image must have: {', '.join(missing)}"
        )
    for keyword in WHOLE_NUMBERS:
        _check_whole(header, keyword)
    instance = Instance(stored, header)
    _check_size(study_uid, instance, largest_bytes)
    return instance


def _check_whole(header: Dataset, keyword: str) -> None:
    try:
        int(header.get(keyword) or 0)
    except (TypeError, ValueError, OverflowError):
        raise NotNumbers(f"{keyword} is not a whole number") from None


def _check_size(study_uid: str, instance: Instance, largest_bytes: int) -> None:
    """Refuse what cannot be decoded in bounded memory, before anything is allocated for it."""
    header, frames = instance.header, instance.frame_count
    pixels = int(header.Rows) * int(header.Columns) * frames
    size = f"{header.Rows} rows x {header.Columns} columns x {frames} frames"
    if not 1 <= frames <= MAX_FRAMES or pixels * 4 > largest_bytes:
        limit = f"at most {largest_bytes >> 20} MiB decoded"
        raise TooLarge(study_uid, f"{size} is too large: {limit}")
    bits = pixels * int(header.SamplesPerPixel) * int(header.BitsAllocated)
    file_bytes = instance.stored.path.stat().st_size
    if header.file_meta.TransferSyntaxUID.is_compressed:
        if bits // 8 > MAX_EXPANSION * file_bytes:
            raise TooLarge(study_uid, f"{size} out of a file of {file_bytes} bytes is no image")
        return
    if int(header.SamplesPerPixel) == 3:
        bits = bits * 2 // 3  # the least there may be: of YBR_FULL_422, whatever the header says
    if bits // 8 > file_bytes:
        raise UnsupportedPixels(
            study_uid, "pixel data are cut off: the file is shorter than its image"
        )
