"""The tables of the objects that the node creates: every attribute, and where its value comes from."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import Tag

from dicom_node.conformance.markdown import table
from dicom_node.report.header import CHARACTER_SET, PATIENT_AND_STUDY, REQUIRED

Sources = Mapping[str, str]
"""Where the values of attributes come from, by keyword."""

SOMETIMES = "where "
"""How it begins for an attribute that is not in every object."""

GIVEN = f"{SOMETIMES}the source has it"
COPIED = "the source's, made valid; empty where it has none"
MADE = "when it was made, see 4.3"

COMMON: Sources = MappingProxyType(
    {
        keyword: COPIED if keyword in REQUIRED else f"{GIVEN}, made valid"
        for keyword in PATIENT_AND_STUDY
    }
    | {
        "StudyInstanceUID": "the source's",
        "SpecificCharacterSet": CHARACTER_SET,
        "SOPClassUID": "see the SOP classes proposed, 4.2.2",
        "SOPInstanceUID": "derived, see 4.3",
        "InstanceCreationDate": MADE,
        "InstanceCreationTime": "with Instance Creation Date",
        "SeriesDate": MADE,
        "SeriesTime": "with Series Date",
        "ContentDate": MADE,
        "ContentTime": "with Content Date",
        "Modality": "SEG, SR, OT (maps, pages), DOC (PDF), US (companions)",
        "Manufacturer": "dicom-node",
        "ManufacturerModelName": "name of the analysis; dicom-node in an answer",
        "DeviceSerialNumber": "last digits of the Device UID",
        "SoftwareVersions": "dicom-node with its version, analysis with its version",
        "ContributingEquipmentSequence": "dicom-node as processing equipment (109102) with its Device UID; "
        "in SEG, PM and SR also the acquisition equipment (109101); the library that built the object",
        "SeriesInstanceUID": "derived, see 4.3",
        "SeriesNumber": "from 9001 + 10 n for acquisition n (from 0); 8999 for an answer",
        "SeriesDescription": "analysis, kind of object, research only",
        "InstanceNumber": "1; pages and companions are counted",
    }
)

_MULTIFRAME = {
    "SourceImageSequence": "every source instance",
    "ReferencedSeriesSequence": "every source series with its instances",
    "ImageType": "DERIVED, PRIMARY and what the class adds",
    "FrameOfReferenceUID": "the source's; where it has none, derived",
    "PositionReferenceIndicator": "empty",
    "DimensionOrganizationSequence": "one derived UID",
    "DimensionIndexSequence": "segment (SEG), position",
    "SamplesPerPixel": "1",
    "PhotometricInterpretation": "MONOCHROME2",
    "NumberOfFrames": "by the result",
    "Rows": "the source's",
    "Columns": "the source's",
    "BitsAllocated": "1 (SEG, 8 as label map or in JPEG 2000), 32 (PM)",
    "LossyImageCompression": "the source's",
    "LossyImageCompressionRatio": GIVEN,
    "LossyImageCompressionMethod": GIVEN,
    "ContentLabel": "name of the analysis (SEG), SALIENCY or SHEAR_WAVE (PM)",
    "ContentDescription": "provenance of in-plane spacing, frame step and orientation",
    "PresentationLUTShape": "IDENTITY",
    "SharedFunctionalGroupsSequence": "see the functional groups below",
    "PerFrameFunctionalGroupsSequence": "see the functional groups below",
}
_STORED = {
    "BitsStored": "by Bits Allocated",
    "HighBit": "by Bits Allocated",
    "PixelRepresentation": "0",
}
_DOCUMENT = {
    "ValueType": "CONTAINER",
    "ConceptNameCodeSequence": "the title, see 8.2",
    "ContinuityOfContent": "SEPARATE",
    "ContentSequence": "see 8.2",
    "CompletionFlag": "COMPLETE",
    "VerificationFlag": "UNVERIFIED: nobody has looked at it",
    "PreliminaryFlag": "FINAL",
    "ReferencedPerformedProcedureStepSequence": "empty",
    "PerformedProcedureCodeSequence": "empty",
    "CodingSchemeIdentificationSequence": "the private schemes that it uses",
    "PredecessorDocumentsSequence": f"{SOMETIMES}it replaces a report that was delivered: that one",
}
SAID = (
    "YES where lines of letters were found in what is shown; else NO where a calibrated tissue region "
    "smaller than the screen bounds it, unless the source says YES and no letters were found outside; else "
    "the source's"
)
SIDE = f"{SOMETIMES}the side is known: L, R, B"
BURNED_IN: Sources = MappingProxyType(
    {"ImageLaterality": SIDE, "RecognizableVisualFeatures": f"{GIVEN}: the source's"}
)
"""Of objects that show the tissue."""

_REFERRED = {
    "BodyPartExamined": "LSPINE",
    "DerivationDescription": "what was done, in words",
    "PatientOrientation": "empty",
    **BURNED_IN,
    "BurnedInAnnotation": f"{SOMETIMES}it is known: {SAID}",
    "SourceImageSequence": "the source instances; a companion's own frame",
    "ImageType": "DERIVED, SECONDARY",
    "Rows": "by the drawing, or by the grid of square pixels",
    "Columns": "by the drawing, or by the grid of square pixels",
    "SamplesPerPixel": "3 (page), 1 (companion)",
    "PhotometricInterpretation": "RGB, YBR_RCT in JPEG 2000 (page), MONOCHROME2 (companion)",
    "BitsAllocated": "8",
    **_STORED,
    "PixelData": "the drawing, or the gray levels of one frame, black outside the tissue",
}

SPECIFIC: Mapping[str, Sources] = MappingProxyType(
    {
        "segmentation": {
            **_MULTIFRAME,
            **_STORED,
            "SegmentationType": "BINARY, or LABELMAP where `seg` says so",
            "SegmentSequence": "the segments below: label, codes, side of the region (CID 244), "
            "algorithm (name, version, weights, settings), AUTOMATIC, color, Tracking ID and UID (those of "
            "the report)",
            "ContentCreatorName": "dicom-node",
            "SegmentsOverlap": f"{SOMETIMES}BINARY: NO",
            "CodingSchemeIdentificationSequence": f"{SOMETIMES}a private scheme is used",
            "PixelPaddingValue": f"{SOMETIMES}LABELMAP: 0",
            "ImageLaterality": SIDE,
            "PixelData": "the masks",
        },
        "map": {
            **_MULTIFRAME,
            "DimensionOrganizationType": f"{SOMETIMES}frames are evenly spaced: 3D",
            "PixelPresentation": "MONOCHROME",
            "ContentQualification": "RESEARCH",
            "BodyPartExamined": "LSPINE",
            "BurnedInAnnotation": "NO",
            "RecognizableVisualFeatures": "NO",
            "AcquisitionContextSequence": "empty",
            "ContentCreatorName": "dicom-node",
            "CodingSchemeIdentificationSequence": f"{SOMETIMES}a private scheme is used",
            "FloatPixelData": "saliency from 0 to 1, or shear-wave speed in cm/s",
        },
        "measurements": {
            **_DOCUMENT,
            "ContentTemplateSequence": "1500, DCMR",
            "CurrentRequestedProcedureEvidenceSequence": "the source instances, the SEG, the maps",
        },
        "refusal": _DOCUMENT,
        "page": {
            **_REFERRED,
            "ConversionType": "WSD",
            "DateOfSecondaryCapture": "as Content Date",
            "TimeOfSecondaryCapture": "as Content Time",
            "PlanarConfiguration": "0",
        },
        "document": {
            "ConversionType": "WSD",
            "AcquisitionDateTime": "empty",
            **BURNED_IN,
            "BurnedInAnnotation": f"{SAID}; YES where neither is known",
            "ConceptNameCodeSequence": "empty",
            "DocumentTitle": "name of the analysis, research use only",
            "SourceInstanceSequence": "the source instances",
            "MIMETypeOfEncapsulatedDocument": "application/pdf",
            "EncapsulatedDocument": "the pages",
            "EncapsulatedDocumentLength": "by the document",
        },
        "companion": {
            **_REFERRED,
            "FrameOfReferenceUID": "the source's; where it has none, derived",
            "PositionReferenceIndicator": "empty",
            "ImagePositionPatient": "the source's, or by the frame step",
            "ImageOrientationPatient": "the source's, or 1, 0, 0, 0, 1, 0",
            "PixelSpacing": "square",
            "SliceThickness": "the source's, or the frame step",
            "SpacingBetweenSlices": "the frame step",
            "LossyImageCompression": "the source's",
            "LossyImageCompressionRatio": GIVEN,
            "LossyImageCompressionMethod": GIVEN,
        },
    }
)
"""By kind of object, what it has beside COMMON."""

TITLES = {
    "segmentation": "Segmentation",
    "map": "Parametric Map",
    "measurements": "Structured Report with measurements",
    "refusal": "Structured Report that answers a study that was not analyzed",
    "page": "Secondary Capture of a page",
    "document": "Encapsulated PDF",
    "companion": "Companion: a frame of the source on square pixels",
}

GROUPS = (
    ("SEG, PM", "shared", "PlaneOrientationSequence", "the source's, else 1, 0, 0, 0, 1, 0"),
    ("SEG, PM", "shared", "PixelMeasuresSequence", "spacing as measured or declared"),
    ("SEG, PM", "frame", "PlanePositionSequence", "with the orientation"),
    ("SEG, PM", "frame", "FrameContentSequence", "index of the dimensions"),
    ("SEG, PM", "frame", "DerivationImageSequence", "source frames, B-mode first; purpose 121322"),
    ("SEG", "frame", "SegmentIdentificationSequence", "segment; not in a label map"),
    ("PM", "shared", "FrameAnatomySequence", "lumbar region with its side; laterality L, R, B; U: not known"),
    ("PM", "shared", "FrameVOILUTSequence", "the whole range"),
    ("PM", "shared", "PixelValueTransformationSequence", "identity"),
    ("PM", "shared", "ParametricMapFrameTypeSequence", "as Image Type"),
    ("PM", "shared", "RealWorldValueMappingSequence", "quantity and unit, slope 1, intercept 0"),
)  # fmt: skip
"""Functional groups: objects, shared or per frame, keyword, source of the values."""


def tables() -> dict[str, object]:
    heads = ("attribute", "tag", "VR", "value")
    groups = [
        (name, where, *_attribute(keyword)[:2], said) for name, where, keyword, said in GROUPS
    ]
    return {
        "common": table(heads, _rows(COMMON)),
        "objects": [(TITLES[kind], table(heads, _rows(own))) for kind, own in SPECIFIC.items()],
        "groups": table(("object", "place", "functional group", "tag", "value"), groups),
    }


def _rows(sources: Sources) -> Iterator[tuple[str, ...]]:
    """In the order of the tags."""
    for keyword in sorted(sources, key=lambda keyword: tag_for_keyword(keyword) or 0):
        yield (*_attribute(keyword), sources[keyword])


def _attribute(keyword: str) -> tuple[str, str, str]:
    tag = Tag(keyword)
    return keyword, f"({tag.group:04X},{tag.element:04X})", dictionary_VR(tag)
