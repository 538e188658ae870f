"""Texture: how strongly each voxel scatters, in decibels of the image's white."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from models.phantom.anatomy import Anatomy
from models.phantom.factors import LAYERS
from models.phantom.grid import Array, Grid
from models.phantom.streams import stream

OUTSIDE_DB = -70.0
"""Gel and the shadow under bone hardly scatter."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Correlation lengths of a texture in mm."""

    elevation: float
    depth: float
    lateral: float


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """Level of the scatterers (slice, row, column) in dB of white, and how far septa exceed their fat.

    ``septa_db`` holds the rows ``fat_rows`` only; 0 beside the fat.
    """

    level_db: Array
    septa_db: Array
    fat_rows: slice


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
    noise = (spread[0] @ noise.reshape(noise.shape[0], -1)).reshape(slices, *noise.shape[1:])
    noise = np.matmul(spread[1], noise)
    return (noise.reshape(slices * rows, -1) @ spread[2].T).reshape(slices, rows, columns)


def _spread(count: int, spacing_mm: float, length_mm: float) -> Array:
    """Matrix (count, nodes) of Gaussian weights whose rows have unit norm."""
    pitch = max(0.8 * length_mm, spacing_mm)
    position = np.arange(count) * spacing_mm
    nodes = np.arange(-2 * length_mm, position[-1] + 2 * length_mm + pitch, pitch)
    weights = np.exp(-0.5 * ((position[:, None] - nodes[None, :]) / length_mm) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def surface_noise(generator: np.random.Generator, grid: Grid, lengths: Lengths) -> Array:
    """Gaussian noise (slice, column) of unit variance."""
    flat = Grid((grid.shape[0], 1, grid.shape[2]), grid.spacing_mm)
    return correlated(generator, flat, lengths)[:, 0]


def scatter(seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]) -> Scatter:
    """Layers, lobules and septa of fat, laminae of fascia, fibers of muscle."""
    white = factors["machine.white_gray"]
    levels = [OUTSIDE_DB] + [gray_to_db(factors[f"{name}.gray"], white) for name in LAYERS]
    level = np.take(np.array(levels, np.float32), anatomy.tissue)
    patch = correlated(stream(seed, "texture.patch"), grid, Lengths(4.0, 2.0, 5.0))
    patch *= np.float32(factors["anatomy.patch_db"])
    level += patch
    rows = _rows(grid, anatomy.surfaces_mm[1], anatomy.surfaces_mm[4])
    septa = _septa(seed, grid, anatomy, factors, rows)
    tissue = anatomy.tissue[:, rows]
    septa *= (tissue == 2) | (tissue == 4)
    level[:, rows] += septa
    rows = _rows(grid, anatomy.surfaces_mm[5], anatomy.surfaces_mm[6])
    fibers = _fibers(seed, grid, anatomy, factors, rows)
    fibers *= anatomy.tissue[:, rows] == 6
    level[:, rows] += fibers
    _laminate(level, grid, anatomy, factors)
    return Scatter(level, septa, _rows(grid, anatomy.surfaces_mm[1], anatomy.surfaces_mm[4]))


def _rows(grid: Grid, upper_mm: Array, lower_mm: Array) -> slice:
    """The rows that hold everything between two surfaces."""
    row_mm = grid.spacing_mm[1]
    first = min(max(math.floor(float(upper_mm.min()) / row_mm) - 1, 0), grid.shape[1] - 1)
    return slice(first, max(first + 1, math.ceil(float(lower_mm.max()) / row_mm) + 1))


def _septa(
    seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float], rows: slice
) -> Array:
    """Bright walls in fat, in dB above it: sheets along the layer, and a mesh around lobules."""
    length = factors["anatomy.septa_length_mm"]
    sheets = correlated(stream(seed, "texture.septa"), grid, Lengths(length / 2, 0.16, length / 2))
    middle = (anatomy.surfaces_mm[1] + _deep_fascia_mm(anatomy)) / 2
    wave = surface_noise(stream(seed, "texture.septa wave"), grid, Lengths(6.0, 40.0, 4.0))
    lines = _lines(grid, middle + 0.5 * wave)
    sheets = _follow(sheets, lines, rows)
    lobule = factors["anatomy.lobule_mm"]
    lengths = Lengths(lobule, 0.22 * lobule, 0.9 * lobule)
    lobules = _follow(correlated(stream(seed, "texture.lobules"), grid, lengths), lines, rows)
    # Where a smooth field crosses zero it draws closed, thin, wavy walls; here and there one is missing.
    lobules *= np.float32(1 / 0.14)
    np.square(lobules, out=lobules)
    np.clip(1 - 0.5 * lobules, 0, 1, out=lobules)
    lobules *= np.float32(factors["anatomy.mesh"])
    sheets -= np.float32(0.7)
    np.clip(sheets, 0, 1.2, out=sheets)
    np.maximum(sheets, lobules, out=sheets)
    sheets *= np.float32(factors["anatomy.septa_db"])
    return sheets


