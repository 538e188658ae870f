"""Place: does a scan show the layered soft tissue of the lower back at all?

The segmentation network labels whatever it is given. So a scan is judged by what was found in it: a handful
of statistics of the layers and of the gray levels along them. Each is compared with its typical value in
simulated lumbar scans; falling short costs points, exceeding it wins nothing. Too many points in sum, and
the scan is refused for the statistic that cost most. What is typical, and what a shortfall costs, stands in
place.toml, which ``models.training.place`` writes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from models.analysis import Refusal
from models.layer.card import read_card
from models.layer.labels import DEEP_FASCIA, MUSCLE, SUPERFICIAL_FASCIA, SUPERFICIAL_FAT
from models.scan import Scan
from models.steps.grid import bounding_box, grid_shape, resample, resample_labels
from models.steps.segment import Layers

FILE = "place.toml"
GRID_MM = (0.2, 0.3)
PAIRS_OF_SLICES = 3  # spread over the sweep: a gate need not read every slice
LEAST_LAYERS = 4
NEAR_MM = 1.5  # what a surface is recognized by lies this far above and below it
BLOCK_MM = 2.0
FINEST_MM = 0.8  # structures smaller than this are speckle
MOST_MM = 3.0  # a jump counts no more than this
MOST_SPREADS = 8.0  # one statistic costs no more than this
NOT_LUMBAR = "This does not look like a scan of the lower back"

REASONS = {
    "layered": "in most places fewer than four tissue layers lie one below the other",
    "sure": "the tissue layers cannot be told from each other with any confidence",
    "ordered": "the tissue layers do not follow each other from the skin down to the muscle",
    "unbroken": "the tissue layers break off again and again from side to side",
    "smooth": "the borders of the tissue layers are ragged",
    "steady": "the tissue layers jump from one image to the next",
    "even": "the thickness of the tissue layers changes abruptly",
    "coherent": "the borders of the tissue layers do not look the same along their course",
    "bright": "there are no bright fascial membranes between darker fat and muscle",
    "contrast": "the tissue layers do not differ in brightness",
    "lying": "the image is not made of layers that lie side by side below the probe",
}
"""The statistics, and what it means to fall short of one, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Norm:
    """What is typical of lumbar scans, how much it spreads, and what one spread of shortfall costs."""

    typical: float
    spread: float
    cost: float


@dataclass(frozen=True, slots=True)
class Rule:
    """The norm of each statistic, the points that are too many, and what it was all fitted on."""

    norms: Mapping[str, Norm]
    most_points: float
    statement: str


