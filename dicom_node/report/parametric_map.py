"""Parametric Map: the attribution of a decision as 32-bit floats over the source frames (PS3.3 A.75)."""

import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset

from dicom_node.report.concepts import NO_UNITS, concept, declare_schemes
from dicom_node.report.equipment import pin_times
from dicom_node.report.origin import Origin
from dicom_node.report.proxy import proxy_source
from dicom_node.report.references import refer_to_sources
from dicom_node.report.segmentation import describe_geometry
from models.findings import Attribution


def is_placed(origin: Origin) -> bool:
    """Whether all of the geometry was measured; viewers cannot lay a map over anything less."""
    geometry = origin.acquisition.scan.geometry
    return {geometry.in_plane, geometry.frame_step, geometry.orientation} == {"measured"}


def build_map(origin: Origin, number: int) -> hd.pm.ParametricMap:
    """One attribution map of an outcome, frames in ascending order along the slice normal."""
    attribution = origin.findings.attributions[number]
    result = hd.pm.ParametricMap(
        source_images=[proxy_source(origin)],
        pixel_array=attribution.map,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(attribution)],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="SALIENCY" if attribution.concept.value == "130404" else "ATTRIBUTION",
        content_description=describe_geometry(origin),
        series_description=f"{origin.name} {attribution.concept.meaning}, research only"[:64],
        **origin.constructor(f"map {number}", 9000 + 10 * origin.number + 3 + number),
    )
    refer_to_sources(result, origin)
    ascend(result)
    _name_anatomy(result, origin)
    pin_times(result, origin.identity)
    declare_schemes(result)
    return result


def _mapping(attribution: Attribution) -> hd.pm.RealWorldValueMapping:
    return hd.pm.RealWorldValueMapping(
        lut_label=attribution.concept.meaning[:16],
        lut_explanation=f"{attribution.concept.meaning} by {attribution.method}"[:64],
        unit=NO_UNITS,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept(attribution.concept),
    )


def ascend(dataset: Dataset) -> None:
    """Sort the frames by their position along row × column.

    highdicom writes them descending; a viewer that lays a map over its source by frame index then shows it
    mirrored along the sweep.
    """
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    along_mm = [
        float(np.dot(normal, [float(mm) for mm in g.PlanePositionSequence[0].ImagePositionPatient]))
        for g in groups
    ]
    order = np.argsort(along_mm, kind="stable")
    frames = np.frombuffer(dataset.FloatPixelData, dtype="<f4").reshape(len(groups), -1)
    dataset.FloatPixelData = np.ascontiguousarray(frames[order]).tobytes()
    dataset.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    for rank, group in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        # A map of one quantity has one dimension: position.
        group.FrameContentSequence[0].DimensionIndexValues = [rank]


def _name_anatomy(dataset: Dataset, origin: Origin) -> None:
    """Body part and frame anatomy (PS3.3 C.7.6.16.2.8): readers refuse a map without them."""
    dataset.BodyPartExamined = "LSPINE"
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    site = origin.findings.segmentation.segments[0].site
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(concept(site))]
    dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
