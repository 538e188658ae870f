"""Anatomy: smooth surfaces between the layers, the label map, and the true thickness."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.phantom.factors import LAYERS
from models.phantom.streams import stream

Array = NDArray[np.float32]
FATS = ("superficial_fat", "deep_fat")
SHALLOWEST_MM = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels are: shape (slice, row, column) and spacing in mm; depth 0 is the probe face."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @property
    def elevation_mm(self) -> Array:
        """Position of each slice, 0 in the middle."""
        return _centered(self.shape[0], self.spacing_mm[0])

    @property
    def depth_mm(self) -> Array:
        """Depth of each row's center; the first row lies half a voxel under the probe."""
        return ((np.arange(self.shape[1]) + 0.5) * self.spacing_mm[1]).astype(np.float32)

    @property
    def lateral_mm(self) -> Array:
        """Position of each column, 0 in the middle."""
        return _centered(self.shape[2], self.spacing_mm[2])

    @property
    def deepest_mm(self) -> float:
        return self.shape[1] * self.spacing_mm[1]


def _centered(count: int, spacing_mm: float) -> Array:
    return ((np.arange(count) - (count - 1) / 2) * spacing_mm).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """The continuous layers.

    surfaces_mm  float32 (7, slice, column): depth of the skin, the lower surfaces of layers 1 to 5, the bone.
    tissue       uint8 (slice, row, column): layer number, 0 = gel or below the bone; also beside the field.
    valid        bool (row, column): inside the field of the probe, a rectangle or a trapezoid.
    """

    surfaces_mm: Array
    tissue: NDArray[np.uint8]
    valid: NDArray[np.bool_]

    @property
    def labelmap(self) -> NDArray[np.uint8]:
        """The tissue that the image shows: 0 outside the field."""
        shown: NDArray[np.uint8] = self.tissue * self.valid
        return shown


def smooth_field(generator: np.random.Generator, grid: Grid, length_mm: float) -> Array:
    """A random surface (slice, column) of unit variance and Gaussian correlation ``length_mm``.

    Random Fourier features (Rahimi and Recht 2007): defined at every point, so that the surface does not
    depend on the grid.
    """
    count = 32
    waves = generator.standard_normal((2, count)) / length_mm
    phases = generator.uniform(0, 2 * math.pi, count)
    across = np.outer(grid.elevation_mm, waves[0]) + phases
    along = np.outer(grid.lateral_mm, waves[1])
    field = np.cos(across) @ np.cos(along).T - np.sin(across) @ np.sin(along).T
    return (field * math.sqrt(2 / count)).astype(np.float32)


def build_anatomy(
    seed: int, grid: Grid, factors: Mapping[str, float], absent: tuple[int, ...]
) -> Anatomy:
    """Surfaces, tissue and field of one volume. Raises ValueError when the field is too shallow."""
    if grid.deepest_mm < SHALLOWEST_MM:
        raise ValueError(
            f"a field {grid.deepest_mm:.1f} mm deep is too shallow for six layers: ask for more rows or a "
            f"larger row spacing, {SHALLOWEST_MM:.0f} mm in all"
        )
    surfaces = _surfaces(seed, grid, factors, absent)
    valid = _trapezoid(grid, factors["probe.pad_share"])
    depth = grid.depth_mm[None, :, None]
    tissue = np.zeros(grid.shape, np.uint8)
    for surface in surfaces[:-1]:  # counting skips an absent layer, whose surfaces coincide
        tissue += depth >= surface[:, None, :]
    tissue[depth >= surfaces[-1][:, None, :]] = 0
    return Anatomy(surfaces, tissue, valid)


