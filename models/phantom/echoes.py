"""Echoes: coherent lines of the interfaces, their repetitions and comet tails."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.phantom.anatomy import Anatomy
from models.phantom.factors import LAYERS
from models.phantom.grid import Array, Grid, smooth_field
from models.phantom.streams import stream
from models.phantom.texture import gray_to_db

FWHM = 2.3548
"""Full width at half maximum of a Gaussian in standard deviations."""
NAMES = ("skin", *(f"under {name}" for name in LAYERS))
GRAYS = {0: "skin_gray", 6: "bone_gray"}
WITH_TAIL = (2, 5)
"""Surfaces that repeat below themselves: over the superficial membrane and under the deep fascia."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One echo: depth in mm (slice, column) and complex amplitude (2, slice, column)."""

    center_mm: Array
    echo: Array


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """Comet tail: distance of its repetitions in mm, and how strong it is (slice, column), mostly 0."""

    pitch_mm: float
    share: Array


def amplitude(decibel: Array) -> Array:
    return np.exp(decibel * np.float32(math.log(10) / 20))


def add_interfaces(
    data: Array, seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float]
) -> None:
    """Add the echoes of all surfaces to (2, slice, row, column), in place.

    Each line lies a little beside the edge of the labels,
    fades in and out and is now and then missing: the edge cannot be read off the line.
    """
    for number in range(len(NAMES)):
        missing = stream(seed, f"interface.missing {NAMES[number]}").uniform()
        if missing < factors["interface.missing_share"]:
            continue
        line = interface(seed, grid, anatomy, factors, number)
        _add_line(data, grid, line, factors)
        if number in WITH_TAIL:
            _add_tail(data, grid, line, factors, _tail(seed, grid, NAMES[number]))
        if number == 0:
            _repeat_skin(data, grid, anatomy, line, factors)


def interface(
    seed: int, grid: Grid, anatomy: Anatomy, factors: Mapping[str, float], number: int
) -> Line:
    generator = stream(seed, f"interface.{NAMES[number]}")
    gray = factors[f"interface.{GRAYS.get(number, 'fascia_gray')}"]
    level = gray_to_db(gray, factors["machine.white_gray"]) + generator.normal(0, 3)
    fading = 4 * smooth_field(generator, grid, 3.0) + 2 * smooth_field(generator, grid, 8.0)
    offset = factors["interface.offset_mm"] * (
        generator.normal() + 0.6 * smooth_field(generator, grid, 6.0)
    )
    phase = generator.uniform(0, 2 * math.pi) + 0.7 * smooth_field(generator, grid, 4.0)
    slope = np.zeros_like(phase)
    if phase.shape[1] > 1:
        slope = np.gradient(anatomy.surfaces_mm[number], grid.spacing_mm[2], axis=1)
    # A mirror turned away by 8 degrees has lost about 4 dB.
    strength = amplitude((level + fading - 200 * slope**2).astype(np.float32))
    strength *= anatomy.echo[number]
    if number == 1:  # dermis meets fat without a membrane
        strength *= np.float32(0.3)
    echo = np.stack([strength * np.cos(phase), strength * np.sin(phase)]).astype(np.float32)
    return Line((anatomy.surfaces_mm[number] + offset).astype(np.float32), echo)


def _add_tail(
    data: Array, grid: Grid, line: Line, factors: Mapping[str, float], tail: Tail
) -> None:
    """Comet tail: at a few places a strong line repeats below itself, weaker each time."""
    if factors["interface.tail_db"] <= 0:
        return
    for count in range(1, 5):
        weaker = 10 ** (-(factors["interface.tail_db"] + 4 * (count - 1)) / 20)
        repeated = Line(
            line.center_mm + np.float32(count * tail.pitch_mm), line.echo * (tail.share * weaker)
        )
        _add_line(data, grid, repeated, factors)


def _tail(seed: int, grid: Grid, name: str) -> Tail:
    generator = stream(seed, f"interface.tail {name}")
    pitch = generator.uniform(0.3, 0.9)
    share = np.clip(smooth_field(generator, grid, 1.2) - 1.3, 0, 1)
    return Tail(pitch, share.astype(np.float32))


def _repeat_skin(
    data: Array, grid: Grid, anatomy: Anatomy, line: Line, factors: Mapping[str, float]
) -> None:
    """Reverberation: the skin shows again below itself, by the dermis and by the gel."""
    weaker = np.float32(10 ** (-factors["interface.skin_repeat_db"] / 20))
    skin, under = anatomy.surfaces_mm[:2]
    for way in (under - skin, skin):
        if way.mean() > 0.4:
            _add_line(data, grid, Line(line.center_mm + way, line.echo * weaker), factors)


def axial_mm(depth_mm: Array, factors: Mapping[str, float]) -> Array:
    """Axial resolution (FWHM): the pulse loses high frequencies with depth."""
    wavelength = 1.54 / factors["probe.frequency_mhz"]
    axial = factors["probe.pulse_cycles"] * wavelength / 2 * (1 + 0.012 * depth_mm)
    return np.asarray(axial, np.float32)


def _add_line(data: Array, grid: Grid, line: Line, factors: Mapping[str, float]) -> None:
    """Add one pulse per column, at sub-voxel depth."""
    _, rows, columns = grid.shape
    pitch = np.float32(grid.spacing_mm[1])
    place = np.flatnonzero(line.echo.any(axis=0))
    if not len(place):
        return
    center = line.center_mm.ravel()[place]
    first = np.floor(center / pitch).astype(np.int32)
    width = axial_mm(center, factors)
    half = math.ceil(2.5 * float(width.max()) / FWHM / grid.spacing_mm[1])
    row = first + np.arange(-half, half + 1, dtype=np.int32)[:, None]
    distance = ((row + np.float32(0.5)) * pitch - center) * (FWHM / width)
    pulse = np.exp(-0.5 * distance**2)
    inside = (row >= 0) & (row < rows)
    slices, column = np.divmod(place, columns)
    at: NDArray[np.intp] = ((slices * rows) + row) * columns + column
    at = at[inside]
    for part, echo in zip(data, line.echo, strict=True):
        part.reshape(-1)[at] += (echo.ravel()[place] * pulse)[inside]
