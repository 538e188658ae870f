"""The metadata-only source that highdicom builds on: one multi-frame header, one frame per slice.

highdicom 0.28 refuses ultrasound without patient geometry (its issue 284). Every form of source therefore
becomes the same stand-in: frame i is slice i of the Scan. References to it are replaced afterwards
(``references.py``), so it never leaves the node.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
from pydicom import Dataset
from pydicom.uid import EnhancedUSVolumeStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.report.origin import Origin

IDENTITY_ORIENTATION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""What viewers take when an image has no orientation; a result must lie in its source's plane there."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the slices lie: direction of a row then of a column, upper left voxel centers in mm."""

    orientation: tuple[float, ...]
    positions_mm: tuple[tuple[float, ...], ...]
    spacing_mm: tuple[float, float, float]
    thickness_mm: float


def proxy_source(origin: Origin) -> Dataset:
    """The stand-in header of an acquisition, with functional groups for every slice of its Scan."""
    placement = place(origin)
    proxy = deepcopy(origin.header)
    # Retired and private classes are not in highdicom's tables; this one allows all that is needed.
    proxy.SOPClassUID = EnhancedUSVolumeStorage
    proxy.Modality = origin.acquisition.scan.modality
    proxy.FrameOfReferenceUID = (
        origin.header.get("FrameOfReferenceUID") or origin.identity.frame_of_reference_uid
    )
    proxy.PositionReferenceIndicator = ""
    proxy.NumberOfFrames = len(placement.positions_mm)
    step, row, column = placement.spacing_mm
    measures = Dataset()
    measures.PixelSpacing = _decimals((row, column))
    # highdicom wants both; ``segmentation`` takes them out where nobody measured or declared them.
    measures.SpacingBetweenSlices = format_number_as_ds(step)
    measures.SliceThickness = format_number_as_ds(placement.thickness_mm)
    plane = Dataset()
    plane.ImageOrientationPatient = _decimals(placement.orientation)
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    proxy.SharedFunctionalGroupsSequence = [shared]
    proxy.PerFrameFunctionalGroupsSequence = [_frame(mm) for mm in placement.positions_mm]
    return proxy


def _frame(position_mm: Sequence[float]) -> Dataset:
    position, frame = Dataset(), Dataset()
    position.ImagePositionPatient = _decimals(position_mm)
    frame.PlanePositionSequence = [position]
    return frame


def _decimals(values: Sequence[float]) -> list[str]:
    # Adding zero turns -0.0 into 0.0.
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def place(origin: Origin) -> Placement:
    """The slices' placement: the source's own in the patient, else the plain one.

    A source with volume geometry only (PS3.3 C.8.24.2, APEX) keeps the places of its slices relative to each
    other, seen from the first one. An orientation that the site declares is not used: readers lay a source
    without orientation in the patient in the plain plane, and a mask must lie on it there.
    """
    scan = origin.acquisition.scan
    thickness_mm = _own_thickness_mm(origin) or scan.spacing_mm[0]
    for frame in ("Patient", "Volume"):
        own = [_own_plane(origin, position, frame) for position in range(scan.shape[0])]
        planes = [plane for plane in own if plane is not None]
        positions = tuple(position for _, position in planes)
        # Positions without a frame of reference are not checked by assemble, and can all be the same.
        if len(set(positions)) == len(own) and all(
            np.allclose(orientation, planes[0][0], atol=1e-4) for orientation, _ in planes
        ):
            placement = Placement(planes[0][0], positions, scan.spacing_mm, thickness_mm)
            return placement if frame == "Patient" else _seen_from_the_first(placement)
    step_mm = scan.spacing_mm[0]
    positions = tuple((0.0, 0.0, number * step_mm) for number in range(scan.shape[0]))
    return Placement(IDENTITY_ORIENTATION, positions, scan.spacing_mm, thickness_mm)


def _seen_from_the_first(placement: Placement) -> Placement:
    """The same slices turned and moved together, so that the first lies in the plain plane at the origin."""
    row, column = np.reshape(placement.orientation, (2, 3))
    axes = np.array([row, column, np.cross(row, column)])
    positions = np.array(placement.positions_mm)
    # Rounded to a millionth of a millimeter, as a turn leaves crumbs that are no offset.
    moved = ((positions - positions[0]) @ axes.T).round(6)
    return replace(
        placement,
        orientation=IDENTITY_ORIENTATION,
        positions_mm=tuple(tuple(map(float, place_mm)) for place_mm in moved),
    )


def _own_plane(
    origin: Origin, position: int, frame: str
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Orientation and position that the source gives the frame of one slice, if it gives both."""
    kind = "" if frame == "Patient" else frame
    orientation = own_value(
        origin, position, f"PlaneOrientation{kind}Sequence", f"ImageOrientation{frame}"
    )
    place_mm = own_value(origin, position, f"PlanePosition{kind}Sequence", f"ImagePosition{frame}")
    if orientation is None or place_mm is None or len(orientation) != 6 or len(place_mm) != 3:
        return None
    return orientation, place_mm


def has_spacing(origin: Origin) -> bool:
    """Whether the source has Pixel Spacing, and not only the calibration of ultrasound regions."""
    own = own_value(origin, 0, "PixelMeasuresSequence", "PixelSpacing")
    return own is not None or "PixelSpacing" in origin.raw[0][0]


def _own_thickness_mm(origin: Origin) -> float:
    value = own_value(origin, 0, "PixelMeasuresSequence", "SliceThickness")
    return value[0] if value else 0.0


def own_value(
    origin: Origin, position: int, sequence: str, keyword: str
) -> tuple[float, ...] | None:
    """Numbers that the source gives the frame of one slice: per frame, shared, or at the top level."""
    frame = origin.acquisition.sources[0].frames[position]
    dataset = origin.raw[0][frame.instance]
    groups = []
    if frame.number is not None:
        shared = dataset.get("SharedFunctionalGroupsSequence") or []
        per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
        own = [per_frame[frame.number - 1]] if frame.number <= len(per_frame) else []
        groups = [item for group in (*own, *shared) for item in group.get(sequence) or []]
    # At the top level also where frames are numbered: scanners write a Number of Frames of 1.
    for group in (*groups, dataset):
        value = group.get(keyword)
        if value not in (None, ""):
            many = value if hasattr(value, "__len__") and not isinstance(value, str) else [value]
            try:
                return tuple(float(number) for number in many)
            except ValueError:  # a malformed number is none, as for those who placed the slices
                return None
    return None
