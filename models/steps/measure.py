"""measure: thickness, depth, volume, calipers and means of labeled layers.

Thickness is T2: the height of the layer in a column times the cosine of the tilt of its middle surface, on
complete columns only. The tilt is the slope of a plane fitted over 3 mm (a first-order Savitzky-Golay filter
that leaves out what was not measured). Rows run with depth, away from the probe.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.findings import Voxel

Plane = NDArray[np.float64]
"""One number per column: (slice, column), NaN where there is none."""

WINDOW_MM = 3.0  # long enough to average the steps of voxels, short beside the waves of a fascia


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What is measured on: labels and validity (slice, row, column), and how far apart voxels are.

    ``spacing_mm`` is (slice, row, column); slice is None when the distance of frames is not known, and the
    tilt then is that within the image alone. ``found`` are the labels that have voxels, rising.
    """

    labelmap: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    spacing_mm: tuple[float | None, float, float]
    found: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        labels = range(int(self.labelmap.max()) + 1)
        found = tuple(label for label in labels if (self.labelmap == label).any())
        object.__setattr__(self, "found", found)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One layer, column by column (slice, column): first and last row, and whether it is all there.

    A complete column holds the layer as one run between its expected neighbors, inside the image. Expected
    are the nearest layers that the scan has at all, above the first and below the last label 0.
    """

    top: NDArray[np.intp]
    bottom: NDArray[np.intp]
    present: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    cut: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean, standard deviation, minimum, maximum and median over columns, and their share of all tissue."""

    mean: float
    sd: float
    minimum: float
    maximum: float
    median: float
    coverage: float


def columns_of(ground: Ground, layer: int) -> Columns:
    """Where a layer begins and ends in each column; rows are meaningless where it is not present."""
    mask = ground.labelmap == layer
    rows = mask.shape[1]
    count = mask.sum(1)
    present = count > 0
    top, bottom = mask.argmax(1), rows - 1 - mask[:, ::-1].argmax(1)
    above = _look(ground, top - 1)
    below = _look(ground, bottom + 1)
    shallower = max((n for n in ground.found if n < layer), default=0)
    deeper = min((n for n in ground.found if n > layer), default=0)
    one_run = present & (count == bottom - top + 1)
    complete = one_run & (above == shallower) & (below == deeper)
    return Columns(top, bottom, present, complete, present & (below < 0))


def heights_mm(ground: Ground, columns: Columns) -> Plane:
    """T1: height of complete columns along the rows; its mean times the area is the volume."""
    height = (columns.bottom - columns.top + 1) * ground.spacing_mm[1]
    return np.where(columns.complete, height, np.nan)


def thickness_mm(ground: Ground, columns: Columns) -> Plane:
    """T2: height times the cosine of the tilt, on complete columns whose tilt can be told."""
    middle = (columns.top + columns.bottom) / 2 * ground.spacing_mm[1]
    steps = ground.spacing_mm[0], ground.spacing_mm[2]
    slopes = _slopes(middle, columns.complete, steps)
    return heights_mm(ground, columns) / np.sqrt(1 + slopes)


def visible_depth_mm(ground: Ground, columns: Columns) -> Plane:
    """Height along the rows of whatever the image shows of a layer that it cuts off."""
    height = (columns.bottom - columns.top + 1) * ground.spacing_mm[1]
    return np.where(columns.present, height, np.nan)


def statistics(plane: Plane, tissue: NDArray[np.bool_]) -> Statistics | None:
    """Statistics over the columns that have a number, or None when there are none."""
    values = plane[np.isfinite(plane)]
    if values.size == 0:
        return None
    return Statistics(
        float(values.mean()),
        float(values.std()),
        float(values.min()),
        float(values.max()),
        float(np.median(values)),
        float(values.size / max(1, int(np.count_nonzero(tissue)))),
    )


def volume_mm3(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    """Voxels times the determinant of the affine: right for oblique and sheared grids too."""
    return float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])))


def caliper_slice(planes: list[Plane]) -> int | None:
    """The slice that shows the layers best together: most measured columns, then nearest to the middle."""
    if not planes:
        return None
    counts = np.array([np.isfinite(plane).sum(1) for plane in planes], float)
    share = (counts / np.maximum(counts.max(1, keepdims=True), 1)).sum(0)
    best = np.flatnonzero(share == share.max())
    return int(best[np.argmin(abs(best - (len(share) - 1) / 2))])


