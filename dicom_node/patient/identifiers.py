"""Identifiers: carried exactly, or not at all.

Another ID is another person. PS3.5 6.2: spaces at either end of LO and SH are padding; a backslash separates
values; control characters are forbidden.
"""

import unicodedata
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue

LENGTHS = {"SH": 16, "LO": 64}
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""Stands for what cannot be decoded in the character set of the data set."""

PADDING = " \0"


def identifier(value: Any, keyword: str) -> str:
    """The value without its padding, or "" where there is none or it cannot be carried exactly."""
    return "" if fault_of(value, keyword) else _trimmed(value)


def fault_of(value: Any, keyword: str) -> str:
    """Why an identifier cannot be carried exactly; "" where it can, or where there is none."""
    if isinstance(value, MultiValue | list | tuple):
        if len(value) > 1:
            return "holds a backslash, which separates values"
        value = value[0] if value else None
    text = _trimmed(value)
    if UNREADABLE in text:
        return "holds characters that its character set does not have, or that none is declared for"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        return "holds a control character"
    if "\\" in text:
        return "holds a backslash, which separates values"
    longest = LENGTHS.get(dictionary_VR(keyword), len(text))
    if len(text) > longest:
        return f"is longer than the {longest} characters that DICOM allows"
    return ""


def _trimmed(value: Any) -> str:
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if value else None
    return "" if value is None else str(value).strip(PADDING)
