"""Left or right: what the images of one scan say of it, in all the places where DICOM lets them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue

from dicom_node.assemble.instances import Frame

# SNOMED CT, and SNOMED RT as older scanners write it (PS3.16 CID 244).
SIDE_CODES = {
    "7771000": "left",
    "G-A101": "left",
    "24028007": "right",
    "G-A100": "right",
    "51440002": "both",
    "G-A102": "both",
}
WORDS = {
    "L": "left",
    "LEFT": "left",
    "LT": "left",
    "R": "right",
    "RIGHT": "right",
    "RT": "right",
    "B": "both",
    "BOTH": "both",
    "BILATERAL": "both",
}
LETTERS = frozenset("LRB")
"""Words that say a side where nothing but a side is said: the L of a body part may be that of lumbar."""

ANATOMY = (
    ("AnatomicRegionSequence", "AnatomicRegionModifierSequence"),
    ("PrimaryAnatomicStructureSequence", "PrimaryAnatomicStructureModifierSequence"),
)

Said = dict[str, dict[str, None]]
"""Names of the attributes that say it, in order, by side."""


def side_of(frames: Sequence[Frame]) -> tuple[str, str]:
    """left, right, both or "", and a sentence where the images contradict one another, else "".

    From Frame, Image and series Laterality, the anatomic region and structure with their modifiers, and Body
    Part Examined (PS3.3 C.7.6.16.2.8, C.7.6.1, C.7.3.1, 10.5), over all frames. What contradicts itself is no
    side.
    """
    said: Said = {}
    for name, side in _statements(frames):
        said.setdefault(side, {})[name] = None
    if len(said) < 2:
        return next(iter(said), ""), ""
    parts = [f"{_listed(names)} says {side}" for side, names in sorted(said.items())]
    return "", "; ".join(parts)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)


def _statements(frames: Sequence[Frame]) -> Iterator[tuple[str, str]]:
    """(attribute, side) of every instance, and of every frame that has an anatomy of its own."""
    seen = set()
    for frame in frames:
        header = frame.instance.header
        if id(header) not in seen:
            seen.add(id(header))
            yield from _letters("Laterality", header.get("Laterality"))
            yield from _letters("Image Laterality", header.get("ImageLaterality"))
            yield from _letters("Frame Laterality", header.get("FrameLaterality"))
            yield from _of_text("Body Part Examined", header.get("BodyPartExamined"))
            yield from _anatomy(header)
        for group in _groups(frame):
            for item in group.get("FrameAnatomySequence") or ():
                yield from _letters("Frame Laterality", item.get("FrameLaterality"))
                yield from _anatomy(item)


def _groups(frame: Frame) -> list[Dataset]:
    header = frame.instance.header
    own = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    return [*own[frame.number - 1 : frame.number], *shared[:1]]


def _anatomy(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for keyword, modifiers in ANATOMY:
        for region in dataset.get(keyword) or ():
            yield from _of_text("the anatomic region", region.get("CodeMeaning"))
            for modifier in region.get(modifiers) or ():
                code = SIDE_CODES.get(str(modifier.get("CodeValue") or "").strip())
                if code:
                    yield "the modifier of the anatomic region", code
                meaning = modifier.get("CodeMeaning")
                yield from _of_text("the modifier of the anatomic region", meaning)


def _letters(name: str, value: Any) -> Iterator[tuple[str, str]]:
    for item in value if isinstance(value, MultiValue) else (value,):
        side = WORDS.get(str(item or "").strip().upper())
        if side:
            yield name, side


def _of_text(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Left and right as words of a text, which together are both."""
    words = set(re.findall(r"[A-Z]+", str(value or "").upper())) - LETTERS
    sides = {WORDS[word] for word in words & WORDS.keys()}
    if sides:
        yield name, sides.pop() if len(sides) == 1 else "both"
