"""View: a few slices of a scan on the grid of the gate, with the layers found in them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.scan import Scan
from models.steps.grid import bounding_box, grid_shape, resample, resample_labels
from models.steps.segment import Layers

GRID_MM = (0.2, 0.3)
PAIRS_OF_SLICES = 3  # spread over the sweep: a gate need not read every slice


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Some slices on the grid of the gate: gray levels, labels, validity, spacing of rows and columns."""

    gray: NDArray[np.float32]
    labels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    spacing_mm: tuple[float, float]


def view_of(scan: Scan, layers: Layers) -> View:
    box = bounding_box(scan.valid)
    starts = np.unique(
        np.linspace(0, max(scan.shape[0] - 2, 0), PAIRS_OF_SLICES).round().astype(int)
    )
    used = np.minimum((starts[:, None] + [0, 1]).ravel(), scan.shape[0] - 1)
    valid = scan.valid[used][:, box[1], box[2]]
    gray = np.where(valid, scan.channel("b-mode")[used][:, box[1], box[2]], np.float32(0))
    source = valid.shape[1:]
    shape = grid_shape((source[0], source[1]), scan.spacing_mm[1:], GRID_MM)
    spacing = [scan.spacing_mm[1 + axis] * source[axis] / shape[axis] for axis in range(2)]
    return View(
        resample(gray, shape),
        resample_labels(layers.labelmap[used][:, box[1], box[2]], shape),
        resample_labels(valid.astype(np.uint8), shape).astype(bool),
        (spacing[0], spacing[1]),
    )


def mean_of_known(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
