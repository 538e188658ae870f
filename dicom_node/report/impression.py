"""The impression: what a report says first, in a line each, for those who read no further."""

from collections.abc import Iterator

import numpy as np
from highdicom import sr
from highdicom.sr import RelationshipTypeValues
from pydicom import Dataset
from pydicom.sr.codedict import codes

from dicom_node.report import concepts
from dicom_node.report.origin import Origin
from dicom_node.report.sides import THICKNESS
from dicom_node.report.table import LOWER, MEAN, UPPER, show
from models.findings import Classification, Findings, Segment

NOT_MEASURED = {"frame_step": "the distance of frames", "in_plane": "the size of pixels"}
"""Parts of the geometry that numbers in millimeters rest on."""


def say_first(report: Dataset, origin: Origin) -> None:
    """Put the impression before everything else that the root contains, in place."""
    items = report.ContentSequence
    first = next(
        (place for place, item in enumerate(items) if item.RelationshipType == "CONTAINS"),
        len(items),
    )
    items.insert(first, impression(origin))


def impression(origin: Origin) -> sr.ContainerContentItem:
    """The decision with its range, what was found, and the main cautions: one text each."""
    contains = RelationshipTypeValues.CONTAINS
    container = sr.ContainerContentItem(
        codes.DCM.Impressions, is_content_continuous=False, relationship_type=contains
    )
    container.ContentSequence = sr.ContentSequence(
        [sr.TextContentItem(codes.DCM.Impression, text, contains) for text in _lines(origin)]
    )
    return container


def absent_segments(findings: Findings) -> list[Segment]:
    """The described segments that have no voxel."""
    found = set(np.unique(findings.segmentation.labelmap))
    return [item for item in findings.segmentation.segments if item.number not in found]


def _lines(origin: Origin) -> Iterator[str]:
    findings = origin.findings
    for number, decision in enumerate(findings.classifications):
        yield _decision(decision, findings if number == 0 else None)
    if not findings.classifications:
        yield "Nothing was classified."
    absent = absent_segments(findings)
    found = [item for item in findings.segmentation.segments if item not in absent]
    if found:
        yield f"Found: {', '.join(_named(item, findings) for item in found)}."
    if absent:
        yield f"Not found: {', '.join(item.label for item in absent)}."
    geometry = origin.acquisition.scan.geometry
    for part, what in NOT_MEASURED.items():
        if getattr(geometry, part) not in ("measured", "declared"):
            yield f"Caution: {what} is {getattr(geometry, part)}, not measured."
    for meaning in dict.fromkeys(flag.code.meaning for flag in findings.flags):
        yield f"Caution: {meaning}."
    yield f"{concepts.RESEARCH_ONLY.meaning}."


def _decision(decision: Classification, findings: Findings | None) -> str:
    outcome, probability = decision.outcomes[0]
    ends = _ends(findings) if findings else None
    spread = f" ({ends[0]:.0f} to {ends[1]:.0f} %)" if ends else ""
    return f"{outcome.meaning}: probability {100 * probability:.0f} %{spread}."


def _ends(findings: Findings) -> tuple[float, float] | None:
    """The range of the probability, in %, where the analysis gives one."""
    told = [item for item in findings.measurements if item.segment is None and item.derivation]
    told = [item for item in told if item.quantity.value == concepts.INTERVAL_OF]
    ends = {item.derivation.value: item.value for item in told if item.derivation}
    return (ends[LOWER], ends[UPPER]) if {LOWER, UPPER} <= set(ends) else None


def _named(segment: Segment, findings: Findings) -> str:
    """The label, and the mean thickness where there is one."""
    for item in findings.measurements:
        is_mean = item.derivation is not None and item.derivation.value == MEAN
        if (item.segment, item.quantity[:2]) == (segment.number, THICKNESS) and is_mean:
            return f"{segment.label} (mean {show(item.value)} {item.unit.value})"
    return segment.label
