"""Data: simulated sweeps and their labels on the analysis grid."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.evaluation.cohort import Cohort, simulate
from models.phantom import Protocol, synthesize, varied_request
from models.steps.grid import grid_shape, resample, resample_labels

FINE = 2
"""Rows of labels per row of gray levels: a border may lie inside a pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One person on the analysis grid: gray levels and labels, uint8 (slice, row, column).

    The labels may have a whole number of times as many rows as the gray levels.
    """

    gray: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def sweeps(cohort: Cohort, spacing_mm: tuple[float, float], processes: int) -> list[Sweep]:
    """B-mode sweeps and their true labels on a grid of about ``spacing_mm`` (row, column)."""
    make = partial(_sweep, protocol=cohort.protocol, spacing_mm=spacing_mm)
    return simulate(make, cohort, processes, f"Simulate {cohort.count} sweeps ({cohort.split})")


def _sweep(seed: int, protocol: Protocol, spacing_mm: tuple[float, float]) -> Sweep:
    phantom = synthesize(seed, varied_request(seed, protocol))
    scan = phantom.scan
    rows, columns = grid_shape(scan.shape[1:], scan.spacing_mm[1:], spacing_mm)
    gray = resample(scan.channel("b-mode"), (rows, columns))
    return Sweep(
        np.clip(np.rint(gray), 0, 255).astype(np.uint8),
        resample_labels(phantom.labelmap, (FINE * rows, columns)),
    )
