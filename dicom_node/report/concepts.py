"""Codes become coded concepts, and the report's own words that no standard scheme has."""

from collections.abc import Iterable

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as Concept

from models.findings import Code

SCHEME = "99DICOMNODE"
SCHEME_NAMES = {SCHEME: "dicom-node report"}


def concept(code: Code) -> Concept:
    """The coded concept of a Code; its meaning is cut at the 64 characters of a long string."""
    return Concept(code.value, code.scheme, code.meaning[:64])


def _own(value: str, meaning: str) -> Concept:
    return Concept(value, SCHEME, meaning)


PERCENT, NO_UNITS = codes.UCUM.Percent, codes.UCUM.NoUnits
MILLIMETER = Concept("mm", "UCUM", "mm")
PROBABILITY = codes.DCM.Probability
LUMBAR_REGION = codes.SCT.LumbarRegion
PROCEDURES = {"US": codes.SCT.DiagnosticUltrasonography, "MR": codes.LN.MRIUnspecifiedBodyRegion}

INTERVAL_OF = "PROBABILITY"
"""Code value of a number of the whole scan that is an end of the decision's interval."""

LOGIT = _own("logit", "Logit")
REFUSAL_REPORT = _own("refusal", "Analysis not performed")
NOTHING_REPORT = _own("nothing-found", "Analysis without measurable structures")
REASON = _own("reason", "Reason")
INTENDED_USE = _own("intended-use", "Intended use")
RESEARCH_ONLY = _own("research-only", "Research use only, not for diagnosis")
NOT_FOUND = _own("not-found", "Structure not found")
FLAG = _own("flag", "Reason to distrust")
TOLD = _own("told", "What these numbers are")
ONE_LINE = _own("line", "One drawn line, at one place of the layer")
NO_LINE = _own("no-line", "No number: where the layer was looked for")
STATISTICS = _own("statistics", "Statistics over the whole layer")
CALIPER = _own("caliper", "Caliper drawn")
NO_CALIPER = _own("non-square", "No, pixels are not square")
GEOMETRY = {
    "in_plane": _own("geometry-plane", "Provenance of pixel spacing"),
    "frame_step": _own("geometry-step", "Provenance of frame spacing"),
    "orientation": _own("geometry-axes", "Provenance of orientation"),
}
PROVENANCE = {
    "measured": _own("measured", "Measured: read from the source instances"),
    "declared": _own("declared", "Declared by site configuration"),
    "assumed": _own("assumed", "Assumed: not in the source instances"),
    "unknown": _own("unknown", "Unknown"),
}


def segment_concept(number: int, label: str) -> Concept:
    """A private code for one described segment; two layers can share their standard code."""
    return _own(f"segment-{number}", label[:64])


def declare_schemes(dataset: Dataset) -> None:
    """Name each private coding scheme that the data set uses (PS3.3 C.12.1.1, type 1C)."""
    designators = sorted({d for d in _designators(dataset) if d.startswith("99")})
    if designators:
        dataset.CodingSchemeIdentificationSequence = [
            CodingSchemeIdentificationItem(
                designator,
                name=SCHEME_NAMES.get(designator, f"private codes {designator}"),
                responsible_organization="dicom-node",
            )
            for designator in designators
        ]


def _designators(dataset: Dataset) -> Iterable[str]:
    for element in dataset:
        if element.keyword == "CodingSchemeDesignator":
            yield str(element.value)
        elif element.VR == "SQ":
            for item in element.value:
                yield from _designators(item)
