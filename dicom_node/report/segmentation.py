"""Segmentation: one object with every described segment, absent ones without frames (PS3.3 A.51).

BINARY has a frame per segment and slice, a label map (LABELMAP) one frame per slice.
"""

import re
import warnings

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes

from dicom_node.errors import ReportError
from dicom_node.report.concepts import concept, declare_schemes
from dicom_node.report.equipment import MANUFACTURER
from dicom_node.report.even_length import even_out
from dicom_node.report.identity import describe_settings
from dicom_node.report.laterality import add_side, set_image_laterality
from dicom_node.report.origin import Origin
from dicom_node.report.proxy import proxy_source
from dicom_node.report.references import refer_to_sources
from dicom_node.study import NOT_TO_SCALE
from models.findings import Segment

LEAST_J2K_PIXELS = 32


def build_segmentation(origin: Origin) -> hd.seg.Segmentation:
    """The masks of one outcome on the rows and columns of their source."""
    segmentation = origin.findings.segmentation
    _check_size(origin)
    with warnings.catch_warnings():
        # All frames empty is a legal result: described segments, nothing found.
        warnings.filterwarnings(
            "ignore", message="Encoding an empty segmentation", module="highdicom"
        )
        result = hd.seg.Segmentation(
            source_images=[proxy_source(origin)],
            pixel_array=segmentation.labelmap,
            segmentation_type=origin.form.seg.upper(),
            segment_descriptions=[_describe(origin, item) for item in segmentation.segments],
            content_label=re.sub(r"[^A-Z0-9_ ]", "_", origin.name.upper())[:16],
            content_description=describe_geometry(origin),
            content_creator_name=MANUFACTURER,
            series_description=f"{origin.name} segmentation, research only"[:64],
            omit_empty_frames=origin.form.seg_frames == "sparse",
            **origin.constructor("segmentation", 9000 + 10 * origin.number + 1),
        )
    refer_to_sources(result, origin)
    _name_side(result, origin)
    # A viewer that places companion images needs the step that they are placed by.
    if not _knows_step(origin) and not origin.form.companion:
        measures = result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.pop("SpacingBetweenSlices", None)
    if origin.form.seg == "binary" and origin.form.encoding != "j2k":
        even_out(result)
    origin.finish(result)
    declare_schemes(result)
    return result


def _name_side(dataset: Dataset, origin: Origin) -> None:
    """The side of the image, and of the anatomic region of every segment."""
    scan = origin.acquisition.scan
    set_image_laterality(dataset, scan)
    for segment in dataset.SegmentSequence:
        # An item that stands for the background of a label map has no region.
        for region in segment.get("AnatomicRegionSequence") or ():
            add_side(region, scan)


def _check_size(origin: Origin) -> None:
    """Raise ReportError for images that the encoder of JPEG 2000 does not take."""
    _, rows, columns = origin.acquisition.scan.shape
    if origin.form.encoding == "j2k" and min(rows, columns) < LEAST_J2K_PIXELS:
        raise ReportError(
            f"study {origin.study_uid}: {rows} x {columns} pixels are too few for JPEG 2000; give the "
            'destinations of encoding = "j2k" another one'
        )


def describe_geometry(origin: Origin) -> str:
    """Where the geometry came from, in at most 64 characters."""
    geometry = origin.acquisition.scan.geometry
    return (
        f"in-plane {geometry.in_plane}, step {geometry.frame_step}, "
        f"orientation {geometry.orientation}"
    )


def _knows_step(origin: Origin) -> bool:
    return origin.acquisition.scan.geometry.frame_step_known


def _label(origin: Origin, segment: Segment) -> str:
    """The name; with the doubt about the volume, as viewers show names and no content description."""
    if _knows_step(origin):
        return segment.label[:64]
    return f"{segment.label[: 64 - len(NOT_TO_SCALE)]}{NOT_TO_SCALE}"


def _describe(origin: Origin, segment: Segment) -> hd.seg.SegmentDescription:
    run = origin.findings.run
    identifier, uid = origin.tracking(segment.number)
    return hd.seg.SegmentDescription(
        segment.number,
        _label(origin, segment),
        concept(segment.category),
        concept(segment.type),
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        hd.AlgorithmIdentificationSequence(
            name=run.analysis[:64],
            version=run.version[:64],
            family=codes.DCM.ArtificialIntelligence,
            source=MANUFACTURER,
            parameters=dict(
                item.split("=", 1)
                for item in [
                    f"weights_sha256={run.weights_sha256}",
                    *describe_settings(run.settings),
                ]
            ),
        ),
        tracking_uid=uid,
        tracking_id=identifier,
        anatomic_regions=[concept(segment.site)],
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )
