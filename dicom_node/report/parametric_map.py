"""Parametric Map: attribution or shear-wave speed as 32-bit floats over the source frames (PS3.3 A.75)."""

from dataclasses import dataclass

import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as Concept

from dicom_node.report.concepts import NO_UNITS, concept, declare_schemes
from dicom_node.report.equipment import MANUFACTURER
from dicom_node.report.laterality import LETTERS, UNPAIRED, add_side, side_of
from dicom_node.report.origin import Origin
from dicom_node.report.proxy import proxy_source
from dicom_node.report.references import refer_to_sources
from dicom_node.report.segmentation import describe_geometry

SPEED, SPEED_VALID = "shear-wave-speed", "shear-wave-valid"


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """What one map shows: ``values`` float32 (slice, row, column) from 0 to ``top``, in ``unit``."""

    concept: Concept
    method: str
    unit: Concept
    label: str
    values: NDArray[np.float32]
    top: float


def is_placed(origin: Origin) -> bool:
    """Whether all of the geometry was measured; viewers cannot lay a map over anything less."""
    geometry = origin.acquisition.scan.geometry
    return {geometry.in_plane, geometry.frame_step, geometry.orientation} == {"measured"}


def quantities(origin: Origin) -> tuple[Quantity, ...]:
    """What a study's maps show: each attribution, then the shear-wave speed where it was measured."""
    shown = [
        Quantity(
            concept(item.concept),
            item.method,
            NO_UNITS,
            "SALIENCY" if item.concept.value == "130404" else "ATTRIBUTION",
            item.map,
            1.0,
        )
        for item in origin.findings.attributions
    ]
    scan = origin.acquisition.scan
    if SPEED in scan.channels:
        valid = scan.valid & (scan.channel(SPEED_VALID) > 0)
        # m/s is no unit of DICOM's tables (CID 7181).
        values = np.where(valid, scan.channel(SPEED) * np.float32(100.0), np.float32(0.0))
        top = float(values.max()) or 1.0
        unit = codes.UCUM.CentimeterPerSecond
        how = "the scanner, 0 where it gave no valid value"
        shown.append(Quantity(codes.DCM.ShearWaveSpeed, how, unit, "SHEAR_WAVE", values, top))
    return tuple(shown)


def build_map(origin: Origin, number: int) -> hd.pm.ParametricMap:
    """One map of an outcome, frames in ascending order along the slice normal."""
    shown = quantities(origin)[number]
    result = hd.pm.ParametricMap(
        source_images=[proxy_source(origin)],
        pixel_array=shown.values,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(shown)],
        voi_lut_transformations=[
            hd.VOILUTTransformation(
                window_center=shown.top / 2,
                window_width=shown.top,
                # The whole range, also where it is narrower than 1 (PS3.3 C.11.2.1.3.2).
                voi_lut_function=hd.VOILUTFunctionValues.LINEAR_EXACT,
            )
        ],
        content_label=shown.label,
        content_creator_name=MANUFACTURER,
        content_description=describe_geometry(origin),
        series_description=f"{origin.name} {shown.concept.meaning}, research only"[:64],
        **origin.constructor(f"map {number}", 9000 + 10 * origin.number + 3 + number),
    )
    refer_to_sources(result, origin)
    ascend(result)
    _name_anatomy(result, origin)
    origin.finish(result)
    declare_schemes(result)
    return result


def _mapping(shown: Quantity) -> hd.pm.RealWorldValueMapping:
    return hd.pm.RealWorldValueMapping(
        lut_label=shown.concept.meaning[:16],
        lut_explanation=f"{shown.concept.meaning} by {shown.method}"[:64],
        unit=shown.unit,
        value_range=(0.0, shown.top),
        slope=1.0,
        intercept=0.0,
        quantity_definition=shown.concept,
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
    """Body part, frame anatomy (PS3.3 C.7.6.16.2.8), side: readers refuse a map without the first two."""
    scan = origin.acquisition.scan
    dataset.BodyPartExamined = "LSPINE"
    anatomy = Dataset()
    anatomy.FrameLaterality = LETTERS.get(side_of(scan), UNPAIRED)
    site = origin.findings.segmentation.segments[0].site
    region = CodedConcept.from_code(concept(site))
    add_side(region, scan)
    anatomy.AnatomicRegionSequence = [region]
    dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