def _fibers(
    seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float], rows: slice
) -> Array:
    """Perimysium and fat between the fibers, in dB: long oblique lines along, short arcs across the probe."""
    transverse = factors["probe.transverse"] >= 0.5
    lengths = Lengths(4.0, 0.24, 1.1) if transverse else Lengths(1.0, 0.24, 3.5)
    fibers = correlated(stream(seed, "texture.fibers"), grid, lengths)
    slope = math.tan(math.radians(factors["muscle.pennation_deg"])) * (0.3 if transverse else 1.0)
    wave = surface_noise(stream(seed, "texture.fiber wave"), grid, Lengths(8.0, 40.0, 7.0))
    lines = _deep_fascia_mm(anatomy) + slope * grid.lateral_mm[None, :] + 0.4 * wave
    fibers = _follow(fibers, _lines(grid, lines), rows)
    lobes = correlated(stream(seed, "texture.infiltration"), grid, Lengths(5.0, 1.5, 4.0))[:, rows]
    # Fat replaces muscle where the lobes exceed the quantile of the fat share: bright, streaky patches.
    quantile = float(ndtri(1 - factors["muscle.infiltration"]))
    lobes = np.clip((lobes - np.float32(quantile)) * 2, 0, 1)
    lobes *= np.clip(0.6 + 0.4 * fibers, 0, 1.5)
    lobes *= np.float32(factors["muscle.infiltration_db"])
    np.clip(fibers, -1.6, 2.2, out=fibers)
    fibers *= np.float32(factors["muscle.fiber_db"])
    fibers += lobes
    return fibers


def _deep_fascia_mm(anatomy: Anatomy) -> Array:
    """Middle of the deep fascia (slice, column): a gap leaves it where it is."""
    middle: Array = (anatomy.surfaces_mm[4] + anatomy.surfaces_mm[5]) / 2
    return middle


def _lines(grid: Grid, lines_mm: Array) -> NDArray[np.int32]:
    """Shift in rows of each column (slice, column)."""
    return np.rint((lines_mm - lines_mm.mean()) / grid.spacing_mm[1]).astype(np.int32)


def _follow(texture: Array, shift: NDArray[np.int32], rows: slice) -> Array:
    """Some rows of a texture, sheared so that its own rows run along a line."""
    slices, count, columns = texture.shape
    wanted = np.arange(count, dtype=np.int32)[rows]
    column = np.arange(columns, dtype=np.intp)
    sheared = np.empty((slices, len(wanted), columns), np.float32)
    for number in range(slices):  # one slice at a time stays in the cache
        row = (wanted[:, None] - shift[number]) % np.int32(count)
        np.take(
            texture[number].ravel(),
            row * np.intp(columns) + column,
            out=sheared[number],
            mode="clip",
        )
    return sheared


def _laminate(level: Array, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]) -> None:
    """Darken the loose layers inside a thick deep fascia, in place."""
    rows = _rows(grid, anatomy.surfaces_mm[4], anatomy.surfaces_mm[5])
    slices, row, columns = np.nonzero(anatomy.tissue[:, rows] == 5)
    if not len(row):
        return
    row += rows.start
    upper, lower = anatomy.surfaces_mm[4:6, slices, columns]
    thickness = lower - upper
    across = (grid.depth_mm[row] - upper) / thickness
    sheets = np.maximum(np.rint(thickness.mean() / factors["anatomy.lamina_pitch_mm"]), 1)
    dark = np.sin(np.float32(math.pi * sheets) * across) ** 4
    fades = np.clip((thickness - factors["anatomy.lamina_mm"]) / 0.3 + 0.5, 0, 1)
    level[slices, row, columns] -= np.float32(factors["anatomy.lamina_db"]) * dark * fades
