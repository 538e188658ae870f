"""Measurement groups of TID 1500: per segment a viewer twin and a segment group, per decision one group.

A viewer (OHIF 3.13) lists a group only if it finds coordinates for its Tracking UID, loads it only if its
Tracking Identifier names a tool and its first number carries coordinates, and then shows the length of what
is drawn. Hence the pair: the twin (TID 1410) holds one line and its length, the group (TID 1411) the rest.
"""

from collections.abc import Sequence
from typing import Any

from highdicom import sr
from highdicom.sr import RelationshipTypeValues
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as Concept

from dicom_node.errors import ReportError
from dicom_node.report import concepts
from dicom_node.report.concepts import concept
from dicom_node.report.identity import describe_settings
from dicom_node.report.laterality import side_code
from dicom_node.report.origin import Origin
from dicom_node.report.references import known_class
from dicom_node.report.regions import (
    Region,
    analyzed_region,
    caliper,
    center_of,
    draws_true,
)
from models.findings import Classification, Code, Measurement, Segment

TOOL = "Cornerstone3DTools@^0.1.0"


def segment_groups(origin: Origin, segment: Segment, mask: Dataset) -> list[Any]:
    """The twin and the segment group of one segment that was found."""
    measurements = [m for m in origin.measurements if m.segment == segment.number]
    drawn = [m for m in measurements if m.line is not None]
    lines = [(m, caliper(origin, m)) for m in drawn] if draws_true(origin) else []
    chosen = next(((m, line) for m, line in lines if line is not None), None)
    if chosen is None:
        twin = _region_twin(origin, segment)
        plain = measurements
    else:
        measurement, (region, length_mm) = chosen
        twin = _line_twin(origin, segment, measurement, (region, length_mm))
        plain = [m for m in measurements if m is not measurement]
    return [twin, _segment_group(origin, segment, mask, plain)]


def _line_twin(
    origin: Origin, segment: Segment, measurement: Measurement, line: tuple[Region, float]
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    region, length_mm = line
    number = sr.Measurement(concept(measurement.quantity), _rounded(length_mm), concepts.MILLIMETER)
    identifier, uid = origin.tracking(segment.number)
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid, f"{TOOL}:Length:{identifier}"),
        referenced_region=region.as_region(),
        measurements=[number],
        qualitative_evaluations=[_told(concepts.ONE_LINE)],
        **_described(origin, segment),
    )
    _attach(group, region)
    _comment(group, f"{segment.number} {segment.label}")
    return group


def _region_twin(
    origin: Origin, segment: Segment
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """The quiet form, for a segment without a line that may be drawn: listed, never loaded as a caliper."""
    identifier, uid = origin.tracking(segment.number)
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid, identifier),
        referenced_region=analyzed_region(origin).as_region(),
        qualitative_evaluations=[_told(concepts.NO_LINE)],
        **_described(origin, segment),
    )


def _segment_group(
    origin: Origin, segment: Segment, mask: Dataset, measurements: Sequence[Measurement]
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    identifier, uid = origin.tracking(segment.number)
    # The B-mode is enough: the segmentation itself names the frames of every channel.
    sources = [
        sr.SourceImageForSegmentation(known_class(origin), str(header.SOPInstanceUID))
        for header in origin.headers[0]
    ]
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid, identifier),
        referenced_segment=sr.ReferencedSegment(
            mask.SOPClassUID, mask.SOPInstanceUID, segment.number, source_images=sources
        ),
        measurements=[_number(item) for item in measurements],
        qualitative_evaluations=[_told(concepts.STATISTICS)],
        **_described(origin, segment),
    )


def _told(what: Concept) -> sr.QualitativeEvaluation:
    """Why a layer has two groups, for those who read the tree."""
    return sr.QualitativeEvaluation(concepts.TOLD, what)


