"""Laterality: the side of a scan in every object that is made of it. Its one source is ``Scan.facts``."""

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as Concept

from models.scan import Scan

LETTERS = {"left": "L", "right": "R", "both": "B"}
"""Image and Frame Laterality (PS3.3 C.7.6.1, C.7.6.16.2.8)."""

UNPAIRED = "U"
"""Frame Laterality is type 1. The lumbar region as a whole is unpaired, and no side of it is known."""

SIDES: dict[str, Concept] = {
    "left": codes.SCT.Left,
    "right": codes.SCT.Right,
    "both": codes.SCT.Bilateral,
}
"""PS3.16 CID 244."""


def side_of(scan: Scan) -> str:
    """left, right or both; "" where the images do not say, or contradict one another."""
    side = scan.facts.get("side", "")
    return side if side in LETTERS else ""


def side_code(scan: Scan) -> Concept | None:
    """The modifier of an anatomic region or finding site."""
    return SIDES.get(side_of(scan))


def set_image_laterality(dataset: Dataset, scan: Scan) -> None:
    """Name the side of an image or document; where none is known the attribute is absent (type 3).

    Laterality of the series (type 2C) is for a paired body part without it, and LSPINE is unpaired.
    """
    if side := side_of(scan):
        dataset.ImageLaterality = LETTERS[side]


def add_side(region: Dataset, scan: Scan) -> None:
    """Add the side to an item of Anatomic Region Sequence (PS3.3 table 10-5)."""
    if code := side_code(scan):
        region.AnatomicRegionModifierSequence = [CodedConcept.from_code(code)]
