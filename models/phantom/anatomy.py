"""Anatomy: the layers of one volume, its label map, and the true thickness."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.phantom.factors import LAYERS
from models.phantom.grid import Array, Grid
from models.phantom.surfaces import Lacks, build_surfaces

SHALLOWEST_MM = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """The continuous layers, along the beams.

    surfaces_mm  float32 (7, slice, column): depth of the skin, the lower surfaces of layers 1 to 5, the bone.
    echo         float32 (7, slice, column): share of its echo that each surface returns, 0 in a gap.
    tissue       uint8 (slice, row, column): layer number, 0 = gel or below the bone; also beside the field.
    valid        bool (row, column): inside the field of the probe, a rectangle or a trapezoid.
    """

    surfaces_mm: Array
    echo: Array
    tissue: NDArray[np.uint8]
    valid: NDArray[np.bool_]

    @property
    def labelmap(self) -> NDArray[np.uint8]:
        """The tissue that the image shows: 0 outside the field."""
        shown: NDArray[np.uint8] = self.tissue * self.valid
        return shown


def build_anatomy(seed: int, grid: Grid, factors: Mapping[str, float], lacks: Lacks) -> Anatomy:
    """Surfaces, tissue and field of one volume. Raises ValueError when the field is too shallow."""
    if grid.deepest_mm < SHALLOWEST_MM:
        raise ValueError(
            f"a field {grid.deepest_mm:.1f} mm deep is too shallow for six layers: ask for more rows or a "
            f"larger row spacing, {SHALLOWEST_MM:.0f} mm in all"
        )
    surfaces, echo = build_surfaces(seed, grid, factors, lacks)
    valid = _trapezoid(grid, factors["probe.pad_share"])
    return Anatomy(surfaces, echo, tissue_between(surfaces, grid), valid)


def tissue_between(surfaces_mm: Array, grid: Grid) -> NDArray[np.uint8]:
    """Layer number between surfaces (7, slice, column), uint8 (slice, row, column); 0 above and below."""
    depth = grid.depth_mm[None, :, None]
    tissue = np.zeros(grid.shape, np.uint8)
    for surface in surfaces_mm[:-1]:  # counting skips an absent layer, whose surfaces coincide
        tissue += depth >= surface[:, None, :]
    tissue[depth >= surfaces_mm[-1][:, None, :]] = 0
    return tissue


def _trapezoid(grid: Grid, pad_share: float) -> NDArray[np.bool_]:
    """The field: a rectangle, or a trapezoid that is narrower at the skin; all beams of a curved probe."""
    _, rows, columns = grid.shape
    if np.isfinite(grid.radius_mm):
        return np.ones((rows, columns), np.bool_)
    pad = max(pad_share, 0.0) * columns * (1 - np.arange(rows) / rows)
    column = np.arange(columns)[None, :]
    inside = (column >= pad[:, None]) & (column <= columns - 1 - pad[:, None])
    return np.asarray(inside)


def true_thickness_mm(anatomy: Anatomy, grid: Grid) -> dict[int, float]:
    """Mean thickness in mm per layer number, perpendicular to the layer, of the continuous surfaces.

    Distance along the beam x (1 + |∇h|²)^(-1/2), h the middle surface (tilt-corrected column thickness),
    over the beams where the layer is at least half a row thick and lies inside the field. The muscle is
    left out where the field cuts it.
    """
    truth = {}
    step, row, pitch = grid.spacing_mm
    for number in range(1, len(LAYERS) + 1):
        upper, lower = anatomy.surfaces_mm[number - 1 : number + 1]
        complete = _inside(anatomy, grid, upper) & _inside(anatomy, grid, lower)
        complete &= lower - upper > row / 2
        cut = number == len(LAYERS) and (lower >= grid.deepest_mm).any()
        if cut or not complete.any():
            continue
        middle = (upper + lower) / 2
        slope2 = np.zeros_like(middle)
        if middle.shape[0] > 1:
            slope2 += np.gradient(middle, step, axis=0) ** 2
        if middle.shape[1] > 1:
            slope2 += (np.gradient(middle, pitch, axis=1) / grid.stretch(middle)) ** 2
        thickness = (lower - upper) / np.sqrt(1 + slope2)
        truth[number] = float(thickness[complete].mean(dtype=np.float64))
    return truth


def _inside(anatomy: Anatomy, grid: Grid, surface_mm: Array) -> NDArray[np.bool_]:
    """Where a surface (slice, column) lies inside the field."""
    rows, columns = anatomy.valid.shape
    row = np.clip((surface_mm / grid.spacing_mm[1]).astype(int), 0, rows - 1)
    inside: NDArray[np.bool_] = anatomy.valid[row, np.arange(columns)[None, :]]
    return inside & (surface_mm < grid.deepest_mm)
