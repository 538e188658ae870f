"""The procedure that a report is about (Procedure reported, TID 1500): the one that was ordered and done."""

from collections.abc import Iterator

from highdicom.sr import CodedConcept
from pydicom import Dataset

from dicom_node.report import concepts
from dicom_node.report.origin import Origin

SOURCES = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence")
"""At the top level, the former what was done (PS3.3 C.7.2.1), the latter what was asked for."""

LONGEST = {"CodeValue": 16, "CodingSchemeDesignator": 16, "CodeMeaning": 64}


def procedures(origin: Origin) -> list[CodedConcept]:
    """The source's own codes, exactly; where it has none that is whole, the one of the modality."""
    for dataset in (item for items in origin.raw for item in items):
        for found in (list(codes) for codes in _offered(dataset)):
            if found:
                return found
    return [CodedConcept.from_code(concepts.PROCEDURES[origin.acquisition.scan.modality])]


def _offered(dataset: Dataset) -> Iterator[Iterator[CodedConcept]]:
    """What is likeliest to be what was done first, each with its valid codes."""
    asked = [item.get(SOURCES[1]) or [] for item in dataset.get("RequestAttributesSequence") or []]
    for items in (dataset.get(SOURCES[0]) or [], *asked, dataset.get(SOURCES[1]) or []):
        yield (CodedConcept(**code) for item in items if (code := _valid(item)))


def _valid(item: Dataset) -> dict[str, str]:
    """The parts of a code; nothing where one is missing, too long, or holds what no text may."""
    told = {keyword: str(item.get(keyword) or "").strip() for keyword in LONGEST}
    for keyword, text in told.items():
        if not 0 < len(text) <= LONGEST[keyword] or not text.isprintable() or "\\" in text:
            return {}
    value, scheme, meaning = told.values()
    version = str(item.get("CodingSchemeVersion") or "").strip()
    code = {"value": value, "scheme_designator": scheme, "meaning": meaning}
    return code | {"scheme_version": version} if 0 < len(version) <= 16 else code
