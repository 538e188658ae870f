"""Fan: the image of a curved probe, simulated along its beams and converted to square pixels."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.phantom.grid import Array, Grid

WIDEST = math.radians(40)


@dataclass(frozen=True, slots=True, eq=False)
class Fan:
    """Where the pixels of the image lie between the beams.

    beams   the grid (slice, depth, beam) that is simulated.
    valid   bool (row, column): pixels inside the sector.
    row     float32 (pixel,): place between the rows of ``beams``, of valid pixels only.
    column  float32 (pixel,): place between its columns.
    """

    beams: Grid
    valid: NDArray[np.bool_]
    row: Array
    column: Array


def fan_size_mm(depth_mm: float, radius_mm: float, half_angle: float) -> tuple[float, float]:
    """Height and width of the smallest image that holds a fan; ``half_angle`` in radians."""
    height = depth_mm + radius_mm * (1 - math.cos(half_angle))
    return height, 2 * (radius_mm + depth_mm) * math.sin(half_angle)


def lay_fan(image: Grid, radius_mm: float) -> Fan:
    """The widest fan that an image holds. Raises ValueError for an image too low for its width."""
    half = _half_angle(image, radius_mm)
    depth = image.deepest_mm - radius_mm * (1 - math.cos(half))
    rows = round(depth / image.spacing_mm[1])
    if rows < 1:
        raise ValueError(
            f"an image {image.deepest_mm:.0f} mm high is too low for a curved probe: ask for more rows"
        )
    arc = 2 * half * (radius_mm + depth / 2)
    columns = max(round(arc / image.spacing_mm[2]), 2)
    beams = Grid(
        (image.shape[0], rows, columns),
        (*image.spacing_mm[:2], arc / columns),
        radius_mm,
    )
    down = radius_mm * math.cos(half) + image.depth_mm[:, None]
    across = image.lateral_mm[None, :]
    row = (np.hypot(down, across) - radius_mm) / image.spacing_mm[1] - 0.5
    column = (np.arctan2(across, down) / (2 * half) + 0.5) * columns - 0.5
    valid = (row >= -0.5) & (row < rows - 0.5) & (column >= -0.5) & (column < columns - 0.5)
    return Fan(beams, valid, row[valid].astype(np.float32), column[valid].astype(np.float32))


def _half_angle(image: Grid, radius_mm: float) -> float:
    """The angle at which the fan is as wide as the image, by bisection; at most 40 degrees."""
    width = image.shape[2] * image.spacing_mm[2]
    low, high = 0.0, WIDEST
    for _ in range(40):
        middle = (low + high) / 2
        reach = (radius_mm * math.cos(middle) + image.deepest_mm) * math.sin(middle)
        low, high = (middle, high) if 2 * reach < width else (low, middle)
    return high


def nearest(fan: Fan, volume: NDArray[Any]) -> NDArray[Any]:
    """Labels (slice, row, column) of the image from those along the beams; 0 outside the sector."""
    _, rows, columns = fan.beams.shape
    row = np.clip(np.rint(fan.row), 0, rows - 1).astype(np.intp)
    column = np.clip(np.rint(fan.column), 0, columns - 1).astype(np.intp)
    image = np.zeros((volume.shape[0], *fan.valid.shape), volume.dtype)
    image[:, fan.valid] = volume.reshape(len(volume), -1)[:, row * columns + column]
    return image


def bilinear(fan: Fan, volume: Array) -> Array:
    """Gray levels (slice, row, column) of the image, whole numbers; 0 outside the sector."""
    _, rows, columns = fan.beams.shape
    row = np.clip(fan.row, 0, rows - 1.001)
    column = np.clip(fan.column, 0, columns - 1.001)
    at = row.astype(np.intp) * columns + column.astype(np.intp)
    down, right = row % 1, column % 1
    image = np.zeros((volume.shape[0], *fan.valid.shape), np.float32)
    for number, plane in enumerate(volume.reshape(len(volume), -1)):
        upper = plane[at] * (1 - right) + plane[at + 1] * right
        lower = plane[at + columns] * (1 - right) + plane[at + columns + 1] * right
        image[number, fan.valid] = np.rint(upper * (1 - down) + lower * down)
    return image
