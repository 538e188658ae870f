"""Thickness: T1 to T6, from the height of a column to the distance of its surfaces.

The default is T2: the height of the layer in a column times the cosine of the tilt of its middle surface, on
complete columns only. The tilt is the slope of a plane fitted over 3 mm (a first-order Savitzky-Golay filter
that leaves out what was not measured). Rows run with depth, away from the probe.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.steps.measure.columns import Columns, Ground, Plane, heights_mm

WINDOW_MM = 3.0  # long enough to average the steps of voxels, short beside the waves of a fascia


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics over columns: percentiles 5 and 95, and ``coverage``, their share of all tissue."""

    mean: float
    sd: float
    minimum: float
    maximum: float
    median: float
    p5: float
    p95: float
    coverage: float


def tilt_corrected_mm(ground: Ground, columns: Columns) -> Plane:
    """T2: height times the cosine of the tilt, on complete columns whose tilt can be told."""
    return heights_mm(ground, columns) / secants(ground, columns)


def volume_over_area_mm(ground: Ground, columns: Columns) -> Plane:
    """T6: volume over the area of the middle surface, one number for all complete columns."""
    secant = secants(ground, columns)
    known = columns.complete & np.isfinite(secant)
    height = heights_mm(ground, columns)[known]
    area = float(secant[known].sum())
    return np.where(known, height.sum() / area if area else np.nan, np.nan)


def secants(ground: Ground, columns: Columns) -> Plane:
    """1 / cosine of the tilt of the middle surface; NaN where it cannot be told."""
    middle = (columns.top + columns.bottom) / 2 * ground.spacing_mm[1]
    steps = ground.spacing_mm[0], ground.spacing_mm[2]
    return np.asarray(np.sqrt(1 + _slopes(middle, columns.complete, steps)))


def statistics(plane: Plane, tissue: NDArray[np.bool_]) -> Statistics | None:
    """Statistics over the columns that have a number, or None when there are none."""
    values = plane[np.isfinite(plane)]
    if values.size == 0:
        return None
    low, middle, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
    return Statistics(
        float(values.mean()),
        float(values.std()),
        float(values.min()),
        float(values.max()),
        middle,
        low,
        high,
        float(values.size / max(1, int(np.count_nonzero(tissue)))),
    )


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
