"""What a kept file is known by: a SHA-256 of its content; and how a rename is made durable.

What is hashed is the transfer syntax and the data set: the file meta around it changes with the program that
wrote it.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from pydicom.errors import BytesLengthException
from pydicom.filereader import data_element_generator

PREAMBLE_BYTES = 132
META_GROUP, TRANSFER_SYNTAX_TAG = 0x0002, 0x00020010
CHUNK_BYTES = 1 << 20

MALFORMED = (BytesLengthException, EOFError, ValueError)
"""What a file makes pydicom raise whose meta is damaged."""


def fingerprint(path: Path) -> str:
    """SHA-256 of the transfer syntax and of all bytes of the data set. Raises OSError."""
    with path.open("rb") as file:
        return fingerprint_of(file)


def fingerprint_of(file: BinaryIO) -> str:
    """The same of an open file."""
    digest = hashlib.sha256(transfer_syntax_of(file))
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def digest_of(file: BinaryIO) -> str:
    """SHA-256 of a whole file, from its beginning."""
    file.seek(0)
    # Files on disk and of fsspec have readinto, which BinaryIO does not promise.
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def transfer_syntax_of(file: BinaryIO) -> bytes:
    """The transfer syntax of a file meta, b"" where it has none; leaves where the data set begins."""
    file.seek(PREAMBLE_BYTES)
    meta = data_element_generator(
        file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != META_GROUP
    )
    found = [bytes(each.value or b"") for each in meta if each.tag == TRANSFER_SYNTAX_TAG]
    return found[-1].rstrip(b"\0 ") if found else b""


def is_intact(file: BinaryIO, sha256: str) -> bool:
    """Whether a kept file still has its content. Raises OSError."""
    try:
        if fingerprint_of(file) == sha256:
            return True
    except MALFORMED:
        pass
    # Results, and what came before version 0002 of the database, are hashed whole.
    return digest_of(file) == sha256


def sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
