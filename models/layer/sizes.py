"""The layers' measurements: what the arrays of ``steps.measure`` mean, in codes and units."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import codes
from models.findings import Code, Flag, Measurement
from models.layer import concepts
from models.layer.labels import MUSCLE, PLAUSIBLE_MM, SEGMENTS
from models.scan import Scan
from models.steps.measure import (
    Columns,
    Ground,
    Plane,
    Statistics,
    caliper,
    caliper_slice,
    columns_of,
    eroded,
    statistics,
    thickness_mm,
    visible_depth_mm,
    volume_mm3,
)

TRUNCATED_SHARE = 0.5  # of the muscle's columns: then its thickness is that of the image
LEAST_COVERAGE = 0.8
REPORTED_COVERAGE = 0.05  # a thickness of fewer columns would be that of a few pixels
MOST_REORDERED = 0.02  # of voxels: more, and the network was at a loss somewhere
LEAST_SHEAR_VOXELS = 50
SHEAR_RESOLUTION_MM = 3.0  # thinner layers read wrong: Sci Rep 2023;13:815


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """One layer's extent: its columns, a number for each measured one, and whether the image cuts it off."""

    layer: int
    columns: Columns
    plane: Plane
    statistics: Statistics | None
    cut: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sizes:
    """All layers that are there, and the ground they were measured on."""

    ground: Ground
    layers: tuple[Size, ...]

    def mean_thickness_mm(self) -> NDArray[np.float32]:
        """One number per layer, NaN for a layer that is absent or cut off."""
        result = np.full(len(SEGMENTS), np.nan, np.float32)
        for size in self.layers:
            if size.statistics and not size.cut:
                result[size.layer - 1] = size.statistics.mean
        return result


def measure(scan: Scan, labelmap: NDArray[np.uint8]) -> Sizes:
    """Thickness of each layer that has voxels; of a muscle that the image cuts off, the visible depth."""
    step, row, column = scan.spacing_mm
    known = step if scan.geometry.frame_step_known else None
    ground = Ground(labelmap, scan.valid, (known, row, column))
    tissue = labelmap.max(1) > 0
    sizes = []
    for layer in ground.found:
        if layer == 0:
            continue
        columns = columns_of(ground, layer)
        cut = layer == MUSCLE and columns.cut.sum() > TRUNCATED_SHARE * columns.present.sum()
        plane = visible_depth_mm(ground, columns) if cut else thickness_mm(ground, columns)
        sizes.append(Size(layer, columns, plane, statistics(plane, tissue), bool(cut)))
    return Sizes(ground, tuple(sizes))


def size_measurements(scan: Scan, sizes: Sizes) -> Iterator[Measurement]:
    """Caliper, thickness, coverage, volume, echogenicity and shear-wave speed of each layer."""
    measured = [size.plane for size in sizes.layers if size.statistics]
    frame = caliper_slice(measured)
    for size in sizes.layers:
        if size.statistics and frame is not None and not _too_few(size):
            yield from _caliper(size, size.statistics, frame, sizes.ground)
            yield from _thickness(size, size.statistics, sizes.ground)
        mask = sizes.ground.labelmap == size.layer
        if scan.geometry.frame_step_known:
            how = concepts.VISIBLE_PART if size.cut else concepts.VOXEL_COUNT
            cm3 = volume_mm3(mask, scan.affine) / 1000
            yield Measurement(codes.VOLUME, cm3, codes.CM3, size.layer, how)
        yield from _means(scan, size.layer, mask)


def size_flags(scan: Scan, sizes: Sizes, reordered: float) -> Iterator[Flag]:
    """Reasons to distrust the sizes."""
    missing = [s.label for s in SEGMENTS if s.number not in sizes.ground.found]
    if missing:
        yield Flag(concepts.MISSING, f"Not found: {_list(missing)}.")
    thin = [
        _label(s)
        for s in sizes.layers
        if not s.statistics or s.statistics.coverage < LEAST_COVERAGE
    ]
    if thin:
        yield Flag(
            concepts.THIN_COVERAGE,
            f"Measured in less than {LEAST_COVERAGE:.0%} of the columns: {_list(thin)}.",
        )
    few = [_label(size) for size in sizes.layers if _too_few(size)]
    if few:
        yield Flag(
            concepts.TOO_FEW,
            f"Seen whole in less than {REPORTED_COVERAGE:.0%} of the columns, so no thickness: {_list(few)}.",
        )
    if reordered > MOST_REORDERED:
        yield Flag(
            concepts.ORDER, f"{reordered:.0%} of the voxels were relabeled to put layers in order."
        )
    if any(size.cut for size in sizes.layers):
        yield Flag(
            concepts.TRUNCATED,
            "The image cuts the muscle off: its visible depth is given, not its thickness.",
        )
    odd = [_label(size) for size in sizes.layers if _implausible(size)]
    if odd:
        yield Flag(concepts.IMPLAUSIBLE, f"Thickness outside plausible limits: {_list(odd)}.")
    yield from _geometry_flags(scan)


