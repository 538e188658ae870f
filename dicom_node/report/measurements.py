"""Measurements: Comprehensive 3D SR with the root template TID 1500 (PS3.16)."""

from collections.abc import Sequence
from typing import Any

from highdicom import sr
from highdicom.sr import RelationshipTypeValues
from pydicom import Dataset
from pydicom.sr.codedict import codes

from dicom_node.errors import ReportError
from dicom_node.report import concepts
from dicom_node.report.cautions import side_caution
from dicom_node.report.concepts import concept, declare_schemes, segment_concept
from dicom_node.report.equipment import MANUFACTURER
from dicom_node.report.groups import classification_group, scan_group, segment_groups
from dicom_node.report.impression import absent_segments, say_first
from dicom_node.report.origin import Origin
from dicom_node.report.parametric_map import quantities
from dicom_node.report.procedure import procedures
from dicom_node.report.references import restore_classes, stand_ins
from dicom_node.report.regions import draws_true
from dicom_node.report.sides import digest
from dicom_node.report.text_report import build_text_report
from dicom_node.report.tree import separate


def build_measurements(
    origin: Origin, mask: Dataset, maps: Sequence[Dataset]
) -> sr.Comprehensive3DSR:
    """All numbers of one outcome, pointing into the source frames and to the segments of ``mask``.

    With nothing to point at, the text form: viewers go blank on this template without coordinates.
    """
    groups = _groups(origin, mask)
    if not groups:
        sentences = [f"{segment.label}: not found" for segment in absent_segments(origin.findings)]
        sentences += [flag.sentence for flag in origin.findings.flags]
        return build_text_report(origin, concepts.NOTHING_REPORT, sentences)
    report = sr.MeasurementReport(
        observation_context=observer(origin),
        procedure_reported=procedures(origin),
        imaging_measurements=groups,
        referenced_images=stand_ins(origin),
    )
    content = report[0]
    say_first(content, origin)
    _name_maps(content, origin, maps)
    named = origin.constructor("measurements", 9000 + 10 * origin.number + 2)
    if origin.compared:
        # Another document of its own series: what is in one series is of one moment.
        added = digest(origin.compared)
        named["series_instance_uid"] = origin.uid("measurements", "series", added)
        named["sop_instance_uid"] = origin.uid("measurements", "instance", added)
    result = sr.Comprehensive3DSR(
        evidence=[*stand_ins(origin), mask, *maps],
        content=content,
        is_complete=True,
        series_description=f"{origin.name} measurements, research only"[:64],
        **named,
    )
    restore_classes(result, origin)
    separate(result)
    origin.finish(result)
    declare_schemes(result)
    return result


def _name_maps(root: Dataset, origin: Origin, maps: Sequence[Dataset]) -> None:
    """Put the maps into the Image Library, under the name of the quantity that each shows (TID 1601)."""
    is_library = codes.DCM.ImageLibrary
    library = next(item for item in root.ContentSequence if item.name == is_library)
    group = library.ContentSequence[0]
    for shown, dataset in zip(quantities(origin), maps, strict=False):
        group.ContentSequence.append(
            sr.ImageContentItem(
                shown.concept,
                str(dataset.SOPClassUID),
                str(dataset.SOPInstanceUID),
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )


def _groups(origin: Origin, mask: Dataset) -> list[Any]:
    """Every group in reading order; the statements about the whole go into the last one."""
    findings, absent = origin.findings, absent_segments(origin.findings)
    groups: list[Any] = []
    for segment in findings.segmentation.segments:
        if segment not in absent:
            groups += segment_groups(origin, segment, mask)
        elif any(m.segment == segment.number for m in findings.measurements):
            raise ReportError(
                f"study {origin.study_uid}: {origin.name} measured segment {segment.number} "
                f"({segment.label}), which has no voxels; no report was written"
            )
    whole = [m for m in findings.measurements if m.segment is None]
    if findings.classifications:
        for number, classification in enumerate(findings.classifications):
            groups.append(classification_group(origin, classification, () if number else whole))
    elif whole:
        groups.append(scan_group(origin, whole))
    if groups:
        groups[-1][0].ContentSequence.extend(_statements(origin))
    return groups


def _statements(origin: Origin) -> list[sr.ContentItem]:
    """Intended use, absent segments, provenance of the geometry, and reasons to distrust."""
    geometry = origin.acquisition.scan.geometry
    pairs = [(concepts.INTENDED_USE, concepts.RESEARCH_ONLY)]
    pairs += [
        (concepts.NOT_FOUND, segment_concept(segment.number, segment.label))
        for segment in absent_segments(origin.findings)
    ]
    pairs += [
        (name, concepts.PROVENANCE[getattr(geometry, part)])
        for part, name in concepts.GEOMETRY.items()
    ]
    if not draws_true(origin):
        pairs.append((concepts.CALIPER, concepts.NO_CALIPER))
    pairs += [(concepts.FLAG, concept(flag.code)) for flag in origin.findings.flags]
    contains = RelationshipTypeValues.CONTAINS
    items: list[sr.ContentItem] = [
        sr.CodeContentItem(name=name, value=value, relationship_type=contains)
        for name, value in pairs
    ]
    items += [
        sr.TextContentItem(name=concepts.FLAG, value=flag.sentence, relationship_type=contains)
        for flag in origin.findings.flags
    ]
    if caution := side_caution(origin.acquisition.scan):
        items.append(sr.TextContentItem(concepts.FLAG, caution, contains))
    return items


def observer(origin: Origin) -> sr.ObservationContext:
    """This program as the observer (TID 1004)."""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=origin.identity.device_uid,
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=origin.name,
        serial_number=origin.identity.device_uid[-16:],
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DCM.Device, device)
    )
