"""Borders: statistics of the layers that were found, and of the gray levels along them."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from models.layer.labels import DEEP_FASCIA, MUSCLE, SUPERFICIAL_FASCIA, SUPERFICIAL_FAT
from models.layer.place.view import View, mean_of_known
from models.steps.segment import Layers

LEAST_LAYERS = 4
NEAR_MM = 1.5  # what a surface is recognized by lies this far above and below it
BLOCK_MM = 2.0
FINEST_MM = 0.8  # structures smaller than this are speckle
MOST_MM = 3.0  # a jump counts no more than this


def of_borders(view: View, layers: Layers) -> dict[str, float]:
    """Statistics of borders; NaN where the layers found do not allow one."""
    top = _tops(view)
    step_mm = view.spacing_mm[1]
    return {
        "layered": _layered(view),
        "sure": mean_of_known(np.array(layers.confidence)),
        "ordered": -float(layers.reordered),
        "unbroken": -_breaks_per_cm(top, step_mm),
        "smooth": -math.log(_roughness_mm(top, step_mm) + 0.02),
        "steady": -math.log(_jump_mm(top) + 0.05),
        "even": -_unevenness(view),
        "coherent": _coherence(view, top),
        "bright": _brightness(view),
        "contrast": _contrast(view),
        "lying": _lying(view),
    }


def _tops(view: View) -> NDArray[np.float64]:
    """Depth in mm of the upper surface of layers 2 to 6, (layer, slice, column); NaN where there is none."""
    tops = []
    for layer in range(SUPERFICIAL_FAT, MUSCLE + 1):
        here = view.labels == layer
        depth = here.argmax(1) * view.spacing_mm[0]
        tops.append(np.where(here.any(1), depth, np.nan))
    return np.stack(tops)


def _layered(view: View) -> float:
    """Share of the columns of the image that show at least four layers."""
    kinds = sum((view.labels == layer).any(1).astype(int) for layer in range(1, MUSCLE + 1))
    return float((np.asarray(kinds) >= LEAST_LAYERS)[view.valid.any(1)].mean())


def _breaks_per_cm(top: NDArray[np.float64], step_mm: float) -> float:
    """How often a layer begins or ends from side to side, per layer and centimeter."""
    there = np.isfinite(top)
    return float((there[..., 1:] != there[..., :-1]).mean()) * 10 / step_mm


def _roughness_mm(top: NDArray[np.float64], step_mm: float) -> float:
    """Mean bend of a surface over one millimeter either way, in mm: zero for a plane, however tilted."""
    step = max(1, round(1 / step_mm))
    bend = top[..., 2 * step :] - 2 * top[..., step:-step] + top[..., : -2 * step]
    return mean_of_known(np.minimum(abs(bend), MOST_MM))


def _jump_mm(top: NDArray[np.float64]) -> float:
    """Mean distance of a surface from itself in the next image, in mm."""
    return mean_of_known(np.minimum(abs(top[:, 1::2] - top[:, 0::2]), MOST_MM))


def _unevenness(view: View) -> float:
    """Relative change of thickness over two millimeters, mean of the layers between skin and muscle."""
    step = max(1, round(2 / view.spacing_mm[1]))
    changes = []
    for layer in range(1, MUSCLE):
        count = (view.labels == layer).sum(1).astype(float)
        left, right = count[:, :-step], count[:, step:]
        both = (left > 0) & (right > 0)
        changes.append((abs(left - right) / np.maximum(left + right, 1))[both])
    return mean_of_known(np.concatenate(changes))


def _coherence(view: View, top: NDArray[np.float64]) -> float:
    """Mean correlation of the gray levels across a surface with those across it some way to the side."""
    found = [
        value
        for layer in range(top.shape[0])
        for index in range(top.shape[1])
        if (value := _surface_coherence(view, index, top[layer, index])) is not None
    ]
    return float(np.mean(found)) if found else math.nan


def _surface_coherence(view: View, index: int, top: NDArray[np.float64]) -> float | None:
    row_mm, column_mm = view.spacing_mm
    reach = round(NEAR_MM / row_mm)
    columns = np.flatnonzero(np.isfinite(top))
    rows = np.rint(top[columns] / row_mm).astype(int)[:, None] + np.arange(-reach, reach + 1)
    inside = (rows >= 0).all(1) & (rows < view.gray.shape[1]).all(1)
    columns, rows = columns[inside], rows[inside]
    profile = view.gray[index][rows, columns[:, None]]
    block = (columns * column_mm / BLOCK_MM).astype(int)
    means = [
        profile[block == number].mean(0)
        for number in np.unique(block)
        if (block == number).sum() >= BLOCK_MM / column_mm / 2
    ]
    if len(means) < 4:
        return None
    unit = np.stack(means) - np.mean(means, axis=1, keepdims=True)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True) + 1e-3
    apart = np.triu_indices(len(means), 2)
    return float((unit @ unit.T)[apart].mean())


def _brightness(view: View) -> float:
    """Log of the gray level of a fascial membrane over that of its brighter neighbor; mean of both."""
    gray = {
        layer: float(view.gray[view.labels == layer].mean()) + 1
        for layer in range(1, MUSCLE + 1)
        if (view.labels == layer).any()
    }
    ratios = []
    for membrane in gray.keys() & {SUPERFICIAL_FASCIA, DEEP_FASCIA}:
        above = [gray[layer] for layer in sorted(gray) if layer < membrane][-1:]
        below = [gray[layer] for layer in sorted(gray) if layer > membrane][:1]
        if above and below:
            ratios.append(math.log(gray[membrane] / max(*above, *below)))
    return float(np.mean(ratios)) if ratios else math.nan


def _contrast(view: View) -> float:
    """Share of the variance of gray along the columns that the layers explain, smoothed from side to side."""
    sigma = (0, 0, 1 / view.spacing_mm[1])
    gray = gaussian_filter(view.gray, sigma)
    inside = view.labels > 0
    count = np.maximum(inside.sum(1, keepdims=True), 1)
    gray = (gray - np.where(inside, gray, 0).sum(1, keepdims=True) / count)[inside]
    if gray.size < 2 or not gray.any():
        return math.nan
    labels = view.labels[inside]
    size = np.bincount(labels, minlength=MUSCLE + 1)
    mean = np.bincount(labels, gray, MUSCLE + 1) / np.maximum(size, 1)
    return float((size * mean**2).sum() / (gray.astype(np.float64) ** 2).sum())


def _lying(view: View) -> float:
    """Share of the gradient energy of structures above speckle size that points along the beam."""
    row_mm, column_mm = view.spacing_mm
    smooth = gaussian_filter(view.gray, (0, FINEST_MM / row_mm, FINEST_MM / column_mm))
    down = np.diff(smooth, axis=1)[:, :, :-1] / row_mm
    aside = np.diff(smooth, axis=2)[:, :-1] / column_mm
    inside = view.valid[:, :-1, :-1]
    energy = float((down[inside] ** 2).sum()), float((aside[inside] ** 2).sum())
    return energy[0] / sum(energy) if sum(energy) > 0 else math.nan
