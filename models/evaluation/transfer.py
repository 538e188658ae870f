"""Transfer: overlap and thickness error of the segmentation network on the second simulator, ``foreign``."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.foreign import LAYERS, foreign_phantom
from models.evaluation.metrics import dice
from models.evaluation.person import find_layers
from models.layer.labels import SEGMENTS
from models.layer.sizes import measure
from models.layer.weights import Weights, load_weights

Row = NDArray[np.float64]


def transfer(folder: Path, seeds: Iterable[int]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over volumes of each layer's Dice and thickness error in mm.

    A thickness error counts where the layer was measured and the image shows it whole; the share of the
    volumes in which it was ("measured") stands beside it. Raises WeightsError as ``load_weights`` does.
    """
    torch.set_num_threads(1)
    weights = load_weights(folder)
    rows = [examine_foreign(seed, weights) for seed in seeds]
    overlap, error, whole = (np.stack(part) for part in zip(*rows, strict=True))
    found = {"Dice, mean of layers": _spread(overlap.mean(1))}
    for index, segment in enumerate(SEGMENTS):
        found[f"Dice, {segment.label}"] = _spread(overlap[:, index])
    for index, segment in enumerate(SEGMENTS):
        found[f"Thickness error mm, {segment.label}"] = _spread(error[:, index])
        measured = np.isfinite(error[:, index])[whole[:, index]]
        found[f"Thickness measured, {segment.label}"] = _spread(measured.astype(float))
    return found


def examine_foreign(seed: int, weights: Weights) -> tuple[Row, Row, NDArray[np.bool_]]:
    """One volume: Dice (6,), absolute thickness error in mm (6,), whether the image shows the layer whole."""
    volume = foreign_phantom(seed)
    labels = find_layers(volume.scan, weights).labelmap
    layers = range(1, LAYERS + 1)
    overlap = [dice(labels == layer, volume.labelmap == layer) for layer in layers]
    true = np.array([volume.thickness_mm.get(layer, np.nan) for layer in layers])
    error = abs(measure(volume.scan, labels).mean_thickness_mm() - true)
    return np.array(overlap), error, np.isfinite(true)


def _spread(values: Row) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    sd = float(known.std(ddof=1)) if known.size > 1 else float("nan")
    return (float(known.mean()) if known.size else float("nan")), sd
