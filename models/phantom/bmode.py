"""B-mode: scatterers through the beam, interface echoes, attenuation, noise, log compression."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.phantom.anatomy import Anatomy
from models.phantom.echoes import FWHM, add_interfaces, amplitude, axial_mm
from models.phantom.factors import LAYERS
from models.phantom.grid import Array, Grid
from models.phantom.streams import stream
from models.phantom.texture import Lengths, Scatter, gray_to_db, surface_noise

ROWS_AT_ONCE = 4
"""Rows that share one width of the beam: it changes slowly with depth."""


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What is rendered."""

    seed: int
    grid: Grid
    anatomy: Anatomy
    factors: Mapping[str, float]
    scatter: Scatter


def render(sweep: Sweep) -> Array:
    """Stored gray levels 0-255 (slice, row, column) of one sweep, along the beams.

    Complex baseband data are kept as (2, slice, row, column): real and imaginary part.
    """
    seed, grid, factors = sweep.seed, sweep.grid, sweep.factors
    data = _noise(stream(seed, "speckle"), (2, *grid.shape))
    data *= amplitude(sweep.scatter.level_db)
    data = _beam(grid, factors, data)
    add_interfaces(data, seed, grid, sweep.anatomy, factors)
    data *= amplitude(_gain_db(sweep))
    _add_clutter(data, seed, grid, factors)
    power = np.square(data[0])
    power += np.square(data[1])
    power += np.float32(1e-12)
    power = _smooth(power, factors["machine.compounding"])
    # The mean logarithm of Rayleigh-distributed amplitudes lies 2.5 dB under that of their power.
    decibel = np.log(power, out=power)
    decibel *= np.float32(10 / math.log(10))
    decibel += np.float32(2.5)
    return _compress(decibel, sweep.anatomy, factors)


