"""Fields: speckle, grain and smooth noise on the grid of a request, which all made negatives are built of."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from models.phantom import PhantomRequest
from models.phantom.streams import stream

Gray = NDArray[np.float32]
Maker = Callable[[int, PhantomRequest], Gray]
LEAST_TAIL = 1e-6

GRAINS: dict[str, Callable[[Gray], Gray]] = {
    "rayleigh": lambda z: np.sqrt(-2 * np.log(ndtr(-z).clip(LEAST_TAIL))) / 1.2533,
    "exponential": lambda z: -np.log(ndtr(-z).clip(LEAST_TAIL)),
    "uniform": lambda z: 2 * ndtr(z),
    "normal": lambda z: 1 + 0.35 * z,
    "lognormal": lambda z: np.exp(0.5 * z - 0.125),
    "none": lambda z: 1 + 0.02 * z,
}
"""Distributions of mean 1, as functions of a normal variable."""


def speckle(seed: int, request: PhantomRequest) -> Gray:
    """Log-compressed speckle (|filtered complex Gaussian|) in gray levels about zero, SD about 20."""
    random = stream(seed, "negative.speckle")
    size_mm = random.uniform((0.2, 0.08, 0.15), (0.8, 0.4, 1.2))
    sigma = size_mm / np.array(request.spacing_mm)
    real, imaginary = (gaussian_filter(random.standard_normal(request.shape), sigma) for _ in "ri")
    envelope = np.hypot(real, imaginary)
    level = 20 * np.log10(envelope / envelope.mean() + 0.01)
    return (level * random.uniform(2.5, 5)).astype(np.float32)


def axes_mm(request: PhantomRequest) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depth (row, 1) and distance from the middle (1, column) in mm."""
    _, rows, columns = request.shape
    _, row_mm, column_mm = request.spacing_mm
    depth = np.arange(rows, dtype=np.float64)[:, None] * row_mm
    return depth, (np.arange(columns, dtype=np.float64) - columns / 2)[None] * column_mm


def smooth(random: np.random.Generator, request: PhantomRequest, size_mm: float) -> Gray:
    """Smooth noise of unit variance, (slice, row, column)."""
    sigma = size_mm / np.array(request.spacing_mm)
    field = gaussian_filter(random.standard_normal(request.shape), sigma)
    return np.asarray(field / (field.std() + 1e-9), np.float32)


def grain(seed: int, request: PhantomRequest) -> Gray:
    """Noise of mean 1 to multiply with: any distribution, size of grain and likeness from image to image."""
    random = stream(seed, "negative.grain")
    field = _likeness(random, request)
    if random.uniform() < 0.6:
        size_mm = random.uniform((0.05, 0.05), (0.5, 1.5))
        field = gaussian_filter(field, (0, *(size_mm / np.array(request.spacing_mm[1:]))))
    field = field / field.std()
    shape = list(GRAINS)[random.choice(len(GRAINS), p=(0.4, 0.15, 0.1, 0.15, 0.1, 0.1))]
    return np.asarray(np.maximum(GRAINS[shape](field), 0), np.float32)


def _likeness(random: np.random.Generator, request: PhantomRequest) -> NDArray[np.float64]:
    """White noise, each image correlated with the one before by a share of 0 to 1."""
    share = float(random.choice([0.0, 1.0, random.uniform()]))
    field = random.standard_normal(request.shape)
    for index in range(1, request.shape[0]):
        field[index] = share * field[index - 1] + np.sqrt(1 - share**2) * field[index]
    return field


def shown(seed: int, level: NDArray[np.floating]) -> Gray:
    """Gray levels of an amplitude (slice, row, column): as it is, or its logarithm, at any gain."""
    random = stream(seed, "negative.shown")
    level = level / (level.mean() + 1e-9)
    if random.uniform() < 0.5:
        return np.asarray(level * random.uniform(20, 110), np.float32)
    decibel = 20 * np.log10(level + 1e-3)
    return np.asarray(random.uniform(70, 150) + decibel * random.uniform(3, 7), np.float32)
