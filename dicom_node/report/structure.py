"""Structure: what the standard wants in an object of a class, and which codes it knows.

The tables of IODs, modules and attributes (PS3.3) are those that come with highdicom; the codes (PS3.16) are
those of pydicom.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from highdicom import _standard_utils
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import Collection, codes
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ParametricMapStorage, SegmentationStorage

from dicom_node.report.header import PATIENT_AND_STUDY

ALIKE = ("276214006", "260753009", "{pixels}")
"""Codes that highdicom's templates name otherwise than pydicom's dictionary does, or that it has not."""

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage, which pydicom 3.0 has no name for."""

LANGUAGES = "RFC5646"
"""A scheme of language tags (CID 5000), which is in no dictionary."""


GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_OF_A_FRAME = (
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "FrameContentSequence",
    "DerivationImageSequence",
)
MACROS = {
    SegmentationStorage: (*_OF_A_FRAME, "SegmentIdentificationSequence"),
    LABEL_MAP: _OF_A_FRAME,
    ParametricMapStorage: (
        *_OF_A_FRAME,
        "FrameAnatomySequence",
        "PixelValueTransformationSequence",
        "RealWorldValueMappingSequence",
    ),
}
CONTENT = "sr-document-content"
VALUES = {
    "CONTAINER": ("ConceptNameCodeSequence", "ContinuityOfContent"),
    "TEXT": ("ConceptNameCodeSequence", "TextValue"),
    "CODE": ("ConceptNameCodeSequence", "ConceptCodeSequence"),
    "NUM": ("ConceptNameCodeSequence", "MeasuredValueSequence"),
    "UIDREF": ("ConceptNameCodeSequence", "UID"),
    "PNAME": ("ConceptNameCodeSequence", "PersonName"),
    "IMAGE": ("ReferencedSOPSequence",),
    "COMPOSITE": ("ReferencedSOPSequence",),
    "SCOORD": ("GraphicType", "GraphicData"),
}
"""Types of content items that reports here have, and their values."""


PROCEDURE_REPORTED = codes.DCM.ProcedureReported.value
SEPARATE = "SEPARATE"
"""Continuity of Content of every container here (PS3.3 C.18.8)."""


def structure_faults(dataset: Dataset) -> Iterator[str]:
    """Attributes of mandatory modules that are missing (types 1 and 2) or empty (type 1), however deep."""
    sop_class = str(dataset.get("SOPClassUID", ""))
    iod = _table("sop_class_iod_map").get(sop_class)
    if iod is None:
        yield f"{sop_class or 'an empty SOP class'} is no known class"
        return
    for module in _table("iod_module_map")[iod]:
        if module["usage"] == "M" and module["key"] != CONTENT:
            yield from _missing(dataset, _tree(module["key"]), module["key"])
    yield from _macro_faults(dataset)
    if "ContentSequence" in dataset:
        yield from _content_faults(dataset)


def _macro_faults(dataset: Dataset) -> Iterator[str]:
    """Functional groups that belong to all frames or to each one (PS3.3 tables A.51-2 and A.75-2)."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    wanted = MACROS.get(str(dataset.SOPClassUID), ())
    for number, group in enumerate(dataset.get("PerFrameFunctionalGroupsSequence", []), start=1):
        for keyword in wanted:
            if keyword not in group and keyword not in shared[0]:
                yield f"frame {number} has no {keyword}"


def _content_faults(item: Dataset) -> Iterator[str]:
    """Content items without the value that their type has (PS3.3 C.17.3)."""
    kind = str(item.get("ValueType", ""))
    if kind not in VALUES:
        yield f"a content item is of type {kind!r}"
    for keyword in VALUES.get(kind, ()):
        if not item.get(keyword):
            yield f"a content item of type {kind} has no {keyword}"
    if item.get("ContinuityOfContent", SEPARATE) != SEPARATE:
        yield "a container is CONTINUOUS, so that renderers leave out the names of its items"
    for child in item.get("ContentSequence", []):
        if not child.get("RelationshipType"):
            yield f"a content item below {kind} has no RelationshipType"
        yield from _content_faults(child)


def code_faults(dataset: Dataset) -> Iterator[str]:
    """Codes that no dictionary has, or has under another name, and private schemes that are not declared."""
    declared = {
        item.CodingSchemeDesignator
        for item in dataset.get("CodingSchemeIdentificationSequence", [])
    }
    used = _codes(_items(dataset)) - _codes(_procedures(dataset))
    for value, scheme, meaning in sorted(used):
        if scheme.startswith("99"):
            if scheme not in declared:
                yield f"code {value} is of scheme {scheme}, which is not declared"
        elif scheme != LANGUAGES and (fault := _code_fault(value, scheme, meaning)):
            yield fault


def _codes(items: Iterable[Dataset]) -> set[tuple[str, str, str]]:
    return {
        (str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.get("CodeMeaning", "")))
        for item in items
        if "CodeValue" in item and "CodingSchemeDesignator" in item
    }


def _procedures(dataset: Dataset) -> Iterator[Dataset]:
    """The codes of the procedure, which are the hospital's own."""
    for item in dataset.get("ContentSequence", []):
        names = item.get("ConceptNameCodeSequence") or [Dataset()]
        if names[0].get("CodeValue") == PROCEDURE_REPORTED:
            yield from item.get("ConceptCodeSequence", [])


