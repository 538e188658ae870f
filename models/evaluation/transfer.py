"""Transfer: layers and thickness on the second simulator, ``foreign``, which no training has seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.examination import refusal, share_in_order
from models.evaluation.foreign import LAYERS, foreign_phantom
from models.evaluation.metrics import dice, spearman
from models.evaluation.person import find_layers, weights_of
from models.evaluation.tables import Cell, Table, mean, spread
from models.layer.labels import SEGMENTS
from models.layer.sizes import measure

Row = NDArray[np.float64]
COLUMNS = (
    "Layer",
    "Dice",
    "SD",
    "Lowest",
    "Mean |thickness error| mm",
    "Bias mm",
    "Measured share",
    "Predicted Dice",
)


@dataclass(frozen=True, slots=True, eq=False)
class Abroad:
    """One volume: Dice (6,), measured less true thickness in mm (6,), whether the image shows a layer whole.

    confidence  predicted Dice (6,), ``in_order`` the share of columns in order, ``refusal`` why refused.
    """

    dice: Row
    error_mm: Row
    whole: NDArray[np.bool_]
    confidence: Row
    in_order: float
    refusal: str | None


def transfer(folder: Path, seeds: Iterable[int]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over volumes of each layer's Dice and thickness error in mm.

    A thickness error counts where the layer was measured and the image shows it whole; the share of the
    volumes in which it was ("measured") stands beside it. Raises WeightsError as ``load_weights`` does.
    """
    volumes = [examine_foreign(seed, folder) for seed in seeds]
    overlap, error = _stacks(volumes)
    whole = np.stack([volume.whole for volume in volumes])
    found = {"Dice, mean of layers": (mean(overlap.mean(1)), spread(overlap.mean(1)))}
    for index, segment in enumerate(SEGMENTS):
        found[f"Dice, {segment.label}"] = mean(overlap[:, index]), spread(overlap[:, index])
    for index, segment in enumerate(SEGMENTS):
        size = abs(error[:, index])
        found[f"Thickness error mm, {segment.label}"] = mean(size), spread(size)
        measured = np.isfinite(size)[whole[:, index]]
        found[f"Thickness measured, {segment.label}"] = mean(measured), spread(measured)
    return found


def examine_foreign(seed: int, folder: Path) -> Abroad:
    """Simulate, segment, judge and measure one volume; one thread."""
    torch.set_num_threads(1)
    volume = foreign_phantom(seed)
    found = find_layers(volume.scan, weights_of(folder))
    layers = range(1, LAYERS + 1)
    overlap = [dice(found.labelmap == layer, volume.labelmap == layer) for layer in layers]
    true = np.array([volume.thickness_mm.get(layer, np.nan) for layer in layers])
    return Abroad(
        np.array(overlap),
        measure(volume.scan, found.labelmap).mean_thickness_mm() - true,
        np.isfinite(true),
        np.array(found.confidence),
        share_in_order(volume.scan, found),
        refusal(volume.scan, found, folder),
    )


def table(volumes: Sequence[Abroad]) -> Table:
    """One row per layer."""
    overlap, error = _stacks(volumes)
    said = np.stack([volume.confidence for volume in volumes])
    whole = np.stack([volume.whole for volume in volumes])
    rows: list[tuple[Cell, ...]] = []
    for index, segment in enumerate(SEGMENTS):
        rows.append(
            (
                segment.label,
                mean(overlap[:, index]),
                spread(overlap[:, index]),
                float(overlap[:, index].min()),
                mean(abs(error[:, index])),
                mean(error[:, index]),
                mean(np.isfinite(error[:, index])[whole[:, index]]),
                mean(said[:, index]),
            )
        )
    of_scan = overlap.mean(1)
    rows.append(
        (
            "Mean of layers",
            mean(of_scan),
            spread(of_scan),
            float(of_scan.min()),
            mean(abs(error[:, :5])),
            mean(error[:, :5]),
            mean(np.isfinite(error[:, :5])[whole[:, :5]]),
            mean(said),
        )
    )
    order = min(volume.in_order for volume in volumes)
    return Table(
        "transfer",
        "Transfer to the second simulator",
        f"{len(volumes)} volumes of a simulator that shares no code with the one that trained. Columns in "
        f"order: at least {order:.3f} of any volume. Predicted and true Dice: rank correlation "
        f"{spearman(said, overlap):.3f}. A missed layer counts as Dice 0, but has no thickness error and no "
        "predicted Dice; measured share is of the volumes that show the layer whole.",
        COLUMNS,
        tuple(rows),
    )


def _stacks(volumes: Sequence[Abroad]) -> tuple[Row, Row]:
    return np.stack([item.dice for item in volumes]), np.stack([item.error_mm for item in volumes])
