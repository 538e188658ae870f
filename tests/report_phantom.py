"""Small studies with known findings for the tests of report: no network, no analysis, any source form."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from dicom_node.assemble import assemble_study
from dicom_node.scanner import Style, write_study
from dicom_node.study import Outcome, StoredInstance, Study
from models import codes
from models.findings import (
    Attribution,
    Classification,
    Code,
    Findings,
    Flag,
    Measurement,
    Run,
    Segment,
    Segmentation,
)
from models.scan import Geometry, Scan

SHAPE = (7, 37, 33)  # odd sizes, so that packed bits straddle the bytes
SPACING_MM = (0.5, 0.25, 0.25)
TYPES = (
    ("Dermis", codes.SKIN, (230, 159, 0)),
    ("Superficial fat", codes.FAT, (240, 228, 66)),
    ("Superficial fascial membrane", codes.FASCIAL_LAYER, (0, 158, 115)),
    ("Deep fat", codes.FAT, (86, 180, 233)),
    ("Deep fascial membrane", codes.FASCIAL_LAYER, (204, 61, 163)),
    ("Muscle", codes.ERECTOR_SPINAE, (213, 62, 0)),
)
SEGMENTS = tuple(
    Segment(number, label, codes.TISSUE, kind, codes.LUMBAR_REGION, color)
    for number, (label, kind, color) in enumerate(TYPES, start=1)
)
PAIN = Code("pain", "99LAYER", "Myofascial pain")
NO_PAIN = Code("no-pain", "99LAYER", "No myofascial pain")
PAIN_CLASS = Code("pain-class", "99LAYER", "Myofascial pain classification")
SHAPLEY = Code("shapley", "99LAYER", "Shapley value over layers")
CONTRIBUTION = Code("contribution", "99LAYER", "Contribution to decision")
LOWER = Code("P2.5", "99LAYER", "2.5th percentile")
UPPER = Code("P97.5", "99LAYER", "97.5th percentile")
MAP = Code("MAP-P99.5", "99LAYER", "Mean of a map")
NULL = Code("MAP-NULL", "99LAYER", "Mean of a map over all layers")
DIGEST = "a" * 64


def make_labelmap(present: tuple[int, ...] = (1, 2, 3, 4, 5, 6)) -> np.ndarray:
    """Sloping layers on six of seven slices, different under every flip and exchange of axes."""
    slices, rows, columns = np.indices(SHAPE)
    depth = rows - 2 - 0.8 * slices - 0.12 * columns
    numbers = np.digitize(depth, [0, 3, 8, 10, 15, 17, 26])
    numbers[(numbers == 7) | (columns > 26)] = 0
    numbers[5] = 0
    return np.where(np.isin(numbers, present), numbers, 0).astype(np.uint8)


def make_scan(shear_wave: bool = False, spacing_mm: tuple[float, ...] = SPACING_MM) -> Scan:
    """An oblique scan: slices go down the body, columns to the left, rows away from the skin."""
    random = np.random.default_rng(3)
    gray = np.round(random.uniform(10, 200, SHAPE)).astype(np.float32)
    channels, units, voxels = ["b-mode"], ["1"], [gray]
    if shear_wave:
        channels += ["shear-wave-speed", "shear-wave-valid"]
        units += ["m/s", "1"]
        voxels += [np.full(SHAPE, 2.5, np.float32), np.ones(SHAPE, np.float32)]
    valid = np.zeros(SHAPE, dtype=bool)
    valid[:, 1:-1, 2:-1] = True
    affine = np.eye(4)
    affine[:3, 0] = np.array([0.0, 0.0, -1.0]) * spacing_mm[0]
    affine[:3, 1] = np.array([0.0, -1.0, 0.0]) * spacing_mm[1]
    affine[:3, 2] = np.array([1.0, 0.0, 0.0]) * spacing_mm[2]
    affine[:3, 3] = (-12.5, 80.25, 34.0)
    geometry = Geometry("measured", "measured", "measured")
    return Scan(np.stack(voxels), tuple(channels), tuple(units), valid, affine, geometry)


def make_findings(labelmap: np.ndarray, spacing_mm: tuple[float, ...] = SPACING_MM) -> Findings:
    """Findings with every kind of measurement, for the segments that the labelmap has."""
    measurements: list[Measurement] = []
    for number in sorted(set(np.unique(labelmap)) - {0}):
        measurements += _measure(labelmap, int(number), spacing_mm)
    measurements.append(Measurement(codes.ECHOGENICITY, 0.41, codes.NO_UNITS))
    measurements.append(Measurement(codes.SALIENCY, 13.7, codes.PERCENT, method=NULL))
    saliency = (labelmap / 10 + np.arange(SHAPE[0])[:, None, None] / 100).astype(np.float32)
    return Findings(
        Segmentation(SEGMENTS, labelmap.copy()),
        (Classification(PAIN_CLASS, ((PAIN, 0.87), (NO_PAIN, 0.13)), 1.9),),
        (Attribution(codes.SALIENCY, "expected gradients", "Myofascial pain", saliency),),
        tuple(measurements),
        (
            Flag(
                Code("low-quality", "99LAYER", "Low image quality"), "The deep fat is out of focus."
            ),
        ),
        Run("layer", "0.1.0", DIGEST, {"threshold": "0.5"}, {"torch": "2"}, "cuda", 12.5),
    )


def _measure(labelmap: np.ndarray, number: int, spacing_mm: tuple[float, ...]) -> list[Measurement]:
    position = (number + 1) % 5
    mask = labelmap[position] == number
    column = int(np.flatnonzero(mask.any(axis=0))[4])
    rows = np.flatnonzero(mask[:, column])
    top, bottom = rows[0] - 0.5, rows[-1] + 0.5
    line = ((float(position), top, float(column)), (float(position), bottom, float(column)))
    value, mm = (bottom - top) * spacing_mm[1], codes.MM
    return [
        Measurement(codes.THICKNESS, value, mm, number, line=line),
        Measurement(codes.THICKNESS, value * 1.1, mm, number, derivation=codes.MEAN),
        Measurement(codes.THICKNESS, 0.2, mm, number, derivation=codes.STANDARD_DEVIATION),
        Measurement(codes.THICKNESS, value * 0.8, mm, number, derivation=codes.MINIMUM),
        Measurement(codes.THICKNESS, value * 1.3, mm, number, derivation=codes.MAXIMUM),
        Measurement(codes.THICKNESS, value, mm, number, derivation=codes.MEDIAN),
        Measurement(codes.VOLUME, float(mask.sum()) / 100, codes.CM3, number),
        Measurement(codes.SALIENCY, 10.0 + number, codes.PERCENT, number, MAP, codes.MEAN),
        Measurement(CONTRIBUTION, 20.0 - 7 * number, codes.PERCENT, number, method=SHAPLEY),
        Measurement(CONTRIBUTION, 18.5 - 7 * number, codes.PERCENT, number, SHAPLEY, LOWER),
        Measurement(CONTRIBUTION, 23.5 - 7 * number, codes.PERCENT, number, SHAPLEY, UPPER),
        Measurement(codes.SHEAR_WAVE_SPEED, 250.0, codes.CM_PER_S, number, derivation=codes.MEAN),
    ]


Edit = Callable[[Dataset], None]


def write_source(folder: Path, scan: Scan, style: Style, edit: Edit | None = None) -> Study:
    """The stand-in scanner writes the scan, ``edit`` changes each file, and assemble reads them."""
    instances = []
    for path in write_study(scan, folder, style):
        if edit:
            dataset = dcmread(path)
            edit(dataset)
            dataset.save_as(path)
        header = dcmread(path, stop_before_pixels=True)
        instances.append(StoredInstance(header.SOPInstanceUID, header.SOPClassUID, path))
    return assemble_study(header.StudyInstanceUID, 1, instances, ())


@dataclass(frozen=True)
class Request:
    """What a case shall be like; the default is an Enhanced US Volume with all six layers."""

    style: Style = field(default_factory=Style)
    shear_wave: bool = False
    spacing_mm: tuple[float, ...] = SPACING_MM
    present: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    edit: Edit | None = None


def make_case(folder: Path, request: Request | None = None) -> tuple[Study, tuple[Outcome, ...]]:
    """A study in one style and the outcome of one analysis."""
    request = request or Request()
    scan = make_scan(request.shear_wave, request.spacing_mm)
    study = write_source(folder, scan, request.style, request.edit)
    findings = make_findings(make_labelmap(request.present), request.spacing_mm)
    return study, (Outcome(0, "layer", findings),)
