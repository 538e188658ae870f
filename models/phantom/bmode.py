"""B-mode: scatterers through the beam, interface echoes, attenuation, noise, log compression."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.phantom.anatomy import Anatomy, Array, Grid, smooth_field
from models.phantom.factors import LAYERS
from models.phantom.streams import stream
from models.phantom.texture import Lengths, correlated, gray_to_db

FWHM = 2.3548
"""Full width at half maximum of a Gaussian in standard deviations."""
ROWS_AT_ONCE = 16
"""Rows whose beam matrices are held at a time; bounds memory."""


def render(
    seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float], level_db: Array
) -> Array:
    """Stored gray levels 0-255 (slice, row, column) of one sweep.

    Complex baseband data are kept as (2, slice, row, column): real and imaginary part.
    """
    gain = _gain_db(seed, grid, anatomy, factors)
    data = _speckle(seed, grid)
    data *= _amplitude(level_db)
    data = _beam(grid, factors, data)
    _add_interfaces(data, seed, grid, anatomy, factors)
    data *= _amplitude(gain)
    _add_clutter(data, seed, grid, factors)
    power = data[0] ** 2 + data[1] ** 2
    # The mean logarithm of Rayleigh-distributed amplitudes lies 2.5 dB under that of their power.
    decibel = 10 * np.log10(power + 1e-12) + 2.5
    return _compress(decibel, anatomy, factors)


def _amplitude(decibel: Array) -> Array:
    return np.exp(decibel * np.float32(math.log(10) / 20))


def _speckle(seed: int, grid: Grid) -> Array:
    """Fully developed speckle: complex Gaussian scatterers of unit power."""
    noise = stream(seed, "speckle").standard_normal((2, *grid.shape), dtype=np.float32)
    noise *= np.float32(math.sqrt(0.5))
    return noise


def _kernel(position_mm: Array, width_mm: NDArray[np.floating]) -> Array:
    """Gaussian point-spread matrices (..., target, source), ``width_mm`` FWHM per target, unit energy."""
    sigma = np.maximum(np.asarray(width_mm) / FWHM, 1e-6)[..., None]
    distance = position_mm[:, None] - position_mm[None, :]
    # An image is uncorrelated below its pixel size; the floor keeps the matrix finite there.
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    weights /= np.sqrt((weights**2).sum(axis=-1, keepdims=True))
    return weights.astype(np.float32)


def _widths(grid: Grid, factors: Mapping[str, float]) -> tuple[Array, Array]:
    """Axial and lateral resolution in mm (FWHM) per row: the pulse loses high frequencies with depth."""
    wavelength = 1.54 / factors["probe.frequency_mhz"]
    depth = grid.depth_mm
    axial = factors["probe.pulse_cycles"] * wavelength / 2 * (1 + 0.012 * depth)
    f_number = factors["probe.f_number"]
    focus = factors["probe.focus_share"] * grid.deepest_mm
    # Depth of field of a focused aperture: about 7 λ F².
    defocus = (depth - focus) / (7 * wavelength * f_number**2)
    lateral = wavelength * f_number * np.sqrt(1 + np.minimum(defocus**2, 6.0) * 0.5)
    return axial.astype(np.float32), lateral.astype(np.float32)


def _beam(grid: Grid, factors: Mapping[str, float], data: Array) -> Array:
    """Point-spread function as one matrix per axis; lateral and elevational width change with depth."""
    axial, lateral = _widths(grid, factors)
    data = np.matmul(_kernel(grid.depth_mm, axial), data)
    for start in range(0, grid.shape[1], ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        width = lateral[rows, None]
        across = _kernel(grid.lateral_mm, np.repeat(width, grid.shape[2], axis=1))
        ratio = factors["probe.elevation_ratio"]
        between = _kernel(grid.elevation_mm, np.repeat(width * ratio, grid.shape[0], axis=1))
        # (row, part, slice, column), so that each row meets its own matrices
        piece = np.matmul(data[:, :, rows].transpose(2, 0, 1, 3), across[:, None])
        data[:, :, rows] = np.matmul(between[:, None], piece).transpose(1, 2, 0, 3)
    return data


def _add_interfaces(
    data: Array, seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]
) -> None:
    """Coherent echoes of the surfaces, in place.

    Each line lies a little beside the edge of the labels and fades in and out: the edge cannot be read
    off the line.
    """
    axial, _ = _widths(grid, factors)
    white = factors["machine.white_gray"]
    names = ("skin", *(f"under {name}" for name in LAYERS))
    grays = {0: "skin_gray", 6: "bone_gray"}
    for number, name in enumerate(names):
        generator = stream(seed, f"interface.{name}")
        gray = factors[f"interface.{grays.get(number, 'fascia_gray')}"]
        level = gray_to_db(gray, white) + generator.normal(0, 3)
        fading = 4 * smooth_field(generator, grid, 3.0) + 2 * smooth_field(generator, grid, 8.0)
        offset = factors["interface.offset_mm"] * (
            generator.normal() + 0.6 * smooth_field(generator, grid, 6.0)
        )
        phase = generator.uniform(0, 2 * math.pi) + 0.7 * smooth_field(generator, grid, 4.0)
        slope = np.gradient(anatomy.surfaces_mm[number], grid.spacing_mm[2], axis=1)
        # A mirror turned away by 8 degrees has lost about 4 dB.
        amplitude = _amplitude(level + fading - 200 * slope.astype(np.float32) ** 2)
        if number in (1,):  # dermis meets fat without a membrane
            amplitude = amplitude * np.float32(0.3)
        center = anatomy.surfaces_mm[number] + offset
        echo = np.stack([amplitude * np.cos(phase), amplitude * np.sin(phase)])
        _add_line(data, grid, center, echo.astype(np.float32), axial)


def _add_line(data: Array, grid: Grid, center_mm: Array, echo: Array, axial_mm: Array) -> None:
    """Add one pulse per column, at sub-voxel depth."""
    pitch = grid.spacing_mm[1]
    half = math.ceil(2.5 * float(axial_mm.max()) / FWHM / pitch)
    first = np.floor(center_mm / pitch).astype(int)
    slices, columns = np.indices(center_mm.shape)
    for step in range(-half, half + 1):
        row = first + step
        inside = (row >= 0) & (row < grid.shape[1])
        at = np.clip(row, 0, grid.shape[1] - 1)
        distance = (at + 0.5) * pitch - center_mm
        pulse = np.exp(-0.5 * (distance * FWHM / axial_mm[at]) ** 2) * inside
        data[:, slices, at, columns] += echo * pulse


def _gain_db(seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]) -> Array:
    """Attenuation after time gain (slice, row, column): what the operator's sliders leave of it."""
    loss = _attenuation_db(grid, anatomy, factors)
    gain = _time_gain_db(seed, grid, factors, loss.mean(axis=(0, 2)))
    shadow = _shadow_db(seed, grid, factors)
    total = gain[None, :, None] - loss - shadow[:, None, :]
    bone = grid.depth_mm[None, :, None] - anatomy.surfaces_mm[6][:, None, :]
    total -= np.clip(bone / 1.5, 0, 1) * factors["interface.bone_shadow_db"]
    return total.astype(np.float32)