@dataclass(frozen=True, slots=True)
class Place:
    """The verdict on one scan: its statistics, what each cost, and how many points were too many."""

    statistics: Mapping[str, float]
    points: Mapping[str, float]
    most_points: float

    @property
    def total(self) -> float:
        return sum(self.points.values())

    @property
    def reason(self) -> str | None:
        """Why the scan is refused, in one sentence; None when it is not."""
        if self.total <= self.most_points:
            return None
        worst = max(self.points, key=lambda name: self.points[name])
        return f"{NOT_LUMBAR}: {REASONS[worst]}."


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Some slices on the grid of the gate: gray levels, labels, validity, spacing of rows and columns."""

    gray: NDArray[np.float32]
    labels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    spacing_mm: tuple[float, float]


def check_place(scan: Scan, layers: Layers, rule: Rule) -> Place:
    """The verdict on a scan that passes. Raises Refusal, with the reason, on one that does not."""
    place = judge(scan, layers, rule)
    if place.reason:
        raise Refusal(place.reason, "not-lumbar")
    return place


def judge(scan: Scan, layers: Layers, rule: Rule) -> Place:
    """Compare a scan and the layers found in it with what is typical."""
    found = statistics(scan, layers)
    points = {name: _points(found[name], norm) for name, norm in rule.norms.items()}
    return Place(found, points, rule.most_points)


def shortfall(value: float, norm: Norm) -> float:
    """How many spreads below typical, from 0 to ``MOST_SPREADS``; a statistic without a value is worst."""
    if not math.isfinite(value):
        return MOST_SPREADS
    return min(max((norm.typical - value) / norm.spread, 0.0), MOST_SPREADS)


def _points(value: float, norm: Norm) -> float:
    return norm.cost * shortfall(value, norm)


def load_rule(folder: Path) -> Rule | None:
    """Read place.toml; None where no gate was fitted to the weights of this folder.

    Raises WeightsError naming file and key where it is broken.
    """
    path = folder / FILE
    if not path.exists():
        return None
    card = read_card(path)
    tables = {name: card.part("norms").part(name) for name in REASONS}
    norms = {
        name: Norm(table.number("typical"), table.above("spread", 0), table.number("cost"))
        for name, table in tables.items()
    }
    return Rule(norms, card.number("most_points"), card.text("statement"))


def statistics(scan: Scan, layers: Layers) -> dict[str, float]:
    """All statistics, larger is more like a lumbar scan; NaN where the layers found do not allow one."""
    return _statistics(_view(scan, layers), layers.reordered, layers.confidence)


def _statistics(view: _View, reordered: float, confidence: tuple[float, ...]) -> dict[str, float]:
    top = _tops(view)
    step_mm = view.spacing_mm[1]
    return {
        "layered": _layered(view),
        "sure": _mean(np.array(confidence)),
        "ordered": -float(reordered),
        "unbroken": -_breaks_per_cm(top, step_mm),
        "smooth": -math.log(_roughness_mm(top, step_mm) + 0.02),
        "steady": -math.log(_jump_mm(top) + 0.05),
        "even": -_unevenness(view),
        "coherent": _coherence(view, top),
        "bright": _brightness(view),
        "contrast": _contrast(view),
        "lying": _lying(view),
    }


def _view(scan: Scan, layers: Layers) -> _View:
    box = bounding_box(scan.valid)
    starts = np.unique(
        np.linspace(0, max(scan.shape[0] - 2, 0), PAIRS_OF_SLICES).round().astype(int)
    )
    used = np.minimum((starts[:, None] + [0, 1]).ravel(), scan.shape[0] - 1)
    valid = scan.valid[used][:, box[1], box[2]]
    gray = np.where(valid, scan.channel("b-mode")[used][:, box[1], box[2]], np.float32(0))
    source = valid.shape[1:]
    shape = grid_shape((source[0], source[1]), scan.spacing_mm[1:], GRID_MM)
    spacing = [scan.spacing_mm[1 + axis] * source[axis] / shape[axis] for axis in range(2)]
    return _View(
        resample(gray, shape),
        resample_labels(layers.labelmap[used][:, box[1], box[2]], shape),
        resample_labels(valid.astype(np.uint8), shape).astype(bool),
        (spacing[0], spacing[1]),
    )


def _tops(view: _View) -> NDArray[np.float64]:
    """Depth in mm of the upper surface of layers 2 to 6, (layer, slice, column); NaN where there is none."""
    tops = []
    for layer in range(SUPERFICIAL_FAT, MUSCLE + 1):
        here = view.labels == layer
        depth = here.argmax(1) * view.spacing_mm[0]
        tops.append(np.where(here.any(1), depth, np.nan))
    return np.stack(tops)


def _layered(view: _View) -> float:
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
    return _mean(np.minimum(abs(bend), MOST_MM))


def _jump_mm(top: NDArray[np.float64]) -> float:
    """Mean distance of a surface from itself in the next image, in mm."""
    return _mean(np.minimum(abs(top[:, 1::2] - top[:, 0::2]), MOST_MM))


def _unevenness(view: _View) -> float:
    """Relative change of thickness over two millimeters, mean of the layers between skin and muscle."""
    step = max(1, round(2 / view.spacing_mm[1]))
    changes = []
    for layer in range(1, MUSCLE):
        count = (view.labels == layer).sum(1).astype(float)
        left, right = count[:, :-step], count[:, step:]
        both = (left > 0) & (right > 0)
        changes.append((abs(left - right) / np.maximum(left + right, 1))[both])
    return _mean(np.concatenate(changes))


def _coherence(view: _View, top: NDArray[np.float64]) -> float:
    """Mean correlation of the gray levels across a surface with those across it some way to the side."""
    found = [
        value
        for layer in range(top.shape[0])
        for index in range(top.shape[1])
        if (value := _surface_coherence(view, index, top[layer, index])) is not None
    ]
    return float(np.mean(found)) if found else math.nan


def _surface_coherence(view: _View, index: int, top: NDArray[np.float64]) -> float | None:
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


def _brightness(view: _View) -> float:
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


def _contrast(view: _View) -> float:
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


def _lying(view: _View) -> float:
    """Share of the gradient energy of structures above speckle size that points along the beam."""
    row_mm, column_mm = view.spacing_mm
    smooth = gaussian_filter(view.gray, (0, FINEST_MM / row_mm, FINEST_MM / column_mm))
    down = np.diff(smooth, axis=1)[:, :, :-1] / row_mm
    aside = np.diff(smooth, axis=2)[:, :-1] / column_mm
    inside = view.valid[:, :-1, :-1]
    energy = float((down[inside] ** 2).sum()), float((aside[inside] ** 2).sum())
    return energy[0] / sum(energy) if sum(energy) > 0 else math.nan


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
