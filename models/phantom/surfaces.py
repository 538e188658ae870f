"""Surfaces: the depth of every interface as the scanner shows it, and where a layer is missing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.phantom.factors import FATS, LAYERS
from models.phantom.grid import Array, Grid, smooth_field
from models.phantom.streams import stream

ASSUMED_M_S = 1540.0
"""Sound speed that every scanner assumes: a layer of another speed looks thicker or thinner."""
GAP_EDGE_MM = 0.6
MEMBRANES = (3, 5)


@dataclass(frozen=True, slots=True)
class Lacks:
    """What a person lacks.

    absent  layer numbers 1 to 5 that are nowhere; deep fat absent: both membranes lie on each other.
    merged  the deep fat thins to nothing over part of the width.
    broken  membranes (3, 5) with a gap: no layer and no echo there, the neighbors meet.
    """

    absent: tuple[int, ...] = ()
    merged: bool = False
    broken: tuple[int, ...] = ()


def apparent_mm(factors: Mapping[str, float]) -> dict[str, float]:
    """Mean thickness of each layer on the screen: fat compressed by the probe, all at 1540 m/s."""
    seen = {}
    for name in LAYERS:
        pressed = 1 - factors["anatomy.pressure"] if name in FATS else 1.0
        speed = factors[f"{name}.sound_m_s"]
        seen[name] = factors[f"{name}.thickness_mm"] * pressed * ASSUMED_M_S / speed
    return seen


def needed_depth_mm(factors: Mapping[str, float], absent: tuple[int, ...]) -> float:
    """Depth of field at which the deep fascia lies at ``anatomy.deepest_share``: nothing is squeezed."""
    seen = apparent_mm(factors)
    tissue = sum(seen[name] for at, name in enumerate(LAYERS[:5], 1) if at not in absent)
    return (tissue + max(factors["anatomy.gel_mm"], 0.0)) / factors["anatomy.deepest_share"]


def build_surfaces(
    seed: int, grid: Grid, factors: Mapping[str, float], lacks: Lacks
) -> tuple[Array, Array]:
    """Depth in mm and echo share 0 to 1 of the skin, the lower edges of layers 1 to 5, and the bone.

    Both float32 (7, slice, column).
    """
    means = _shown_mm(grid, factors, lacks.absent)
    length = factors["anatomy.correlation_mm"]
    skin = _gel_mm(grid, factors) * (
        1 + 0.25 * smooth_field(stream(seed, "surface.skin"), grid, length)
    )
    surfaces = [np.maximum(skin, 0).astype(np.float32)]
    echo = np.ones((len(LAYERS) + 1, *skin.shape), np.float32)
    for number, name in enumerate(LAYERS, start=1):
        mean = means[name]
        share = factors["anatomy.fat_variation" if name in FATS else "anatomy.membrane_variation"]
        field = smooth_field(stream(seed, f"surface.{name}"), grid, length)
        field -= field.mean()  # the person's thickness is the mean of what the field shows
        thickness = mean * (1 + share * np.clip(field, -2.5, 2.5))
        if name == "deep_fat":  # the fascia lies oblique to the probe; the fat above takes it up
            thickness = thickness + _tilt_mm(grid, factors, float(surfaces[-1].mean()) + mean)
        if name == "superficial_fat":  # the superficial membrane ripples; the fat above takes it up
            ripple = smooth_field(stream(seed, "surface.ripple"), grid, 5.0)
            thickness = thickness + factors["anatomy.ripple_mm"] * ripple
        if name == "muscle":
            thickness = thickness + _bone_steps_mm(seed, grid, factors)
        thickness = np.maximum(thickness, 0.35 * mean) * (number not in lacks.absent)
        if name == "deep_fat" and lacks.merged:
            thickness = thickness * _beside_merger(grid, factors)
        if number in MEMBRANES and number in lacks.absent:
            # Too thin to be a layer: one faint line instead of two.
            echo[number - 1] *= 0.35
            echo[number] = 0
        surfaces.append((surfaces[-1] + thickness).astype(np.float32))
    stack = np.stack(surfaces)
    for number in lacks.broken:
        _break(stack, echo, number, _beside_gap(seed, grid, factors, number))
    return stack, echo


def _break(surfaces: Array, echo: Array, number: int, whole: Array) -> None:
    """Close both surfaces of a membrane onto its middle in the gap, in place: its neighbors meet."""
    upper, lower = surfaces[number - 1], surfaces[number]
    middle, half = (upper + lower) / 2, (lower - upper) / 2 * whole
    surfaces[number - 1 : number + 1] = middle - half, middle + half
    echo[number - 1 : number + 1] *= whole


def _shown_mm(
    grid: Grid, factors: Mapping[str, float], absent: tuple[int, ...]
) -> dict[str, float]:
    """Mean thickness on the screen; where a fixed field is too shallow, fat is thinned to fit in it."""
    means = apparent_mm(factors)
    there = [name for at, name in enumerate(LAYERS[:5], start=1) if at not in absent]
    fixed = _gel_mm(grid, factors) + sum(means[name] for name in there if name not in FATS)
    room = factors["anatomy.deepest_share"] * grid.deepest_mm - fixed
    room = max(room, 0.2 * grid.deepest_mm)  # in a very shallow field the deepest layers are cut
    wanted = sum(means[name] for name in there if name in FATS)
    for name in FATS:
        means[name] *= min(room / wanted, 1.0) if wanted > 0 else 1.0
    return means


def _gel_mm(grid: Grid, factors: Mapping[str, float]) -> float:
    """Gel between probe and skin, at most a twentieth of the field."""
    return min(max(factors["anatomy.gel_mm"], 0.0), grid.deepest_mm / 20)


def _tilt_mm(grid: Grid, factors: Mapping[str, float], depth_mm: float) -> Array:
    """What an oblique fascia adds to the fat above it; under a curved probe deep layers stay flatter."""
    lateral = grid.lateral_mm[None, :]
    tilt = (
        math.tan(math.radians(factors["anatomy.tilt_elevation_deg"])) * grid.elevation_mm[:, None]
        + math.tan(math.radians(factors["anatomy.tilt_lateral_deg"])) * lateral
    )
    if not math.isinf(grid.radius_mm):
        angle = lateral / (grid.radius_mm + grid.deepest_mm / 2)
        flat = (grid.radius_mm + depth_mm) * (1 / np.cos(angle) - 1)
        tilt = tilt + factors["probe.flatten"] * flat
    return np.asarray(tilt, np.float32)


def _bone_steps_mm(seed: int, grid: Grid, factors: Mapping[str, float]) -> Array:
    """Lamina and facets: the bone under the muscle rises and falls in soft steps along the probe."""
    period = factors["anatomy.bone_period_mm"]
    phase = stream(seed, "surface.bone phase").uniform(0, 2 * math.pi)
    bend = 0.6 * smooth_field(stream(seed, "surface.bone bend"), grid, 15.0)
    wave = np.sin(2 * math.pi * grid.lateral_mm[None, :] / period + phase + bend)
    return np.asarray(factors["anatomy.bone_step_mm"] / 2 * np.tanh(2.5 * wave), np.float32)


def _beside_merger(grid: Grid, factors: Mapping[str, float]) -> Array:
    """1 where the deep fat is whole, 0 where it has thinned to nothing (1, column)."""
    width = grid.shape[2] * grid.spacing_mm[2]
    center = factors["anatomy.merged_place"] * width
    beside = np.abs(grid.lateral_mm - center) - factors["anatomy.merged_share"] * width / 2
    return np.asarray(_smooth_step(beside / factors["anatomy.merged_ramp_mm"])[None, :], np.float32)


def _smooth_step(share: Array) -> Array:
    """From 0 to 1 without a corner at either end."""
    share = np.clip(share, 0, 1)
    return np.asarray(share**2 * (3 - 2 * share), np.float32)


def _beside_gap(seed: int, grid: Grid, factors: Mapping[str, float], number: int) -> Array:
    """1 where a membrane is whole, 0 in its gap (slice, column): an ellipse long in elevation."""
    generator = stream(seed, f"surface.gap {LAYERS[number - 1]}")
    width = grid.shape[2] * grid.spacing_mm[2]
    height = grid.shape[0] * grid.spacing_mm[0]
    lateral = grid.lateral_mm[None, :] - generator.uniform(-0.3, 0.3) * width
    elevation = grid.elevation_mm[:, None] - generator.uniform(-0.3, 0.3) * height
    radius = factors["anatomy.gap_mm"] / 2
    beside = np.hypot(lateral, elevation / 3) - radius
    whole = np.clip(beside / GAP_EDGE_MM + 0.5, 0, 1)
    return np.asarray(np.where(whole < 0.05, 0, whole), np.float32)
