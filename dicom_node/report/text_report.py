"""A report without measurements: a scan that was declined, or one in which nothing was found.

Its root is not Imaging Measurement Report: viewers go blank on that without coordinates.
"""

from collections.abc import Sequence

from highdicom import sr
from highdicom.sr import RelationshipTypeValues
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as Concept

from dicom_node.reasons import REASONS
from dicom_node.report import concepts
from dicom_node.report.concepts import declare_schemes
from dicom_node.report.impression import impression
from dicom_node.report.origin import Origin
from dicom_node.report.references import restore_classes, stand_ins
from dicom_node.report.tree import separate


def code_item(code: str) -> sr.CodeContentItem:
    """The reason, by its code value, as a program reads it."""
    reason = REASONS[code]
    value = Concept(reason.value, concepts.SCHEME, reason.meaning)
    return sr.CodeContentItem(concepts.REASON, value, RelationshipTypeValues.CONTAINS)


def build_text_report(
    origin: Origin, title: Concept, sentences: Sequence[str]
) -> sr.Comprehensive3DSR:
    """Title, the outcome in the standard's words (CID 6047), one text per sentence, the sources."""
    contains = RelationshipTypeValues.CONTAINS
    summary = (
        codes.DCM.AllAlgorithmsSucceededWithoutFindings
        if origin.outcome.findings
        else codes.DCM.NoAlgorithmsSucceededWithoutFindings
    )
    items: list[sr.ContentItem] = [
        sr.CodeContentItem(concepts.INTENDED_USE, concepts.RESEARCH_ONLY, contains),
        sr.CodeContentItem(codes.DCM.CADProcessingAndFindingsSummary, summary, contains),
    ]
    if origin.outcome.code:
        items.append(code_item(origin.outcome.code))
    items += [sr.TextContentItem(concepts.REASON, text, contains) for text in sentences]
    items += [
        sr.ImageContentItem(
            name=codes.SCT.Source,
            referenced_sop_class_uid=str(header.SOPClassUID),
            referenced_sop_instance_uid=str(header.SOPInstanceUID),
            relationship_type=contains,
        )
        for header in stand_ins(origin)
    ]
    root = sr.ContainerContentItem(name=title)
    if origin.outcome.findings:
        items.insert(0, impression(origin))
    root.ContentSequence = sr.ContentSequence(items)
    result = sr.Comprehensive3DSR(
        evidence=stand_ins(origin),
        content=root,
        is_complete=True,
        series_description=f"{origin.name}: {title.meaning}"[:64],
        **origin.constructor(title.value, 9000 + 10 * origin.number + 2),
    )
    restore_classes(result, origin)
    separate(result)
    origin.finish(result)
    declare_schemes(result)
    return result
