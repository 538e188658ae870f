"""Segmentation: overlap, thickness, absent layers and predicted Dice, from examined people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.examination import Examination
from models.evaluation.metrics import pearson, spearman
from models.evaluation.tables import Table, mean, spread
from models.layer.labels import SEGMENTS

NAMES = tuple(segment.label for segment in SEGMENTS)
Cohorts = Sequence[Sequence[Examination]]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """Of all people, (person, layer): overlap, true thickness and its error in mm.

    dice, found_dice  of the layers that the image shows, of those that were found (0 where it shows none).
    confidence        predicted Dice of those that were found.
    invented          found, but not there.
    """

    dice: Floats
    found_dice: Floats
    confidence: Floats
    invented: NDArray[np.bool_]
    true_mm: Floats
    error_mm: Floats


def overlap(people: Sequence[Examination]) -> Overlap:
    """Stack what the figures show."""
    return Overlap(
        np.stack([item.dice for item in people]),
        np.stack([np.where(item.found, item.person.dice, np.nan) for item in people]).astype(float),
        np.stack([item.confidence for item in people]),
        np.stack([item.found & ~item.there for item in people]),
        np.stack([item.person.true_thickness_mm for item in people]).astype(float),
        np.stack([item.thickness_error_mm for item in people]),
    )


def tables(cohorts: Cohorts) -> list[Table]:
    """All tables on segmentation of the test cohorts."""
    everybody = [item for cohort in cohorts for item in cohort]
    return [
        _dice(cohorts),
        _thickness(everybody),
        _absent(everybody),
        _confidence(everybody),
        _order(cohorts),
    ]


def _dice(cohorts: Cohorts) -> Table:
    stacks = [np.stack([item.dice for item in cohort]) for cohort in cohorts]
    whole = np.concatenate(stacks)
    rows: list[tuple[str | float | int, ...]] = []
    for layer, name in enumerate(NAMES):
        of_cohorts = [mean(stack[:, layer]) for stack in stacks]
        known = whole[:, layer][np.isfinite(whole[:, layer])]
        rows.append(
            (
                name,
                mean(of_cohorts),
                spread(of_cohorts),
                *_percentiles(known),
            )
        )
    means = [float(np.mean([mean(column) for column in stack.T])) for stack in stacks]
    of_scan = np.nanmean(whole, axis=1) if len(whole) else np.zeros(0)
    rows.append(
        (
            "Mean of layers",
            mean(means),
            spread(means),
            *_percentiles(of_scan),
        )
    )
    return Table(
        "dice",
        "Overlap",
        "Dice on the source grid, of layers that the image shows; a layer that was missed counts 0. Mean and "
        "SD over cohorts, SD and percentiles over scans.",
        ("Layer", "Dice", "SD of cohorts", "SD of scans", "P5", "P50", "P95", "Scans"),
        tuple(rows),
    )


def _percentiles(known: Floats) -> tuple[float, float, float, float, int]:
    """Standard deviation, 5th, 50th and 95th percentile, count."""
    low, middle, high = np.percentile(known, (5, 50, 95)) if known.size else [np.nan] * 3
    return spread(known), float(low), float(middle), float(high), len(known)


def _thickness(people: Sequence[Examination]) -> Table:
    rows = []
    for layer, name in enumerate(NAMES):
        error = np.array([item.thickness_error_mm[layer] for item in people])
        true = np.array([item.person.true_thickness_mm[layer] for item in people], float)
        measured = np.array([item.person.thickness_mm[layer] for item in people], float)
        known = np.isfinite(true)
        share = float(np.isfinite(error[known]).mean()) if known.any() else float("nan")
        rows.append(
            (
                name,
                mean(true),
                mean(abs(error)),
                mean(error),
                spread(error),
                pearson(true, measured),
                share,
            )
        )
    return Table(
        "thickness",
        "Thickness",
        "Measured less true mean thickness, perpendicular to the layer, on the layers that were found. "
        "The muscle counts only where the image shows it whole.",
        (
            "Layer",
            "True mm",
            "Mean |error| mm",
            "Bias mm",
            "SD mm",
            "Correlation",
            "Measured share",
        ),
        tuple(rows),
    )


def _absent(people: Sequence[Examination]) -> Table:
    there = np.stack([item.there for item in people])
    found = np.stack([item.found for item in people])
    rows = []
    for layer, name in enumerate(NAMES):
        gone, here = ~found[~there[:, layer], layer], ~found[there[:, layer], layer]
        rows.append((name, len(gone), mean(gone), len(here), mean(here)))
    return Table(
        "absent",
        "Absent layers",
        "What the image does not show must not be reported. A share of none is a dash.",
        ("Layer", "Truly absent", "of these reported absent", "Truly there", "of these missed"),
        tuple(rows),
    )


def _confidence(people: Sequence[Examination]) -> Table:
    data = overlap(people)
    rows = [(name, *_foresight(data, layer)) for layer, name in enumerate(NAMES)]
    rows.append(("All layers pooled", *_foresight(data, slice(None))))
    return Table(
        "confidence",
        "Predicted Dice",
        "Dice that the segmentation expects of itself against the true one, of the layers that it found in "
        "the scans. One that the image does not show was invented and counts with a true Dice of 0; one that "
        "was missed has no predicted Dice and does not count.",
        (
            "Layer",
            "Spearman",
            "Predicted less true",
            "Mean |difference|",
            "Scans",
            "Invented",
            "Predicted Dice of these",
        ),
        tuple(rows),
    )


def _foresight(data: Overlap, layer: int | slice) -> tuple[float, float, float, int, int, float]:
    """Rank correlation, bias and mean size of the difference, count; how many invented, and what was said."""
    said, true = data.confidence[:, layer], data.found_dice[:, layer]
    invented = data.invented[:, layer]
    gap = (said - true)[np.isfinite(said) & np.isfinite(true)]
    return (
        spearman(said, true),
        mean(gap),
        mean(abs(gap)),
        len(gap),
        int(invented.sum()),
        mean(said[invented]),
    )


def _order(cohorts: Cohorts) -> Table:
    rows = [
        (f"test {number}", min(item.in_order for item in cohort), len(cohort))
        for number, cohort in enumerate(cohorts)
    ]
    return Table(
        "order",
        "Order of layers",
        "Lowest share of columns, of any scan, in which the layers follow each other from the skin down.",
        ("Cohort", "Columns in order", "Scans"),
        tuple(rows),
    )


def dice_of_scans(people: Sequence[Examination]) -> Floats:
    """Mean Dice over the layers that a scan shows, (person,)."""
    return np.array([mean(item.dice) for item in people])
