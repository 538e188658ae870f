"""Voxels: volume, echo intensity and shear-wave speed of one layer's own voxels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SATURATED, FLOOR = 255.0, 0.0  # stored gray levels of 8 bits
SPEED_M_S = (0.5, 10.0)  # outside, no soft tissue: the estimate failed


@dataclass(frozen=True, slots=True)
class Echo:
    """Stored gray levels of a layer; ``variation`` is 100 SD / mean, shares lie in 0 to 1."""

    mean: float
    median: float
    sd: float
    p10: float
    p90: float
    variation: float
    saturated: float
    floor: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Shear-wave speed of a layer: mean, median and interquartile range in m/s.

    ``count`` voxels were valid and between 0.5 and 10 m/s, ``valid_share`` of the layer's.
    """

    mean: float
    median: float
    iqr: float
    valid_share: float
    count: int

    @property
    def spread(self) -> float:
        """Interquartile range over median: how steady the estimate is."""
        return self.iqr / self.median


def volume_mm3(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    """Voxels times the determinant of the affine: right for oblique and sheared grids too."""
    return float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])))


def eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One voxel less above and below, two less at the sides: bright neighbors bloom sideways."""
    inner = ndimage.minimum_filter1d(mask, 3, axis=1, mode="constant", cval=0)
    result: NDArray[np.bool_] = ndimage.minimum_filter1d(inner, 5, axis=2, mode="constant", cval=0)
    return result


def inner_voxels(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], float]:
    """The eroded mask and, where erosion leaves nothing of a thin layer's column, its middle row.

    Columns within two of where the layer ends sideways are left out either way. Also returns the share of
    columns (0 to 1) that kept their middle row only.
    """
    inner = eroded(mask)
    present = mask.any(1)
    wide = ndimage.minimum_filter1d(present, 5, axis=1, mode="constant", cval=0)
    thin = wide & ~inner.any(1)
    if not thin.any():
        return inner, 0.0
    rank = np.cumsum(mask, axis=1)
    middle = mask & (rank == ((rank[:, -1] + 1) // 2)[:, None]) & thin[:, None]
    return inner | middle, float(thin.sum() / max(1, wide.sum()))


def echo_of(gray: NDArray[np.float32], inner: NDArray[np.bool_]) -> Echo | None:
    """Statistics of the gray levels of the voxels given, or None when there are none."""
    values = gray[inner].astype(np.float64)
    if not values.size:
        return None
    mean, sd = float(values.mean()), float(values.std())
    p10, median, p90 = (float(value) for value in np.percentile(values, (10, 50, 90)))
    return Echo(
        mean,
        median,
        sd,
        p10,
        p90,
        100 * sd / mean if mean else 0.0,
        float((values >= SATURATED).mean()),
        float((values <= FLOOR).mean()),
    )


def speed_of(
    speed_m_s: NDArray[np.float32], valid: NDArray[np.bool_], mask: NDArray[np.bool_]
) -> Speed | None:
    """Statistics of the valid speeds of a layer's voxels, or None when there are none."""
    own = speed_m_s[mask & valid].astype(np.float64)
    values = own[(own >= SPEED_M_S[0]) & (own <= SPEED_M_S[1])]
    if not values.size:
        return None
    low, median, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    share = values.size / int(np.count_nonzero(mask))
    return Speed(float(values.mean()), median, high - low, share, int(values.size))