def caliper(
    columns: Columns, plane: Plane, typical_mm: float, prefer: int, rows: int
) -> tuple[Voxel, Voxel] | None:
    """Ends of a caliper from upper to lower interface in one column, where ``plane`` is nearest to typical.

    In the preferred slice or, where that shows nothing, in the slice that shows most. The ends stay half a
    pixel inside the image, as viewers ask for.
    """
    shown = np.isfinite(plane)
    if not shown.any():
        return None
    frame = prefer if shown[prefer].any() else int(shown.sum(1).argmax())
    distance = abs(plane[frame] - typical_mm)
    nearest = np.flatnonzero(distance <= np.nanmin(distance) + 1e-9)
    column = int(nearest[np.argmin(abs(nearest - (plane.shape[1] - 1) / 2))])
    top = max(columns.top[frame, column] - 0.5, 0.0)
    bottom = min(columns.bottom[frame, column] + 0.5, rows - 1.0)
    if bottom <= top:
        return None
    return (float(frame), float(top), float(column)), (float(frame), float(bottom), float(column))


def eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One voxel less above and below, two less at the sides: bright neighbors bloom sideways."""
    inner = ndimage.minimum_filter1d(mask, 3, axis=1, mode="constant", cval=0)
    result: NDArray[np.bool_] = ndimage.minimum_filter1d(inner, 5, axis=2, mode="constant", cval=0)
    return result


def _look(ground: Ground, row: NDArray[np.intp]) -> NDArray[np.int16]:
    """Label of one voxel per column; -1 outside the image or its valid region."""
    rows = ground.labelmap.shape[1]
    inside = (row >= 0) & (row < rows)
    index = np.clip(row, 0, rows - 1)[:, None]
    label = np.take_along_axis(ground.labelmap, index, 1)[:, 0].astype(np.int16)
    valid = np.take_along_axis(ground.valid, index, 1)[:, 0]
    return np.where(inside & valid, label, np.int16(-1))


def _slopes(height: Plane, known: NDArray[np.bool_], steps: tuple[float | None, float]) -> Plane:
    """|grad h|^2 of a plane fitted to the known heights around each column, NaN where none can be."""
    slice_mm, column_mm = steps
    sizes = (1 if slice_mm is None else _odd(slice_mm), _odd(column_mm))
    x = np.arange(height.shape[0])[:, None] * (slice_mm or 0.0) + np.zeros(height.shape)
    y = np.arange(height.shape[1])[None] * column_mm + np.zeros(height.shape)

    def mean(values: Plane) -> Plane:
        total = ndimage.uniform_filter(np.where(known, values, 0.0), sizes, mode="constant")
        share = ndimage.uniform_filter(known.astype(float), sizes, mode="constant")
        return np.divide(total, share, out=np.zeros_like(total), where=share > 1e-9)

    if not known.any():
        return np.full(height.shape, np.nan)
    h = height - height[known].mean()
    x, y = x - x.mean(), y - y.mean()
    mx, my, mh = mean(x), mean(y), mean(h)
    yy, yh = mean(y * y) - my * my, mean(y * h) - my * mh
    floor = 1e-3 * column_mm**2
    if slice_mm is None:
        return np.divide(yh, yy, out=np.full(h.shape, np.nan), where=yy > floor) ** 2
    xx, xy, xh = mean(x * x) - mx * mx, mean(x * y) - mx * my, mean(x * h) - mx * mh
    det = xx * yy - xy * xy
    good = det > floor * 1e-3 * slice_mm**2
    along_x = np.divide(yy * xh - xy * yh, det, out=np.full(h.shape, np.nan), where=good)
    along_y = np.divide(xx * yh - xy * xh, det, out=np.full(h.shape, np.nan), where=good)
    return along_x**2 + along_y**2


def _odd(step_mm: float) -> int:
    """Columns of a window of about WINDOW_MM, odd and at least three."""
    return 2 * max(1, round(WINDOW_MM / 2 / step_mm)) + 1
