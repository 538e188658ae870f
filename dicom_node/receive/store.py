"""What happens to one received data set: checked, hashed, kept under its hash, remembered.

Files are named by a SHA-256 of their content, never by a UID: no sender can choose a path, an identical
resend lands on itself, and another object under the same UID cannot overwrite the first. What is hashed is
the transfer syntax and the data set: the file meta around it changes with the program that wrote it.
"""

import errno
import hashlib
import os
import re
import shutil
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import data_element_generator
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.errors import InvalidIdentifier, Mismatch, StoreFull, Unreadable

UID_PATTERN = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)
HEADER_TAGS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
EQUIPMENT_TAGS = ("Manufacturer", "ManufacturerModelName", "StationName", "SeriesDescription")
SHAPE_TAGS = ("StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames")
"""What stays the same when an instance is encoded anew."""

PREAMBLE_BYTES = 132
META_GROUP, TRANSFER_SYNTAX_TAG = 0x0002, 0x00020010
CHUNK_BYTES = 1 << 20

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


@dataclass(frozen=True, slots=True)
class Folders:
    """Where instances lie: being received, always on a local disk; kept; set aside."""

    data: Path
    files: Path

    @property
    def incoming(self) -> Path:
        return self.data / "incoming"

    @property
    def store(self) -> Path:
        return self.files / "store"

    @property
    def quarantine(self) -> Path:
        return self.files / "quarantine"

    @property
    def arriving(self) -> Path:
        """Where a file is being copied to from the local disk, on the file system of the store."""
        return self.files / "arriving"

    def create(self) -> None:
        """Make what is missing."""
        for folder in (self.incoming, self.store, self.quarantine, self.arriving):
            folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self.data)


def is_uid(text: str) -> bool:
    """Whether a text is a UID, PS3.5 section 9.1."""
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
    values = {tag: str(dataset.get(tag, "")) for tag in HEADER_TAGS}
    if not any(values.values()):
        raise Unreadable(sop_uid, "the data set is empty, or is no data set")
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise Unreadable(sop_uid, "the file does not say its transfer syntax")
    for tag, value in values.items():
        if not is_uid(value):
            raise InvalidIdentifier(sop_uid, f"{tag} of the data set is missing or is not a UID")
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


def keep(path: Path, folder: Path, sop_uid: str, sha256: str = "") -> tuple[str, Path]:
    """Make a file durable under its fingerprint, hashed here where it is not known, in a folder.

    Returns both. Raises StoreFull.
    """
    try:
        sha256 = sha256 or fingerprint(path)
        kept = folder / f"{sha256}.dcm"
        if path.stat().st_dev == folder.stat().st_dev:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(kept)
        else:
            _copy(path, kept, sha256)
        sync_folder(folder)
    except OSError as error:
        raise StoreFull(sop_uid, f"cannot be written: {error.strerror}") from error
    return sha256, kept


def _copy(path: Path, kept: Path, sha256: str) -> None:
    """To another file system, under its name only when all of it is there and reads back the same.

    Raises OSError.
    """
    arriving = kept.parents[1] / "arriving" / uuid.uuid4().hex
    try:
        with path.open("rb") as source, arriving.open("xb") as copy:
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
            # What is read back shall come from there, not from this machine's memory.
            os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if arriving.stat().st_size != path.stat().st_size or fingerprint(arriving) != sha256:
            raise OSError(errno.EIO, "the copy differs from what was received")
        arriving.replace(kept)
        path.unlink()
    finally:
        arriving.unlink(missing_ok=True)


def fingerprint(path: Path) -> str:
    """SHA-256 of the transfer syntax and of all bytes of the data set. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.sha256(transfer_syntax_of(file))
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def transfer_syntax_of(file: BinaryIO) -> bytes:
    """The transfer syntax of a file meta, b"" where it has none; leaves where the data set begins."""
    file.seek(PREAMBLE_BYTES)
    meta = data_element_generator(
        file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != META_GROUP
    )
    found = [bytes(each.value or b"") for each in meta if each.tag == TRANSFER_SYNTAX_TAG]
    return found[-1].rstrip(b"\0 ") if found else b""


def is_intact(path: Path, sha256: str) -> bool:
    """Whether a kept file still has its content. Raises OSError."""
    if fingerprint(path) == sha256:
        return True
    with path.open("rb") as file:  # before version 0002 of the database whole files were hashed
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def have_one_shape(path: Path, other: Path) -> bool:
    """Whether two encodings under one SOP Instance UID can be the same image. Raises OSError."""
    shapes = []
    for each in (path, other):
        dataset = dcmread(each, specific_tags=list(SHAPE_TAGS), stop_before_pixels=True)
        shapes.append([str(dataset.get(tag) or "") for tag in SHAPE_TAGS])
    return shapes[0] == shapes[1]


def sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
