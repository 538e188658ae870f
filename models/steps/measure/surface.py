"""Surface distance (T3): how far the two surfaces of a layer lie apart, nearest point to nearest point."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.steps.measure.columns import Columns, Ground, Plane

APART = (
    1e6  # stands for the unknown distance of frames: the nearest point then lies in the same frame
)


def surface_distance_mm(ground: Ground, columns: Columns) -> Plane:
    """T3: mean of the distances upper to lower and lower to upper surface, where both can be told.

    It is that of voxel centers, first of the layer to first beyond it, so it needs no half voxel. The nearest
    point is biased low on curves. A column whose nearest point lies at the edge of what was measured has no
    number: the true one may lie beyond.
    """
    complete = columns.complete
    if not complete.any():
        return np.full(complete.shape, np.nan)
    first = int(columns.top[complete].min()) - 1
    count = int(columns.bottom[complete].max()) + 2 - first
    top, bottom = columns.top - first, columns.bottom - first
    row = np.arange(count)[None, :, None]
    known = complete[:, None]
    down = _nearest_mm(ground, columns, known & (row > bottom[:, None]), top)
    up = _nearest_mm(ground, columns, known & (row < top[:, None]), bottom)
    return np.asarray((down + up) / 2)


def _nearest_mm(
    ground: Ground, columns: Columns, target: NDArray[np.bool_], start: NDArray[np.intp]
) -> Plane:
    """Distance from one row per complete column to the nearest target voxel; NaN where that is at an edge."""
    sampling = (ground.spacing_mm[0] or APART, *ground.spacing_mm[1:])
    distance, nearest = ndimage.distance_transform_edt(
        ~target, sampling=sampling, return_indices=True
    )
    complete = columns.complete
    row = np.clip(start, 0, target.shape[1] - 1)[:, None]
    found = np.take_along_axis(distance, row, 1)[:, 0]
    foot = [np.take_along_axis(nearest[axis], row, 1)[:, 0] for axis in (0, 2)]
    here = np.indices(complete.shape)
    own = (foot[0] == here[0]) & (foot[1] == here[1])
    inside = complete.copy()  # with all its neighbors measured too
    inside &= ndimage.minimum_filter1d(complete, 3, axis=1, mode="constant", cval=0)
    if ground.spacing_mm[0] is not None:
        inside &= ndimage.minimum_filter1d(complete, 3, axis=0, mode="constant", cval=0)
    beyond = inside[foot[0], foot[1]]
    return np.where(complete & (own | beyond), found, np.nan)