def classification_group(
    origin: Origin, classification: Classification, scan_measurements: Sequence[Measurement]
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """One decision: the likeliest class, its probability in %, the logit; the region is what was analyzed."""
    region = analyzed_region(origin)
    name, (outcome, probability) = classification.concept.meaning, classification.outcomes[0]
    likely = max(classification.outcomes, key=lambda item: item[1])[0]
    numbers = [sr.Measurement(concepts.PROBABILITY, _rounded(100 * probability), concepts.PERCENT)]
    numbers += [
        _probability(code, other)
        # Of two outcomes the second is the complement of the first.
        for code, other in classification.outcomes[1:]
        if len(classification.outcomes) > 2
    ]
    numbers.append(
        sr.Measurement(concepts.LOGIT, _rounded(classification.logit), concepts.NO_UNITS)
    )
    numbers += [_probability(code, level) for code, level in classification.levels]
    visible = draws_true(origin)
    identifier = f"{TOOL}:ArrowAnnotate:{name}" if visible else name
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            origin.identity.uid("tracking", *classification.concept), identifier
        ),
        referenced_region=region.as_region(),
        finding_type=concept(classification.concept),
        algorithm_id=algorithm(origin),
        measurements=[*numbers, *(_number(item) for item in scan_measurements)],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(concept(classification.concept), concept(likely))
        ],
    )
    if visible:
        _attach(group, center_of(region))
    _comment(group, f"{outcome.meaning}: {100 * probability:.0f} % (research only)")
    return group


def _probability(code: Code, probability: float) -> sr.Measurement:
    """The probability of a further outcome or of a level, in %, with the name of it."""
    return sr.Measurement(
        concepts.PROBABILITY,
        _rounded(100 * probability),
        concepts.PERCENT,
        tracking_identifier=sr.TrackingIdentifier(identifier=code.meaning),
    )


def scan_group(
    origin: Origin, measurements: Sequence[Measurement]
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """Measurements of the whole scan, where no decision can carry them."""
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            origin.identity.uid("tracking", "scan"), f"{origin.name} scan"
        ),
        referenced_region=analyzed_region(origin).as_region(),
        algorithm_id=algorithm(origin),
        measurements=[_number(item) for item in measurements],
    )


def algorithm(origin: Origin) -> sr.AlgorithmIdentification:
    """Name, version, weights digest and settings of the analysis (TID 4019)."""
    run = origin.findings.run
    parameters = [f"weights_sha256={run.weights_sha256}", *describe_settings(run.settings)]
    return sr.AlgorithmIdentification(run.analysis, run.version, parameters=parameters)


def _described(origin: Origin, segment: Segment) -> dict[str, Any]:
    return {
        "finding_type": concept(segment.type),
        "finding_category": concept(segment.category),
        "finding_sites": [
            sr.FindingSite(concept(segment.site), laterality=side_code(origin.acquisition.scan))
        ],
        "algorithm_id": algorithm(origin),
    }


def _number(measurement: Measurement) -> sr.Measurement:
    optional: dict[str, Any] = {
        key: concept(code)
        for key, code in (("method", measurement.method), ("derivation", measurement.derivation))
        if code is not None
    }
    return sr.Measurement(
        concept(measurement.quantity),
        _rounded(measurement.value),
        concept(measurement.unit),
        **optional,
    )


def _rounded(value: float) -> float:
    """Six significant digits: more than any of these numbers has, and short enough for a decimal string."""
    return float(f"{float(value):.6g}")


def _attach(group: Any, region: Region) -> None:
    """Put the coordinates below the group's first number; highdicom's constructors refuse them there."""
    items = group[0].ContentSequence
    number = next((item for item in items if item.ValueType == "NUM"), None)
    if number is None:
        raise ReportError("a measurement group without a number cannot carry coordinates")
    coordinates = region.as_coordinates()
    if "ContentSequence" in number:
        number.ContentSequence.append(coordinates)
    else:
        number.ContentSequence = [coordinates]


def _comment(group: Any, text: str) -> None:
    """The label that viewers show."""
    group[0].ContentSequence.append(
        sr.TextContentItem(
            name=codes.DCM.Comment,
            value=text,
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
    )
