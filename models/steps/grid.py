"""From the source grid to an analysis grid and back, slice by slice, with SimpleITK.

Both grids cover the same field of view: an analysis grid has the whole number of pixels that comes nearest to
the wanted spacing, so that the outer edges of the images coincide and nothing shifts on the way back.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Value = TypeVar("Value", np.uint8, np.float32)
Box = tuple[slice, slice, slice]
SLICES_AT_ONCE = 8
LEAST_PIXELS = 16  # of an analysis grid, each way


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box (slice, row, column) that holds all of ``mask``. Raises ValueError when empty."""
    if not mask.any():
        raise ValueError("an empty mask has no bounding box")
    edges = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        edges.append(slice(int(used[0]), int(used[-1]) + 1))
    return edges[0], edges[1], edges[2]


def grid_shape(
    shape: tuple[int, int], spacing_mm: tuple[float, float], wanted_mm: tuple[float, float]
) -> tuple[int, int]:
    """Rows and columns that cover the same field of view at nearly the wanted spacing (row, column)."""
    rows, columns = (
        max(LEAST_PIXELS, round(count * here / there))
        for count, here, there in zip(shape, spacing_mm, wanted_mm, strict=True)
    )
    return rows, columns


def resample(volume: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Linear, float32 (slice, row, column) onto ``shape`` rows and columns over the same field of view.

    Toward fewer pixels a Gaussian first takes out what the coarse grid cannot hold.
    """
    pieces = [_resample(volume[piece], shape, sitk.sitkLinear, True) for piece in pieces_of(volume)]
    return np.concatenate(pieces) if pieces else np.zeros((0, *shape), np.float32)


def resample_labels(labels: NDArray[Value], shape: tuple[int, int]) -> NDArray[Value]:
    """Nearest neighbor onto ``shape`` rows and columns: for labels, masks and values that must not mix."""
    pieces = [
        _resample(labels[piece], shape, sitk.sitkNearestNeighbor, False)
        for piece in pieces_of(labels)
    ]
    return np.concatenate(pieces) if pieces else np.zeros((0, *shape), labels.dtype)


def pieces_of(volume: NDArray[Any], at_once: int = SLICES_AT_ONCE) -> Iterator[slice]:
    """Runs of neighboring slices, small enough to bound memory."""
    for start in range(0, volume.shape[0], at_once):
        yield slice(start, min(start + at_once, volume.shape[0]))


def _resample(
    piece: NDArray[Any], shape: tuple[int, int], interpolator: int, smooth: bool
) -> NDArray[Any]:
    slices, rows, columns = piece.shape
    if shape == (rows, columns):
        return piece
    image = sitk.GetImageFromArray(piece)
    steps = (columns / shape[1], rows / shape[0])  # source pixels per pixel, SimpleITK's axis order
    if smooth:
        for axis, step in enumerate(steps):
            if step > 1:
                # Of a box of `step` pixels, less the one that is there: their variances are step^2 / 12.
                sigma = float(np.sqrt((step**2 - 1) / 12))
                order = sitk.RecursiveGaussianImageFilter.ZeroOrder
                image = sitk.RecursiveGaussian(image, sigma, False, order, axis)
    result = sitk.Resample(
        image,
        (shape[1], shape[0], slices),
        sitk.Transform(),
        interpolator,
        (steps[0] / 2 - 0.5, steps[1] / 2 - 0.5, 0.0),
        (*steps, 1.0),
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        0.0,
        image.GetPixelID(),
    )
    array: NDArray[Any] = sitk.GetArrayFromImage(result)
    return array