def _geometry_flags(scan: Scan) -> Iterator[Flag]:
    if not scan.geometry.frame_step_known:
        yield Flag(
            concepts.FRAME_STEP,
            "The distance of frames is not known: no volumes, and tilt is corrected within the image only.",
        )
    states = (scan.geometry.in_plane, scan.geometry.frame_step)
    if "declared" in states:
        yield Flag(
            concepts.DECLARED,
            "A spacing is declared by the site's configuration, not measured by the scanner.",
        )


def source_flags(scan: Scan) -> Iterator[Flag]:
    """What those who put the scan together had to leave out, or noticed."""
    if reason := scan.facts.get("shear_wave_left_out"):
        yield Flag(concepts.SHEAR_LEFT_OUT, f"Only the B-mode was analyzed; shear wave: {reason}.")
    if note := scan.facts.get("geometry_notes"):
        yield Flag(concepts.GEOMETRY_NOTE, f"Geometry: {note}.")
    if scan.facts.get("lossy"):
        yield Flag(concepts.LOSSY, "The images were compressed with loss before they arrived.")


def _too_few(size: Size) -> bool:
    """Whether what was measured is a handful of columns, such as a skin that begins above the image."""
    return not size.statistics or size.statistics.coverage < REPORTED_COVERAGE


def _implausible(size: Size) -> bool:
    low, high = PLAUSIBLE_MM[size.layer]
    return bool(size.statistics and not size.cut and not low <= size.statistics.mean <= high)


def _caliper(size: Size, found: Statistics, frame: int, ground: Ground) -> Iterator[Measurement]:
    line = caliper(size.columns, size.plane, found.mean, frame, ground.labelmap.shape[1])
    if line is not None:
        length_mm = (line[1][1] - line[0][1]) * ground.spacing_mm[1]
        yield Measurement(
            _quantity(size), length_mm, codes.MM, size.layer, concepts.CALIPER, line=line
        )


def _thickness(size: Size, found: Statistics, ground: Ground) -> Iterator[Measurement]:
    if size.cut:
        how = concepts.ALONG_COLUMNS
    else:
        how = concepts.TILT_IN_PLANE if ground.spacing_mm[0] is None else concepts.TILT_3D
    for derivation, value in (
        (codes.MEAN, found.mean),
        (codes.STANDARD_DEVIATION, found.sd),
        (codes.MINIMUM, found.minimum),
        (codes.MAXIMUM, found.maximum),
        (codes.MEDIAN, found.median),
    ):
        yield Measurement(_quantity(size), value, codes.MM, size.layer, how, derivation)
    yield Measurement(
        concepts.COVERAGE, 100 * found.coverage, codes.PERCENT, size.layer, concepts.ALONG_COLUMNS
    )


def _means(scan: Scan, layer: int, mask: NDArray[np.bool_]) -> Iterator[Measurement]:
    inner = eroded(mask)
    if inner.any():
        gray = float(scan.channel("b-mode")[inner].mean(dtype=np.float64))
        yield Measurement(
            codes.ECHOGENICITY, gray, codes.NO_UNITS, layer, concepts.INNER_VOXELS, codes.MEAN
        )
    if not has_shear_wave(scan):
        return
    valid = mask & (scan.channel("shear-wave-valid") > 0.5)
    if valid.sum() >= LEAST_SHEAR_VOXELS:
        speed_cm = 100 * float(scan.channel("shear-wave-speed")[valid].mean(dtype=np.float64))
        yield Measurement(
            codes.SHEAR_WAVE_SPEED,
            speed_cm,
            codes.CM_PER_S,
            layer,
            concepts.VALID_VOXELS,
            codes.MEAN,
        )


def has_shear_wave(scan: Scan) -> bool:
    """Does the scan carry shear-wave speed and where it is valid?"""
    return {"shear-wave-speed", "shear-wave-valid"} <= set(scan.channels)


def shear_flags(scan: Scan, sizes: Sizes) -> Iterator[Flag]:
    """Layers too thin for their shear-wave speed."""
    thin = [
        _label(size)
        for size in sizes.layers
        if not size.cut and size.statistics and size.statistics.mean < SHEAR_RESOLUTION_MM
    ]
    if thin and has_shear_wave(scan):
        yield Flag(
            concepts.SHEAR_THIN,
            f"Thinner than shear-wave imaging resolves ({SHEAR_RESOLUTION_MM:g} mm): {_list(thin)}.",
        )


def _quantity(size: Size) -> Code:
    return concepts.VISIBLE_DEPTH if size.cut else codes.THICKNESS


def _label(size: Size) -> str:
    return SEGMENTS[size.layer - 1].label


def _list(labels: list[str]) -> str:
    return ", ".join(labels).lower()
