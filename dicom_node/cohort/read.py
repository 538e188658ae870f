"""Read files into the rows, one at a time: what is no analyzed scan is counted with its reason."""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from dicom_node.cohort.reports import NotTaken, WithoutFindings, read_findings, read_report
from dicom_node.cohort.rows import Rows, Seen

REPORTS = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
UNREADABLE = "unreadable"
DAMAGED = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What pydicom and the json module raise on content that is not what it says."""

AT_ONCE = 50
"""Files between two commits: what a broken-off run reads again at most."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One file that was dealt with: whether it had been read before, and why it could not be read."""

    path: Path
    known: bool
    unreadable: str


def read_files(paths: Iterable[Path], rows: Rows) -> Iterator[Progress]:
    """Take every file below ``paths`` that is new or has changed into ``rows``; yields one item per file."""
    for number, path in enumerate(find_files(paths)):
        yield _take(path, rows)
        if number % AT_ONCE == AT_ONCE - 1:
            rows.commit()
    rows.commit()


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Every file below ``paths``, by name; never a list of all of them."""
    for path in paths:
        if not path.is_dir():
            yield path.absolute()
            continue
        for folder, folders, names in os.walk(path.absolute()):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names))


def _take(path: Path, rows: Rows) -> Progress:
    reason = ""
    try:
        status = path.stat()
        seen = Seen(path, status.st_size, status.st_mtime_ns)
        if rows.known(seen):
            return Progress(path, True, "")
        rows.note(seen)
        _read(seen, rows)
    except NotTaken as error:
        rows.refuse(path, error.kind, str(error))
    except OSError as error:
        reason = f"the file cannot be opened ({error.strerror or type(error).__name__})"
        rows.forget(path)  # so that the next run tries again
    except DAMAGED as error:
        reason = f"damaged: not what it says it is ({type(error).__name__})"
    if reason:
        rows.refuse(path, UNREADABLE, reason)
    return Progress(path, False, reason)


def _read(seen: Seen, rows: Rows) -> None:
    """Store what one file holds. Raises NotTaken and DAMAGED."""
    if seen.path.suffix.lower() == ".json":
        content = seen.path.read_bytes()
        found, reasons = read_findings(content)
        for reason in reasons:
            rows.refuse(seen.path, WithoutFindings.kind, reason)
    else:
        _check_class(seen.path)
        content = seen.path.read_bytes()
        found = [read_report(content)]
    digest = hashlib.sha256(content).hexdigest()
    for row in found:
        rows.store(row, seen, digest, seen.path.suffix.lower() != ".json")


def _check_class(path: Path) -> None:
    """Raises NotTaken saying what the file is when it is no report; its pixels are not read."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except InvalidDicomError:
        raise NotTaken("no DICOM file and no findings.json") from None
    kind = UID(str(header.get("SOPClassUID") or ""))
    if kind not in REPORTS:
        raise NotTaken(f"not a report: {kind.name}" if kind else "a DICOM file without a class")