def _attenuation_db(grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]) -> Array:
    along = factors["probe.transverse"] < 0.5
    muscle = "muscle.attenuation" if along else "muscle.attenuation_along"
    names = [*(f"{name}.attenuation" for name in LAYERS[:5]), muscle]
    coefficients = np.array([0.0, *(factors[name] for name in names)], np.float32)
    # dB/cm/MHz over one row, there and back; a cm has 10 mm.
    way = factors["probe.frequency_mhz"] * 2 * grid.spacing_mm[1] / 10
    loss: Array = np.cumsum(coefficients[anatomy.tissue] * np.float32(way), axis=1)
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
    bands = correlated(stream(seed, "machine.shadow"), grid, Lengths(6.0, 40.0, 2.5))[:, 0]
    return np.asarray(deepest * np.clip(bands - 0.8, 0, 1), np.float32)


def _add_clutter(data: Array, seed: int, grid: Grid, factors: Mapping[str, float]) -> None:
    """Reverberation lines under the probe face and electronic noise lifted by time gain, in place."""
    generator = stream(seed, "machine.clutter")
    pitch = generator.uniform(0.5, 1.2)
    axial, _ = _widths(grid, factors)
    level = gray_to_db(factors["machine.reverberation_gray"], factors["machine.white_gray"])
    for count in range(5):
        line = np.exp(-0.5 * ((grid.depth_mm - count * pitch) * FWHM / axial) ** 2)
        strength = 10 ** ((level - 7 * count) / 20)
        data[0] += (strength * line)[None, :, None].astype(np.float32)
    # Time gain is what noise shows: 0.7 dB/cm/MHz, the figure for soft tissue, there and back.
    lift = 0.7 * factors["probe.frequency_mhz"] * 2 * grid.depth_mm / 10
    floor = factors["machine.noise_db"] + np.minimum(lift, factors["machine.tgc_limit_db"])
    noise = stream(seed, "noise").standard_normal(data.shape, dtype=np.float32)
    data += noise * _amplitude(floor.astype(np.float32))[None, None, :, None]


def _compress(decibel: Array, anatomy: Anatomy, factors: Mapping[str, float]) -> Array:
    """Log compression around middle gray, smoothing, gain, gray map; whole numbers 0-255."""
    # Middle gray stays where it is when the dynamic range changes, as an operator would set it.
    middle = factors["machine.white_gray"] / 2
    scale = 255 / factors["machine.dynamic_range_db"]
    gray = (decibel + (middle + factors["machine.gain_db"])) * np.float32(scale)
    gray += 127.5
    gray = _smooth(gray, factors["machine.smoothing"])
    levels = np.arange(256) / 255
    table = np.rint(255 * levels ** factors["machine.gamma"]).astype(np.float32)
    stored = table[np.clip(np.rint(gray), 0, 255).astype(np.uint8)]
    return stored * anatomy.valid[None]


def _smooth(gray: Array, strength: float) -> Array:
    """Blend each pixel with its neighbors in depth and lateral direction, as speckle reduction does."""
    for axis in (1, 2):
        padded = np.pad(gray, [(1, 1) if axis == at else (0, 0) for at in range(3)], mode="edge")
        before, after = (
            np.take(padded, range(start, start + gray.shape[axis]), axis=axis) for start in (0, 2)
        )
        gray = gray * np.float32(1 - strength / 2) + (before + after) * np.float32(strength / 4)
    return gray
