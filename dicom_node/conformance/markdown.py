"""Tables as Markdown, and how things of DICOM are written in them."""

from collections.abc import Iterable, Sequence

from pydicom.uid import UID

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
NAMES = {
    LABEL_MAP: "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
}
"""What pydicom 3.0 has no name for."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """One line for the heads, one for each row; a bar or a line break within a cell stays within it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def name_of(uid: str) -> str:
    """The name of a UID as PS3.6 gives it."""
    return NAMES.get(uid, UID(uid).name)


def hexadecimal(status: int) -> str:
    return f"0x{status:04X}"


def first_sentence(thing: object) -> str:
    """Of a docstring."""
    return (thing.__doc__ or "").strip().split("\n")[0]