def _surfaces(
    seed: int, grid: Grid, factors: Mapping[str, float], absent: tuple[int, ...]
) -> Array:
    means = _mean_thickness_mm(grid, factors)
    length = factors["anatomy.correlation_mm"]
    skin = _gel_mm(grid, factors) * (
        1 + 0.25 * smooth_field(stream(seed, "surface.skin"), grid, length)
    )
    surfaces = [np.maximum(skin, 0).astype(np.float32)]
    tilt = (
        math.tan(math.radians(factors["anatomy.tilt_elevation_deg"])) * grid.elevation_mm[:, None]
        + math.tan(math.radians(factors["anatomy.tilt_lateral_deg"])) * grid.lateral_mm[None, :]
    )
    for number, name in enumerate(LAYERS, start=1):
        mean = means[name]
        share = factors["anatomy.fat_variation" if name in FATS else "anatomy.membrane_variation"]
        field = smooth_field(stream(seed, f"surface.{name}"), grid, length)
        thickness = mean * (1 + share * np.clip(field, -2.5, 2.5))
        if (
            name == "deep_fat"
        ):  # the deep fascia lies oblique to the probe; the fat above takes it up
            thickness = thickness + tilt
        thickness = np.maximum(thickness, 0.35 * mean) * (number not in absent)
        surfaces.append((surfaces[-1] + thickness).astype(np.float32))
    return np.stack(surfaces)


def _mean_thickness_mm(grid: Grid, factors: Mapping[str, float]) -> dict[str, float]:
    """Intended thickness: fat compressed by the probe, and thinned to let the fascia lie in the field."""
    means = {name: factors[f"{name}.thickness_mm"] for name in LAYERS}
    for name in FATS:
        means[name] *= 1 - factors["anatomy.pressure"]
    fixed = _gel_mm(grid, factors) + sum(means[name] for name in LAYERS[:5] if name not in FATS)
    room = factors["anatomy.deepest_share"] * grid.deepest_mm - fixed
    room = max(room, 0.2 * grid.deepest_mm)  # in a very shallow field the deepest layers are cut
    wanted = sum(means[name] for name in FATS)
    for name in FATS:
        means[name] *= min(room / wanted, 1.0)
    return means


def _gel_mm(grid: Grid, factors: Mapping[str, float]) -> float:
    """Gel between probe and skin, at most a twentieth of the field."""
    return min(max(factors["anatomy.gel_mm"], 0.0), grid.deepest_mm / 20)


def _trapezoid(grid: Grid, pad_share: float) -> NDArray[np.bool_]:
    """The field: a rectangle, or a trapezoid that is narrower at the skin."""
    _, rows, columns = grid.shape
    pad = max(pad_share, 0.0) * columns * (1 - np.arange(rows) / rows)
    column = np.arange(columns)[None, :]
    inside = (column >= pad[:, None]) & (column <= columns - 1 - pad[:, None])
    return np.asarray(inside)


def true_thickness_mm(anatomy: Anatomy, grid: Grid) -> dict[int, float]:
    """Mean thickness in mm per layer number, perpendicular to the layer, of the continuous surfaces.

    Vertical distance x (1 + |∇h|²)^(-1/2), h the middle surface (tilt-corrected column thickness), over
    the columns where both surfaces lie inside the field. The muscle is left out where the field cuts it.
    """
    truth = {}
    step, _, pitch = grid.spacing_mm
    for number in range(1, len(LAYERS) + 1):
        upper, lower = anatomy.surfaces_mm[number - 1 : number + 1]
        complete = _inside(anatomy, grid, upper) & _inside(anatomy, grid, lower)
        cut = number == len(LAYERS) and (lower >= grid.deepest_mm).any()
        if cut or not complete.any() or (lower - upper).max() <= 0:
            continue
        middle = (upper + lower) / 2
        slope2 = sum(
            np.gradient(middle, spacing, axis=axis) ** 2
            for axis, spacing in ((0, step), (1, pitch))
            if middle.shape[axis] > 1
        )
        thickness = (lower - upper) / np.sqrt(1 + slope2)
        truth[number] = float(thickness[complete].mean(dtype=np.float64))
    return truth


def _inside(anatomy: Anatomy, grid: Grid, surface_mm: Array) -> NDArray[np.bool_]:
    """Where a surface (slice, column) lies inside the field."""
    rows, columns = anatomy.valid.shape
    row = np.clip((surface_mm / grid.spacing_mm[1]).astype(int), 0, rows - 1)
    inside: NDArray[np.bool_] = anatomy.valid[row, np.arange(columns)[None, :]]
    return inside & (surface_mm < grid.deepest_mm)
