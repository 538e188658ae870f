"""Grid: where the voxels of a sweep are, and smooth random fields over it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Voxels along the beams: shape (slice, row, column), spacing in mm; depth 0 is the probe face.

    ``radius_mm`` is the probe's radius of curvature. The beams of a curved probe spread: the spacing of
    columns is that at half the depth.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    radius_mm: float = math.inf

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

    def stretch(self, depth_mm: Array) -> Array:
        """How much farther apart the beams are at a depth than at half the depth; 1 for a flat probe."""
        if math.isinf(self.radius_mm):
            return np.ones_like(depth_mm)
        middle = self.radius_mm + self.deepest_mm / 2
        return np.asarray((self.radius_mm + depth_mm) / middle, np.float32)


def _centered(count: int, spacing_mm: float) -> Array:
    return ((np.arange(count) - (count - 1) / 2) * spacing_mm).astype(np.float32)


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