def _noise(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """White noise; with two parts (first axis) of unit power in all.

    Each value is the sum of two random bytes: cheap, and Gaussian after the beam has added its neighbors.
    """
    raw = np.frombuffer(generator.bytes(2 * math.prod(shape)), np.int8).reshape(2, -1)
    total = np.add(raw[0], raw[1], dtype=np.float32)
    total += np.float32(1)  # a signed byte has the mean -0.5
    total *= np.float32(math.sqrt(0.5 / (2 * (256**2 - 1) / 12)))
    return total.reshape(shape)


def _kernel(position_mm: Array, width_mm: NDArray[np.floating]) -> Array:
    """Gaussian point-spread matrices (..., target, source), ``width_mm`` FWHM per target, unit energy."""
    # An image is uncorrelated below its pixel size; the floor keeps the matrix finite there.
    sigma = np.maximum(width_mm / np.float32(FWHM), 1e-6)[..., None]
    distance = position_mm[:, None] - position_mm[None, :]
    weights = np.exp(-0.5 * (distance / sigma) ** 2).astype(np.float32)
    weights /= np.sqrt(np.square(weights).sum(axis=-1, keepdims=True))
    return weights


def _widths(grid: Grid, factors: Mapping[str, float]) -> tuple[Array, Array]:
    """Axial and lateral resolution in mm (FWHM) per row."""
    wavelength = 1.54 / factors["probe.frequency_mhz"]
    depth = grid.depth_mm
    f_number = factors["probe.f_number"]
    focus = factors["probe.focus_share"] * grid.deepest_mm
    # Depth of field of a focused aperture: about 7 λ F².
    defocus = (depth - focus) / (7 * wavelength * f_number**2)
    lateral = wavelength * f_number * np.sqrt(1 + np.minimum(defocus**2, 6.0) * 0.5)
    return axial_mm(depth, factors), lateral.astype(np.float32)


def _beam(grid: Grid, factors: Mapping[str, float], data: Array) -> Array:
    """Point-spread function as one matrix per axis; lateral and elevational width change with depth."""
    axial, lateral = _widths(grid, factors)
    data = np.matmul(_kernel(grid.depth_mm, axial), data)
    beside = lateral / grid.stretch(grid.depth_mm)  # in the spacing of the beams at half the depth
    ratio = np.float32(factors["probe.elevation_ratio"])
    for start in range(0, grid.shape[1], ROWS_AT_ONCE):
        part = data[:, :, start : start + ROWS_AT_ONCE]
        middle = start + part.shape[2] // 2
        across = _kernel(grid.lateral_mm, beside[middle].repeat(grid.shape[2]))
        between = _kernel(grid.elevation_mm, (lateral[middle] * ratio).repeat(grid.shape[0]))
        lines = (part.reshape(-1, grid.shape[2]) @ across.T).reshape(2, grid.shape[0], -1)
        part[:] = np.matmul(between, lines).reshape(part.shape)
    return data


def _gain_db(sweep: Sweep) -> Array:
    """Attenuation after time gain (slice, row, column): what the operator's sliders leave of it."""
    grid, factors = sweep.grid, sweep.factors
    loss = _attenuation_db(sweep)
    gain = _time_gain_db(sweep.seed, grid, factors, loss.mean(axis=(0, 2)))
    shadow = _shadow_db(sweep.seed, grid, factors)
    np.subtract(gain.astype(np.float32)[None, :, None], loss, out=loss)
    loss -= shadow[:, None, :]
    bone = sweep.anatomy.surfaces_mm[6]
    first = min(max(int(bone.min() / grid.spacing_mm[1]) - 1, 0), grid.shape[1])
    below = grid.depth_mm[None, first:, None] - bone[:, None, :]
    fall = np.float32(factors["interface.bone_shadow_db"])
    loss[:, first:] -= np.clip(below * np.float32(1 / 1.5), 0, 1) * fall
    return loss


def _attenuation_db(sweep: Sweep) -> Array:
    """Loss down to each voxel; septa cast a shadow each."""
    grid, factors = sweep.grid, sweep.factors
    along = factors["probe.transverse"] < 0.5
    muscle = "muscle.attenuation" if along else "muscle.attenuation_along"
    names = [*(f"{name}.attenuation" for name in LAYERS[:5]), muscle]
    # dB/cm/MHz over one row, there and back; a cm has 10 mm.
    way = factors["probe.frequency_mhz"] * 2 * grid.spacing_mm[1] / 10
    table = np.array([0.0, *(factors[name] for name in names)], np.float32) * np.float32(way)
    loss = np.take(table, sweep.anatomy.tissue)
    septum = grid.spacing_mm[1] * factors["anatomy.septa_shadow_db"] / 20
    loss[:, sweep.scatter.fat_rows] += sweep.scatter.septa_db * np.float32(septum)
    for row in range(1, grid.shape[1]):
        loss[:, row] += loss[:, row - 1]
    return loss


def _time_gain_db(
    seed: int, grid: Grid, factors: Mapping[str, float], mean_loss_db: Array
) -> Array:
    """Time gain per row: most of the mean attenuation up to a limit, with an error of eight sliders."""
    sliders = stream(seed, "machine.sliders").normal(0, factors["machine.tgc_error_db"], 8)
    knots = np.linspace(0, grid.deepest_mm, 8)
    error = np.interp(grid.depth_mm, knots, sliders)
    wanted = factors["machine.tgc_share"] * mean_loss_db
    return np.asarray(np.minimum(wanted, factors["machine.tgc_limit_db"]) + error)


def _shadow_db(seed: int, grid: Grid, factors: Mapping[str, float]) -> Array:
    """Loss of contact per slice and column: a few soft vertical bands."""
    deepest = factors["machine.shadow_db"]
    if deepest <= 0:
        return np.zeros((grid.shape[0], grid.shape[2]), np.float32)
    bands = surface_noise(stream(seed, "machine.shadow"), grid, Lengths(6.0, 40.0, 2.5))
    return np.asarray(deepest * np.clip(bands - 0.8, 0, 1), np.float32)


def _add_clutter(data: Array, seed: int, grid: Grid, factors: Mapping[str, float]) -> None:
    """Reverberation lines under the probe face and electronic noise lifted by time gain, in place."""
    generator = stream(seed, "machine.clutter")
    pitch = generator.uniform(0.5, 1.2)
    axial = axial_mm(grid.depth_mm, factors)
    level = gray_to_db(factors["machine.reverberation_gray"], factors["machine.white_gray"])
    lines = np.zeros(grid.shape[1], np.float32)
    for count in range(5):
        line = np.exp(-0.5 * ((grid.depth_mm - count * pitch) * FWHM / axial) ** 2)
        lines += (10 ** ((level - 7 * count) / 20) * line).astype(np.float32)
    data[0] += lines[None, :, None]
    # Time gain is what noise shows: 0.7 dB/cm/MHz, the figure for soft tissue, there and back.
    lift = 0.7 * factors["probe.frequency_mhz"] * 2 * grid.depth_mm / 10
    floor = factors["machine.noise_db"] + np.minimum(lift, factors["machine.tgc_limit_db"])
    noise = _noise(stream(seed, "noise"), data.shape)
    noise *= math.sqrt(2) * amplitude(floor.astype(np.float32))[None, None, :, None]
    data += noise


def _compress(decibel: Array, anatomy: Anatomy, factors: Mapping[str, float]) -> Array:
    """Log compression around middle gray, smoothing, gain, gray map; whole numbers 0-255."""
    # Middle gray stays where it is when the dynamic range changes, as an operator would set it.
    middle = factors["machine.white_gray"] / 2
    scale = 255 / factors["machine.dynamic_range_db"]
    decibel += np.float32(middle + factors["machine.gain_db"])
    decibel *= np.float32(scale)
    decibel += np.float32(128)  # half a gray level more than the middle: truncation then rounds
    gray = _smooth(decibel, factors["machine.smoothing"])
    np.clip(gray, 0, 255, out=gray)
    levels = np.arange(256) / 255
    table = np.rint(255 * levels ** factors["machine.gamma"]).astype(np.float32)
    stored: Array = np.take(table, gray.astype(np.uint8))
    return stored * anatomy.valid[None]


def _smooth(gray: Array, strength: float) -> Array:
    """Blend each pixel with its neighbors in depth and lateral direction, as speckle reduction does."""
    if strength == 0:
        return gray
    middle, side = np.float32(1 - strength / 2), np.float32(strength / 4)
    blended = np.empty_like(gray)
    for number, image in enumerate(gray):  # one slice at a time stays in the cache
        padded = np.pad(image, 1, mode="edge")
        rows = padded[1:-1] * middle
        rows += (padded[:-2] + padded[2:]) * side
        blended[number] = rows[:, 1:-1] * middle
        blended[number] += (rows[:, :-2] + rows[:, 2:]) * side
    return blended
