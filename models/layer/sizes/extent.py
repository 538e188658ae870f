"""Extent: each layer's columns and thickness in one scan, and the calipers, thicknesses and volumes of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import codes
from models.findings import Code, Measurement
from models.layer import concepts
from models.layer.labels import (
    DEEP_FASCIA,
    DEEP_FAT,
    DERMIS,
    MUSCLE,
    SEGMENTS,
    SUPERFICIAL_FASCIA,
    SUPERFICIAL_FAT,
)
from models.scan import Scan
from models.steps.measure import (
    THICKNESS,
    Columns,
    Ground,
    Plane,
    Statistics,
    caliper,
    caliper_slice,
    columns_of,
    heights_mm,
    statistics,
    visible_depth_mm,
    volume_mm3,
)

TRUNCATED_SHARE = 0.2  # of the muscle's columns: the rest would be the thin part of it
REPORTED_COVERAGE = 0.05  # a thickness of fewer columns would be that of a few pixels
ALIKE = ((SUPERFICIAL_FAT, DEEP_FAT), (SUPERFICIAL_FASCIA, DEEP_FASCIA))


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """One layer's extent: its columns, a number for each measured one, and whether the image cuts it off."""

    layer: int
    columns: Columns
    plane: Plane
    statistics: Statistics | None
    cut: bool

    @property
    def label(self) -> str:
        return SEGMENTS[self.layer - 1].label

    @property
    def too_few(self) -> bool:
        """Whether what was measured is a handful of columns."""
        return not self.statistics or self.statistics.coverage < REPORTED_COVERAGE


@dataclass(frozen=True, slots=True, eq=False)
class Sizes:
    """All layers that are there, the ground they were measured on, and the definition of thickness."""

    ground: Ground
    layers: tuple[Size, ...]
    method: str

    @property
    def tissue(self) -> NDArray[np.bool_]:
        """Columns (slice, column) that hold any layer."""
        return np.asarray(self.ground.labelmap.any(1))

    def mean_thickness_mm(self) -> NDArray[np.float32]:
        """One number per layer, NaN for a layer that is absent or cut off."""
        result = np.full(len(SEGMENTS), np.nan, np.float32)
        for size in self.layers:
            if size.statistics and not size.cut:
                result[size.layer - 1] = size.statistics.mean
        return result

    def column_height_mm(self, layer: int) -> float:
        """T1, for audit: mean height of the complete columns; times their area it is their volume."""
        (size,) = (size for size in self.layers if size.layer == layer)
        heights = heights_mm(self.ground, size.columns)[size.columns.complete]
        return float(heights.mean()) if heights.size else float("nan")


def measure(scan: Scan, labelmap: NDArray[np.uint8], method: str = "T2") -> Sizes:
    """Thickness of each layer that has voxels; of a muscle that the image cuts off, the visible depth.

    ``method`` is a key of ``steps.measure.THICKNESS``. The dermis may begin in the first row of the image:
    with the probe on the skin, and no gel between, that row is the skin.
    """
    step, row, column = scan.spacing_mm
    known = step if scan.geometry.frame_step_known else None
    ground = Ground(labelmap, scan.valid, (known, row, column), DERMIS, ALIKE)
    tissue = np.asarray(labelmap.any(1))
    sizes = []
    for layer in ground.found:
        if layer == 0:
            continue
        columns = columns_of(ground, layer)
        cut = layer == MUSCLE and columns.cut.sum() > TRUNCATED_SHARE * columns.present.sum()
        plane = visible_depth_mm(ground, columns) if cut else THICKNESS[method](ground, columns)
        sizes.append(Size(layer, columns, plane, statistics(plane, tissue), bool(cut)))
    return Sizes(ground, tuple(sizes), method)


def extent_measurements(scan: Scan, sizes: Sizes) -> Iterator[Measurement]:
    """Caliper, thickness, coverage and volume of each layer."""
    measured = [size.plane for size in sizes.layers if size.statistics]
    frame = caliper_slice(measured)
    for size in sizes.layers:
        if size.statistics and frame is not None and not size.too_few:
            yield from _caliper(size, size.statistics, frame, sizes.ground)
            yield from _thickness(size, size.statistics, sizes)
        if scan.geometry.frame_step_known:
            how = concepts.VISIBLE_PART if size.cut else concepts.VOXEL_COUNT
            cm3 = volume_mm3(sizes.ground.labelmap == size.layer, scan.affine) / 1000
            yield Measurement(codes.VOLUME, cm3, codes.CM3, size.layer, how)


def _caliper(size: Size, found: Statistics, frame: int, ground: Ground) -> Iterator[Measurement]:
    line = caliper(size.columns, size.plane, found.mean, frame, ground.labelmap.shape[1])
    if line is not None:
        length_mm = (line[1][1] - line[0][1]) * ground.spacing_mm[1]
        yield Measurement(
            _quantity(size), length_mm, codes.MM, size.layer, concepts.CALIPER, line=line
        )


def _thickness(size: Size, found: Statistics, sizes: Sizes) -> Iterator[Measurement]:
    how = concepts.ALONG_COLUMNS if size.cut else _method(sizes)
    for derivation, value in (
        (codes.MEAN, found.mean),
        (codes.STANDARD_DEVIATION, found.sd),
        (codes.MINIMUM, found.minimum),
        (codes.MAXIMUM, found.maximum),
        (codes.MEDIAN, found.median),
        (codes.PERCENTILE_5, found.p5),
        (codes.PERCENTILE_95, found.p95),
    ):
        yield Measurement(_quantity(size), value, codes.MM, size.layer, how, derivation)
    yield Measurement(
        concepts.COVERAGE, 100 * found.coverage, codes.PERCENT, size.layer, concepts.ALONG_COLUMNS
    )


def _method(sizes: Sizes) -> Code:
    if sizes.method == "T2" and sizes.ground.spacing_mm[0] is None:
        return concepts.TILT_IN_PLANE
    return concepts.THICKNESS[sizes.method]


def _quantity(size: Size) -> Code:
    return concepts.VISIBLE_DEPTH if size.cut else codes.THICKNESS
