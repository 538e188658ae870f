"""Texture: statistics of the grain between the borders, which bands in noise do not share with tissue.

What runs on from side to side is taken away first, so that the level of a layer says nothing. The rest is
the grain of the beam (speckle) and, above its size, the septa and strands of tissue. Where both too little
and too much of a quantity is unlike tissue, it is there twice, with both signs.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter1d

from models.layer.labels import MUSCLE
from models.layer.place.view import View
from models.steps.segment import Layers

LEVEL_MM = (0.15, 3.0)  # depth and width over which a level is the layer's
SPREAD_MM = (1.0, 3.0)
COARSE_MM = (0.4, 0.8)  # what outlives this smoothing is no speckle
SEAM_MM = 1.0
LEAST_PIXELS = 50
LEAST_IN_MUSCLE = 200
LEAST_IN_LAYER = 100
LEAST_LAYERS = 3
LEAST_COLUMNS = 10
STEPS = (3, 4)  # rows and columns between pixels that are looked at for a trend

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """Pixels of tissue, the level and spread around each, the grain in spreads, and what of it is coarse."""

    inside: Mask
    level: Array
    spread: Array
    grain: Array
    coarse: Array

    @property
    def fine(self) -> Array:
        return self.grain - self.coarse


def of_texture(view: View, layers: Layers) -> dict[str, float]:
    """Statistics of texture; NaN where there is too little tissue for one."""
    texture = _texture(view)
    muscle = texture.inside & (view.labels == MUSCLE)
    return {
        **_likeness(texture, muscle),
        **_grain(texture),
        **_structure(view, texture),
        "each_sure": _least(layers.confidence),
        "seamless": _seamless(view),
        "fading": _fading(view),
    }


def _texture(view: View) -> Texture:
    inside = view.valid & (view.labels > 0) & (view.gray > 0) & (view.gray < 255)
    level = _smooth(view, view.gray, inside, LEVEL_MM)
    rest = np.where(inside, view.gray - level, np.float32(0))
    spread = np.sqrt(_smooth(view, rest**2, inside, SPREAD_MM)) + np.float32(0.5)
    grain = np.where(inside, rest / spread, np.float32(0))
    return Texture(inside, level, spread, grain, _smooth(view, grain, inside, COARSE_MM))


def _smooth(view: View, values: Array, inside: Mask, size_mm: tuple[float, float]) -> Array:
    """Gaussian mean of the pixels inside, slice by slice."""
    sigma = (0, size_mm[0] / view.spacing_mm[0], size_mm[1] / view.spacing_mm[1])
    share = gaussian_filter(inside.astype(np.float32), sigma)
    total = gaussian_filter(np.where(inside, values, np.float32(0)), sigma)
    return np.asarray(total / np.maximum(share, np.float32(1e-3)))


def _likeness(texture: Texture, muscle: Mask) -> dict[str, float]:
    """Correlation of neighboring images: coarse in all tissue, coarse in muscle, and fine."""
    pairs = slice(1, None, 2), slice(0, None, 2)
    coarse, fine, inside = texture.coarse, texture.fine, texture.inside
    one, other = pairs
    all_tissue = _correlation(coarse[one], coarse[other], inside[one] & inside[other])
    both = muscle[one] & muscle[other]
    in_muscle = math.nan
    if np.count_nonzero(muscle) > LEAST_IN_MUSCLE:
        in_muscle = _correlation(coarse[one], coarse[other], both)
    return {
        "continued": all_tissue,
        "moving": -all_tissue,
        "muscle_continued": in_muscle,
        "muscle_moving": -in_muscle,
        "fresh": -_correlation(fine[one], fine[other], inside[one] & inside[other]),
    }


def _grain(texture: Texture) -> dict[str, float]:
    """Width and distribution of the grain, and how it goes with the level."""
    grain, inside, fine = texture.grain, texture.inside, texture.fine[texture.inside]
    near = _correlation(grain[..., 1:], grain[..., :-1], inside[..., 1:] & inside[..., :-1])
    far = _correlation(grain[..., 3:], grain[..., :-3], inside[..., 3:] & inside[..., :-3])
    some = (slice(None), slice(None, None, STEPS[0]), slice(None, None, STEPS[1]))
    level, spread = (part[some][inside[some]] for part in (texture.level, texture.spread))
    enough = level.size > LEAST_PIXELS
    return {
        "sharp": -near,
        "broad": far,
        "distinct": -far,
        "light": _moment(fine, 3),
        "even_grain": -_moment(fine, 4),
        "quiet": -math.log(float((spread / (level + 2)).mean())) if enough else math.nan,
        "compressed": -_slope(np.log(level + 2), np.log(spread)) if enough else math.nan,
    }


def _structure(view: View, texture: Texture) -> dict[str, float]:
    """What there is above the size of speckle, and how layers differ in it."""
    spreads, held = [], []
    for layer in range(1, MUSCLE + 1):
        here = texture.inside & (view.labels == layer)
        if np.count_nonzero(here) > LEAST_IN_LAYER:
            spreads.append(math.log(float(texture.spread[here].mean()) + 0.5))
            held.append(float(texture.coarse[here].var()))
    known = len(held) >= LEAST_LAYERS
    differing = float(np.std(spreads)) if known else math.nan
    return {
        "calm": -_moment(texture.coarse[texture.inside], 3),
        "grain_differs": differing,
        "grain_agrees": -differing,
        "structure_differs": math.log(float(np.std(held)) + 1e-3) if known else math.nan,
    }


def _correlation(one: Array, other: Array, both: Mask) -> float:
    if np.count_nonzero(both) < LEAST_PIXELS:
        return math.nan
    first, second = one[both] - one[both].mean(), other[both] - other[both].mean()
    size = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / size if size > 0 else math.nan


def _moment(values: Array, power: int) -> float:
    """Skewness (3) or kurtosis (4)."""
    if values.size < LEAST_PIXELS or values.std() < 1e-6:
        return math.nan
    return float((((values - values.mean()) / values.std()) ** power).mean())


def _slope(level: Array, spread: Array) -> float:
    """By how much the spread grows with the level, both as logarithms: 1 where noise was multiplied."""
    if level.std() <= 0.05:
        return math.nan
    off = level - level.mean()
    return float((off * spread).sum() / (off**2).sum())


def _least(confidence: tuple[float, ...]) -> float:
    known = [value for value in confidence if math.isfinite(value)]
    return min(known) if known else math.nan


def _seamless(view: View) -> float:
    """How little the largest step between columns stands out from the usual one."""
    both = view.valid[..., 1:] & view.valid[..., :-1]
    rows = max(1, round(SEAM_MM / view.spacing_mm[0]))
    step = abs(np.diff(uniform_filter1d(view.gray, rows, axis=1), axis=2))
    count = both.sum(1)
    mean = np.where(both, step, 0).sum(1) / np.maximum(count, 1)
    found = [
        math.log((steps[known].max() + 0.1) / (np.median(steps[known]) + 0.1))
        for steps, known in zip(mean, count > 0.3 * both.shape[1], strict=True)
        if np.count_nonzero(known) >= LEAST_COLUMNS
    ]
    return -float(np.mean(found)) if found else math.nan


def _fading(view: View) -> float:
    """Log of the gray level of the upper third over that of the lower third."""
    thirds = np.array_split(np.flatnonzero(view.valid.any((0, 2))), 3)
    parts = [view.gray[:, rows][view.valid[:, rows]] for rows in (thirds[0], thirds[2])]
    if min(part.size for part in parts) == 0:
        return math.nan
    return math.log((float(parts[0].mean()) + 1) / (float(parts[1].mean()) + 1))
