"""Form: how an object is written for a destination. Another form is another instance, of other UIDs."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

from dicom_node.settings import Destination

IMAGES = ("segmentation", "page", "companion")
"""Kinds whose pixels are whole numbers, which JPEG 2000 takes; maps are floats, the others have no pixels."""

REPORT_CLASSES = {
    "comprehensive-3d": Comprehensive3DSRStorage,
    "comprehensive": ComprehensiveSRStorage,
}


PAGES = 2
"""A picture, and the numbers."""

WORDS = {"companion": "companion", "maps": "no-maps"}
"""What a choice that is no word of its own is called."""


@dataclass(frozen=True, slots=True)
class Form:
    """The choices of a destination that change an object; the default is what most viewers read.

    sr, seg, seg_frames, encoding, companion as in ``settings.Destination``. ``maps``: the report names maps.
    """

    sr: str = "comprehensive-3d"
    seg: str = "binary"
    seg_frames: str = "sparse"
    encoding: str = "explicit"
    companion: bool = False
    maps: bool = True

    @classmethod
    def of(cls, destination: Destination) -> "Form":
        return cls(
            destination.sr,
            destination.seg,
            destination.seg_frames,
            destination.encoding,
            destination.companion,
            "PM" in destination.objects,
        )

    def only(self, kind: str) -> "Form":
        """The form of one kind of object: what does not change it is as by default."""
        kept = {name: getattr(self, name) for name in RELEVANT[kind]}
        form = replace(Form(), **kept)
        if form.encoding == "j2k" and kind not in (*IMAGES, "measurements"):
            return replace(form, encoding="explicit")
        return form

    @property
    def words(self) -> tuple[str, ...]:
        """What is not as by default, a part of the object's UIDs and of its file's name."""
        default = Form()
        changed = [item.name for item in fields(self)]
        changed = [name for name in changed if getattr(self, name) != getattr(default, name)]
        return tuple(WORDS.get(name, "") or str(getattr(self, name)) for name in changed)

    def transfer_syntax(self, kind: str) -> str:
        """What a constructor encodes in; a whole object is deflated only when it is saved."""
        return str(JPEG2000Lossless if self._is_j2k(kind) else ExplicitVRLittleEndian)

    def file_syntax(self, kind: str) -> str:
        """What the object's file is written in (PS3.5 section 10)."""
        if self.encoding == "deflated":
            return str(DeflatedExplicitVRLittleEndian)
        return self.transfer_syntax(kind)

    def _is_j2k(self, kind: str) -> bool:
        return self.encoding == "j2k" and kind in IMAGES


RELEVANT: dict[str, tuple[str, ...]] = {
    "companion": ("encoding", "companion"),
    "segmentation": ("seg", "seg_frames", "encoding", "companion"),
    "map": ("encoding", "companion"),
    # A report refers to the segmentation that the same destination gets.
    "measurements": ("sr", "seg", "seg_frames", "encoding", "companion", "maps"),
    "page": ("encoding",),
    "document": ("encoding",),
    "refusal": ("sr", "encoding"),
}
OBJECTS = {
    "SEG": "segmentation",
    "SR": "measurements",
    "PM": "map",
    "SC": "page",
    "PDF": "document",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What destinations want alike: kinds of objects in one form."""

    kinds: frozenset[str]
    form: Form


def wishes_of(destinations: Iterable[Destination]) -> dict[Wish, tuple[str, ...]]:
    """Every different wish, and the names of the destinations that have it."""
    found: dict[Wish, tuple[str, ...]] = {}
    for destination in destinations:
        kinds = {OBJECTS[word] for word in destination.objects}
        if destination.companion:
            kinds.add("companion")
        if destination.refusals:
            kinds.add("refusal")
        wish = Wish(frozenset(kinds), Form.of(destination))
        found[wish] = (*found.get(wish, ()), destination.name)
    return found
