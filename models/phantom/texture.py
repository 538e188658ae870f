"""Texture: how strongly each voxel scatters, in decibels of the image's white."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from models.phantom.anatomy import Anatomy, Array, Grid
from models.phantom.factors import LAYERS
from models.phantom.streams import stream

OUTSIDE_DB = -70.0
"""Gel and the shadow under bone hardly scatter."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Correlation lengths of a texture in mm."""

    elevation: float
    depth: float
    lateral: float


def gray_to_db(gray: float, white_db: float) -> float:
    """Echo level relative to white that shows as this gray level at a dynamic range of ``white_db``."""
    return (gray / 255 - 1) * white_db


def correlated(generator: np.random.Generator, grid: Grid, lengths: Lengths) -> Array:
    """Gaussian noise (slice, row, column) of unit variance with these correlation lengths.

    The noise is drawn on a grid of about the correlation length and spread by one matrix per axis.
    """
    slices, rows, columns = grid.shape
    spread = [
        _spread(count, spacing, length)
        for count, spacing, length in zip(
            grid.shape,
            grid.spacing_mm,
            (lengths.elevation, lengths.depth, lengths.lateral),
            strict=True,
        )
    ]
    noise = generator.standard_normal([matrix.shape[1] for matrix in spread], dtype=np.float32)
    noise = np.matmul(spread[1], noise)
    noise = (spread[0] @ noise.reshape(noise.shape[0], -1)).reshape(slices, rows, -1)
    return (noise.reshape(slices * rows, -1) @ spread[2].T).reshape(slices, rows, columns)


def _spread(count: int, spacing_mm: float, length_mm: float) -> Array:
    """Matrix (count, nodes) of Gaussian weights whose rows have unit norm."""
    pitch = max(0.8 * length_mm, spacing_mm)
    position = np.arange(count) * spacing_mm
    nodes = np.arange(-2 * length_mm, position[-1] + 2 * length_mm + pitch, pitch)
    weights = np.exp(-0.5 * ((position[:, None] - nodes[None, :]) / length_mm) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def scatter_db(seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]) -> Array:
    """Level of the scatterers (slice, row, column) in dB of white: layers, septa, laminae, fibers."""
    white = factors["machine.white_gray"]
    levels = [OUTSIDE_DB] + [gray_to_db(factors[f"{name}.gray"], white) for name in LAYERS]
    level = np.array(levels, np.float32)[anatomy.tissue]
    fat = (anatomy.tissue == 2) | (anatomy.tissue == 4)
    level += factors["anatomy.patch_db"] * correlated(
        stream(seed, "texture.patch"), grid, Lengths(4.0, 2.0, 5.0)
    )
    level += _septa(seed, grid, anatomy, factors) * fat
    level += _fibers(seed, grid, anatomy, factors) * (anatomy.tissue == 6)
    _laminate(level, grid, anatomy, factors)
    return level


def _septa(seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]) -> Array:
    """Thin bright sheets in fat, following the layer, in dB above the fat."""
    length = factors["anatomy.septa_length_mm"]
    sheets = correlated(stream(seed, "texture.septa"), grid, Lengths(length / 2, 0.16, length / 2))
    middle = (anatomy.surfaces_mm[1] + anatomy.surfaces_mm[4]) / 2
    wave = correlated(stream(seed, "texture.septa wave"), grid, Lengths(6.0, 40.0, 4.0))[:, 0]
    sheets = _follow(sheets, grid, middle + 0.5 * wave)
    return factors["anatomy.septa_db"] * np.clip(sheets - 0.7, 0, 1.2)


def _fibers(seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]) -> Array:
    """Perimysium and fat between the fibers, in dB: long oblique lines along, short arcs across the probe."""
    transverse = factors["probe.transverse"] >= 0.5
    lengths = Lengths(4.0, 0.24, 1.1) if transverse else Lengths(1.0, 0.24, 3.5)
    fibers = correlated(stream(seed, "texture.fibers"), grid, lengths)
    slope = math.tan(math.radians(factors["muscle.pennation_deg"])) * (0.3 if transverse else 1.0)
    wave = correlated(stream(seed, "texture.fiber wave"), grid, Lengths(8.0, 40.0, 7.0))[:, 0]
    lines = anatomy.surfaces_mm[5] + slope * grid.lateral_mm[None, :] + 0.4 * wave
    fibers = _follow(fibers, grid, lines)
    lobes = correlated(stream(seed, "texture.infiltration"), grid, Lengths(5.0, 1.5, 4.0))
    share = factors["muscle.infiltration"]
    # Fat replaces muscle where the lobes exceed the quantile of the fat share: bright, streaky patches.
    quantile = float(ndtri(1 - share))
    infiltrated = factors["muscle.infiltration_db"] * np.clip((lobes - quantile) * 2, 0, 1)
    contrast = factors["muscle.fiber_db"]
    return contrast * np.clip(fibers, -1.6, 2.2) + infiltrated * np.clip(0.6 + 0.4 * fibers, 0, 1.5)


def _follow(texture: Array, grid: Grid, lines_mm: Array) -> Array:
    """Shear a texture so that its rows run along ``lines_mm`` (slice, column)."""
    shift = np.rint((lines_mm - lines_mm.mean()) / grid.spacing_mm[1]).astype(np.int32)
    rows = np.arange(grid.shape[1], dtype=np.int32)
    index = (rows[None, :, None] - shift[:, None, :]) % np.int32(grid.shape[1])
    return np.take_along_axis(texture, index, axis=1)


def _laminate(level: Array, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]) -> None:
    """Darken the loose layers inside a thick deep fascia, in place."""
    slices, row, columns = np.nonzero(anatomy.tissue == 5)
    upper, lower = anatomy.surfaces_mm[4:6, slices, columns]
    thickness = lower - upper
    across = (grid.depth_mm[row] - upper) / thickness
    sheets = np.maximum(np.rint(thickness.mean() / factors["anatomy.lamina_pitch_mm"]), 1)
    dark = np.sin(math.pi * sheets * across) ** 4
    fades = np.clip((thickness - factors["anatomy.lamina_mm"]) / 0.3 + 0.5, 0, 1)
    level[slices, row, columns] -= factors["anatomy.lamina_db"] * dark * fades