def _code_fault(value: str, scheme: str, meaning: str) -> str:
    if scheme not in codes.schemes():
        return f"code {value} is of scheme {scheme}, which no dictionary has"
    known = _meanings(scheme).get(value)
    if value in ALIKE:
        return ""
    if known is None:
        return f"code {value} is not in scheme {scheme}"
    if meaning.lower() not in {name[:64].lower() for name in known}:
        return f"code {value} of scheme {scheme} is called {meaning!r}, not {sorted(known)[0]!r}"
    return ""


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Every item of every sequence of ours: what is carried of patient and study has codes of its own."""
    for element in dataset:
        if element.VR == "SQ" and element.keyword not in PATIENT_AND_STUDY:
            for item in element.value:
                yield item
                yield from _items(item)


def _missing(dataset: Dataset, tree: "Tree", where: str) -> Iterator[str]:
    present = dataset.keys()
    for tag, (keyword, kind) in tree.wanted.items():
        if tag not in present:
            yield f"{keyword} is missing ({where})"
        elif kind == "1" and _is_empty(dataset[tag]):
            yield f"{keyword} is empty ({where})"
    for tag in list(present):
        # A frame has few of the many groups that it might have.
        if tag in tree.below and dataset[tag].VR == "SQ":
            keyword, below = tree.below[tag]
            for item in dataset[tag].value:
                yield from _missing(item, below, keyword)


def _is_empty(element: DataElement) -> bool:
    return element.value is None or (hasattr(element.value, "__len__") and not len(element.value))


@dataclass(frozen=True, slots=True)
class Tree:
    """Attributes of a data set by tag: keyword and type of those it must have, items of sequences."""

    wanted: dict[BaseTag, tuple[str, str]]
    below: dict[BaseTag, tuple[str, "Tree"]]


def _table(name: str) -> dict[str, Any]:
    """As highdicom has read it already: 23 MB of text, which take half a second and 110 MB."""
    table: dict[str, Any] = getattr(_standard_utils, f"get_{name}")()
    return table


@cache
def _tree(module: str) -> Tree:
    """The attributes of a module. Functional groups may lie in either place, so none is wanted in one."""
    root = Tree({}, {})
    for row in _table("module_attribute_map")[module]:
        tree = root
        for keyword in row["path"]:
            tag = Tag(keyword)
            tree = tree.below.setdefault(tag, (keyword, Tree({}, {})))[1]
        is_macro = row["path"] and row["path"][-1] in GROUPS
        if row["type"] in ("1", "2") and not is_macro:
            tree.wanted[Tag(row["keyword"])] = (row["keyword"], row["type"])
    return root


@cache
def _meanings(scheme: str) -> dict[str, set[str]]:
    """The names of each code of a scheme: contexts of one code can name it differently."""
    found: dict[str, set[str]] = {}
    for code in Collection(scheme).concepts.values():
        found.setdefault(code.value, set()).add(code.meaning)
    return found
