"""What one received data set says that it is, held against what its sender says.

Files are named by a SHA-256 of their content, never by a UID: no sender can choose a path, an identical
resend lands on itself, and another object under the same UID cannot overwrite the first.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.errors import InvalidIdentifier, Mismatch, Unreadable
from dicom_node.files.content import transfer_syntax_of
from dicom_node.patient import PERSON, compare, person_of, read_as

UID_PATTERN = re.compile(r"\d+(\.\d+)*", re.ASCII)
"""Scanners write components with a leading zero, which the standard forbids; other archives take them."""

HEADER_TAGS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
EQUIPMENT_TAGS = ("Manufacturer", "ManufacturerModelName", "StationName", "SeriesDescription")
SHAPE_TAGS = ("StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames")
"""What stays the same when an instance is encoded anew."""

NOT_DICOM = (
    *(InvalidDicomError, BytesLengthException, EOFError, ValueError, TypeError, KeyError),
    *(AttributeError, NotImplementedError, RecursionError, zlib.error),
)
"""What pydicom is known to raise on hostile data sets; OSError is not among them: that is our disk."""

SKIP_BYTES = 64 * 1024
"""Values above this are skipped, not read: memory stays flat at any instance size."""


@dataclass(frozen=True, slots=True)
class Header:
    """The identifiers of a data set, each one checked."""

    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    transfer_syntax: str
    equipment: tuple[str, ...]
    """Values of EQUIPMENT_TAGS, for the site's declarations; they are not kept."""
    patient_id: str
    """For the audit trail, which hides it; it is not kept."""


def is_uid(text: str) -> bool:
    """Whether a text can stand for a UID: digits and dots, at most 64 (PS3.5 section 9.1).

    Components with a leading zero are taken: it is never a path, and is carried as it came.
    """
    return len(text) <= 64 and UID_PATTERN.fullmatch(text) is not None


def check_command(sop_class: str, sop_uid: str) -> None:
    """Both UIDs of the C-STORE command. Raises InvalidIdentifier."""
    if not is_uid(sop_uid):
        raise InvalidIdentifier("", "the command's SOP Instance UID is not a UID")
    if not is_uid(sop_class):
        raise InvalidIdentifier(sop_uid, "the command's SOP Class UID is not a UID")


def read_header(path: Path, sop_class: str, sop_uid: str) -> Header:
    """Read what the data set says it is, and compare with the command.

    Raises Unreadable, InvalidIdentifier, Mismatch. pydicom reads garbage as an empty data set and a cut
    file as a shorter one, both without complaint, so presence and length are checked here.
    """
    dataset, ends_at = _parse(path, sop_uid)
    values = {tag: str(dataset.get(tag) or "") for tag in HEADER_TAGS}
    if not any(values.values()):
        raise Unreadable(sop_uid, "the data set is empty, or is no data set")
    if values["StudyInstanceUID"]:
        # Some hand-held scanners name an instance in the file meta alone; command and file meta are one.
        values["SOPInstanceUID"] = values["SOPInstanceUID"] or sop_uid
        values["SOPClassUID"] = values["SOPClassUID"] or sop_class
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise Unreadable(sop_uid, "the file does not say its transfer syntax")
    for tag, value in values.items():
        if not is_uid(value):
            fault = "a" if value else "no"
            reason = f"the sender wrote {fault} {tag}{' that is no UID' if value else ''}"
            raise InvalidIdentifier(sop_uid, f"{reason} into the data set")
    if values["SOPInstanceUID"] != sop_uid:
        raise Mismatch(sop_uid, "the data set has another SOP Instance UID than the command")
    if values["SOPClassUID"] != sop_class:
        raise Mismatch(sop_uid, "the data set has another SOP Class UID than the command")
    transfer_syntax = str(dataset.file_meta.TransferSyntaxUID)
    deflated = transfer_syntax == DeflatedExplicitVRLittleEndian  # a cut one fails to inflate
    if not deflated and ends_at != path.stat().st_size:
        raise Unreadable(sop_uid, "the data set is cut off")
    series_uid = str(dataset.get("SeriesInstanceUID") or "")
    return Header(
        sop_uid,
        sop_class,
        values["StudyInstanceUID"],
        series_uid if is_uid(series_uid) else "",
        transfer_syntax,
        tuple(str(dataset.get(tag) or "").strip() for tag in EQUIPMENT_TAGS),
        str(dataset.get("PatientID") or "").strip(),
    )


def _parse(path: Path, sop_uid: str) -> tuple[Dataset, int]:
    """The identifiers, and where the last element ends; values beyond the end are seeked to, not read."""
    with path.open("rb") as file:
        try:
            if transfer_syntax_of(file) == DeflatedExplicitVRLittleEndian.encode():
                # Not at the top: with it come arrays, for what next to no scanner sends.
                from dicom_node.study import check_inflated

                check_inflated(path)
            file.seek(0)
            wanted = [*HEADER_TAGS, "SeriesInstanceUID", "PatientID", *EQUIPMENT_TAGS]
            dataset = dcmread(file, specific_tags=wanted, defer_size=SKIP_BYTES)
        except NOT_DICOM as error:
            raise Unreadable(sop_uid, f"{type(error).__name__} while parsing") from error
        return dataset, file.tell()


def have_one_shape(file: BinaryIO, other: BinaryIO) -> bool:
    """Whether two encodings under one SOP Instance UID can be the same image. Raises OSError."""
    shapes = []
    for each in (file, other):
        dataset = dcmread(each, specific_tags=list(SHAPE_TAGS), stop_before_pixels=True)
        shapes.append([str(dataset.get(tag) or "") for tag in SHAPE_TAGS])
    return shapes[0] == shapes[1]


def name_different_patients(file: BinaryIO, other: BinaryIO) -> bool:
    """Whether two data sets under one SOP Instance UID name different patients. Raises OSError."""
    persons = []
    for each in (file, other):
        dataset = dcmread(each, specific_tags=list(PERSON), stop_before_pixels=True)
        persons.append(person_of(read_as(dataset)))
    return bool(compare(*persons).apart)
