"""Caliper: one line from the upper to the lower interface of a layer, where it is of typical thickness."""

import numpy as np

from models.findings import Voxel
from models.steps.measure.columns import Columns, Plane


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
