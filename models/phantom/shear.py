"""Shear wave: a map of shear-wave speed with the blur, noise and holes of a real one."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from models.phantom.anatomy import Anatomy
from models.phantom.factors import LAYERS
from models.phantom.grid import Array, Grid
from models.phantom.streams import stream
from models.phantom.texture import Lengths, correlated


def shear_wave(
    seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]
) -> tuple[Array, NDArray[np.bool_]]:
    """Shear-wave speed in m/s (0 where there is none) and where it is valid, both (slice, row, column)."""
    speed: Array = np.array([0.0, *_speeds(factors)], np.float32)[anatomy.tissue]
    tissue = (anatomy.tissue > 0).astype(np.float32)
    blur = factors["shear.blur_mm"] / 2.3548
    weight = _blur(tissue, grid, blur)
    speed = (_blur(speed, grid, blur) / np.maximum(weight, 1e-3)).astype(np.float32)
    noise = correlated(stream(seed, "shear.noise"), grid, Lengths(1.0, 0.7, 0.8))
    relative = factors["shear.noise"] + factors["shear.noise_per_mm"] * grid.depth_mm
    speed = speed * (1 + noise * relative[None, :, None]).astype(np.float32)
    valid = _valid(seed, grid, anatomy, factors)
    valid &= (speed >= 0.5) & (speed <= 10)  # outside these gates a machine shows no value
    return np.where(valid, speed, 0).astype(np.float32), valid


def _speeds(factors: Mapping[str, float]) -> list[float]:
    """Speed per layer; the muscle is slower across its fibers."""
    speeds = [factors[f"{name}.shear_m_s"] for name in LAYERS]
    if factors["probe.transverse"] >= 0.5:
        speeds[-1] *= factors["muscle.shear_across"]
    return speeds


def _blur(volume: Array, grid: Grid, sigma_mm: float) -> Array:
    """Gaussian mean in depth and lateral direction, one matrix each."""
    rows, columns = (
        _mean_matrix(position, sigma_mm) for position in (grid.depth_mm, grid.lateral_mm)
    )
    blurred: Array = np.matmul(rows, volume) @ columns.T
    return blurred


def _mean_matrix(position_mm: Array, sigma_mm: float) -> Array:
    weights = np.exp(-0.5 * ((position_mm[:, None] - position_mm[None, :]) / sigma_mm) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _valid(
    seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]
) -> NDArray[np.bool_]:
    """The elastography box, less holes of the wanted share."""
    half = factors["shear.box_share"] * grid.shape[2] * grid.spacing_mm[2] / 2
    box = (np.abs(grid.lateral_mm) <= half)[None, None, :]
    reach = (grid.depth_mm <= factors["shear.deepest_mm"])[None, :, None]
    holes = correlated(stream(seed, "shear.dropout"), grid, Lengths(2.0, 1.5, 2.0))
    share = factors["shear.dropout"]
    level = float(ndtri(1 - share))
    valid: NDArray[np.bool_] = (anatomy.labelmap > 0) & box & reach & (holes < level)
    return valid
