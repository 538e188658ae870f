"""Sides: left beside right, where a study shows exactly one acquisition of each in the same orientation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dicom_node.report.concepts import SCHEME
from dicom_node.report.laterality import side_of
from dicom_node.report.table import MEAN
from dicom_node.study import Outcome, Study
from models.findings import Code, Findings, Measurement
from models.scan import Scan

THICKNESS = ("59089-3", "LN")
LEFT_MINUS_RIGHT = Code("left-minus-right", SCHEME, "Mean thickness, left minus right")
MEAN_OF_SIDES = Code("mean-of-sides", SCHEME, "Mean thickness, mean of left and right")
AXES = ("transverse", "", "longitudinal")
"""What the probe is to the patient, by the patient axis (x, y, z) that the columns follow."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One segment that both sides measured by the same method: mean thickness of either, one unit."""

    segment: int
    label: str
    left: Measurement
    right: Measurement

    @property
    def difference(self) -> float:
        return self.left.value - self.right.value

    @property
    def mean(self) -> float:
        return (self.left.value + self.right.value) / 2

    def measurements(self) -> tuple[Measurement, Measurement]:
        """Difference and mean of the sides, for a report of either."""
        unit, how = self.left.unit, self.left.method
        return (
            Measurement(LEFT_MINUS_RIGHT, self.difference, unit, self.segment, how),
            Measurement(MEAN_OF_SIDES, self.mean, unit, self.segment, how),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Left and right of one analysis: acquisition numbers and pairs, or why the sides were not compared."""

    analysis: str
    left: int | None
    right: int | None
    pairs: tuple[Pair, ...]
    reason: str = ""

    def of(self, outcome: Outcome) -> tuple[Measurement, ...]:
        """What the comparison adds to the report of one of the two outcomes; nothing to any other."""
        if outcome.analysis != self.analysis or outcome.acquisition not in (self.left, self.right):
            return ()
        return tuple(item for pair in self.pairs for item in pair.measurements())


def compare_sides(study: Study, outcomes: Sequence[Outcome]) -> tuple[Comparison, ...]:
    """One comparison per analysis that has findings of both sides; none where a side is missing."""
    found: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        side = side_of(study.acquisitions[outcome.acquisition].scan)
        if outcome.findings and side in ("left", "right"):
            found.setdefault(outcome.analysis, {}).setdefault(side, []).append(outcome)
    return tuple(
        _compare(study, analysis, sides)
        for analysis, sides in found.items()
        if {"left", "right"} <= set(sides)
    )


def digest(measurements: Sequence[Measurement]) -> str:
    """SHA-256 of added numbers: a report that says more than the findings is another report."""
    return hashlib.sha256(repr(measurements).encode()).hexdigest()


def _compare(study: Study, analysis: str, sides: Mapping[str, Sequence[Outcome]]) -> Comparison:
    if any(len(items) > 1 for items in sides.values()):
        counts = f"{len(sides['left'])} of the left and {len(sides['right'])} of the right"
        return Comparison(analysis, None, None, (), f"there are {counts} side")
    left, right = sides["left"][0], sides["right"][0]
    held = [_orientation(study.acquisitions[item.acquisition].scan) for item in (left, right)]
    if "" in held:
        return Comparison(analysis, None, None, (), "how the probe was held is not known of both")
    if held[0] != held[1]:
        return Comparison(analysis, None, None, (), f"left is {held[0]}, right is {held[1]}")
    pairs = tuple(_pairs(left.findings, right.findings))
    return Comparison(analysis, left.acquisition, right.acquisition, pairs)


def _orientation(scan: Scan) -> str:
    """Transverse or longitudinal; "" when neither the geometry nor the scanner says so."""
    if scan.geometry.orientation in ("measured", "declared"):
        return AXES[int(abs(scan.affine[:3, 2]).argmax())]
    told = scan.facts.get("probe_orientation") or scan.facts.get("view") or ""
    return told.lower()


def _pairs(left: Findings | None, right: Findings | None) -> list[Pair]:
    if left is None or right is None:
        return []
    ours, theirs = _thickness(left), _thickness(right)
    return [
        Pair(segment.number, segment.label, one, other)
        for segment in left.segmentation.segments
        if (one := ours.get(segment.number)) and (other := theirs.get(segment.number))
        if (one.method, one.unit) == (other.method, other.unit)
    ]


def _thickness(findings: Findings) -> dict[int, Measurement]:
    """Mean thickness by segment number; the visible depth of what the image cuts off is another quantity."""
    return {
        item.segment: item
        for item in findings.measurements
        if item.segment is not None
        and item.quantity[:2] == THICKNESS
        and item.derivation is not None
        and item.derivation.value == MEAN
    }
