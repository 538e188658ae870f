"""Headers of stored instances, read in one place so that assemble and report see the same numbers and UIDs.

Two faults of scanners are mended here, as nothing is guessed by it: a decimal comma (no comma is valid in a
DS, PS3.5 6.2), and a SOP Class or Instance UID that stands in the file meta information only (PS3.10 7.1).
"""

import re
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError

# What pydicom, its decoders and Python raise on malformed data. Nothing broader: a fault of ours must show.
MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
UIDS = ("SOPClassUID", "SOPInstanceUID")
# One comma and no point. "1,234.5" and "0,2,3" stay as they are: they are no number.
DECIMAL_COMMA = re.compile(rb"[ \0]*[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?[ \0]*")


def read_header(path: Path, keywords: Sequence[str] = ()) -> Dataset:
    """The data set of a stored instance without its pixels, or these attributes of it.

    Raises what is MALFORMED.
    """
    wanted = [*keywords, "StudyInstanceUID"] if keywords else None
    header = dcmread(path, stop_before_pixels=True, specific_tags=wanted)
    _mend_decimals(header)
    # A damaged file can "read" as an empty data set, and then its meta information proves nothing.
    if header.get("StudyInstanceUID"):
        for keyword in UIDS if wanted is None else set(UIDS) & set(wanted):
            stated = header.file_meta.get(f"MediaStorage{keyword}")
            if stated and not header.get(keyword):
                setattr(header, keyword, stated)
    return header


def _mend_decimals(dataset: Dataset) -> None:
    """Write a point for each decimal comma, in items of sequences too."""
    for element in list(dataset.elements()):
        kind = _kind(element)
        if isinstance(element, RawDataElement):
            value = element.value or b""
            if b"," not in value:
                continue
            if kind == "DS":
                dataset[element.tag] = element._replace(value=_with_points(value))
        if kind == "SQ":
            # A sequence that is damaged is refused where it is needed.
            with suppress(*MALFORMED):
                for item in dataset[element.tag].value:
                    _mend_decimals(item)


def _with_points(value: bytes) -> bytes:
    return b"\\".join(
        part.replace(b",", b".") if DECIMAL_COMMA.fullmatch(part) else part
        for part in value.split(b"\\")
    )


def _kind(element: DataElement | RawDataElement) -> str:
    """The VR, from the dictionary where the file does not say it; "" for what nobody knows."""
    if element.VR not in (None, "UN"):
        return element.VR
    try:
        return dictionary_VR(element.tag)
    except KeyError:
        return ""
