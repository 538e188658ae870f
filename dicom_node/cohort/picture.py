"""The figure: per channels and quantity one panel, a line per layer, persons as dots, nulls as lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dicom_node.cohort.comparisons import split
from dicom_node.cohort.persons import Cohort
from dicom_node.cohort.quantities import (
    COLORS,
    CONTRIBUTION,
    ENRICHMENT,
    LAYERS,
    MAGNITUDE,
    SALIENCY,
    SHORT_NAMES,
    THICKNESS,
    UNTRAINED,
    beside,
)
from dicom_node.cohort.statistics import Array
from dicom_node.cohort.table import Cell, Ranking, Tables
from dicom_node.cohort.words import counted_persons

INK, FAINT, PAIN_INK, CONTROL_INK = "#1d2733", "#8593a3", "#9d2b22", "#2f5d8a"
PANELS_PER_ROW = 4
EDGE = {"edgecolors": "#1d273366", "linewidths": 0.3}
"""Yellow dots on white need one."""
DOTS = 300
"""Persons drawn as dots; the means are of all of them."""
TITLES = {
    SALIENCY: "Layer saliency (0-1)",
    ENRICHMENT: "Enrichment (ratio)",
    MAGNITUDE: "Size of contribution (|log-odds|)",
    CONTRIBUTION: "Signed contribution (log-odds)",
    THICKNESS: "Thickness (mm)",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a quantity by one method in one cohort."""

    cohort: Cohort
    column: str
    method: str
    cells: tuple[Cell, ...]
    ranking: Ranking | None

    @property
    def quantity(self) -> str:
        return self.column.split("|")[0]


def draw(tables: Tables) -> bytes:
    """A PNG of about 1700 pixels width."""
    blocks = [_panels(cohort, tables) for cohort in tables.cohorts]
    blocks = [block for block in blocks if block]
    heights = [math.ceil(len(block) / PANELS_PER_ROW) for block in blocks]
    figure = Figure(
        figsize=(14, 0.9 + 2.75 * max(1, sum(heights)) + 0.5 * len(blocks)),
        dpi=120,
        facecolor="white",
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    if not blocks:
        figure.text(0.5, 0.5, "No scan could be tabulated.", ha="center", fontsize=14, color=INK)
    else:
        parts = figure.subfigures(
            len(blocks), 1, height_ratios=heights, hspace=0.04, squeeze=False
        )[:, 0]
        for part, block in zip(parts, blocks, strict=True):
            _draw_block(part, block)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _panels(cohort: Cohort, tables: Tables) -> list[Panel]:
    rankings = {(item.channels, item.column): item for item in tables.rankings}
    shown = [SALIENCY, ENRICHMENT, MAGNITUDE, THICKNESS]
    if any(cohort.groups):
        shown.append(CONTRIBUTION)
    return [
        Panel(cohort, column, tables.method(column), cells, rankings.get((cohort.channels, column)))
        for quantity in shown
        for column in cohort.of(quantity)
        if (cells := tables.cells_of(cohort.channels, column))
    ]


def _draw_block(part: Any, block: list[Panel]) -> None:
    cohort = block[0].cohort
    part.suptitle(
        f"{cohort.channels}: {counted_persons(len(cohort.names))}, {cohort.scan_count} scans",
        x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK,
    )  # fmt: skip
    _legend(part, block)
    rows = math.ceil(len(block) / PANELS_PER_ROW)
    axes = np.atleast_1d(part.subplots(rows, PANELS_PER_ROW)).ravel()
    for position, (place, panel) in enumerate(zip(axes, block, strict=False)):
        _draw_panel(place, panel, position % PANELS_PER_ROW == 0)
    for place in axes[len(block) :]:
        place.axis("off")


def _draw_panel(axes: Any, panel: Panel, names: bool) -> None:
    values = panel.cohort.numbers[panel.column][:, 1:]
    by_group = panel.quantity in (CONTRIBUTION, THICKNESS) and any(panel.cohort.groups)
    if by_group:
        both = split(panel.cohort, values)
        for part, color, shift in zip(both, (PAIN_INK, CONTROL_INK), (-0.17, 0.17), strict=True):
            _draw_layers(axes, part, [color] * LAYERS, shift)
    else:
        _draw_layers(axes, values, COLORS, 0.0)
        _draw_intervals(axes, panel.cells)
    _draw_nulls(axes, panel)
    axes.set_yticks(range(LAYERS), SHORT_NAMES if names else [""] * LAYERS)
    axes.set_ylim(LAYERS - 0.45, -0.55)
    axes.set_title(TITLES[panel.quantity], loc="left", fontsize=10.5, color=INK, pad=16)
    axes.text(
        0, 1.02, panel.method, transform=axes.transAxes, fontsize=7.6, color=FAINT, va="bottom"
    )
    axes.tick_params(labelsize=9, colors=INK, length=0)
    axes.grid(axis="x", color="#e7ecf1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#c9d2dc")


def _draw_layers(axes: Any, values: Array, colors: Sequence[str], shift: float) -> None:
    """A dot per person; the mean is a diamond."""
    spread = 0.24 if shift == 0 else 0.1
    jitter = np.random.default_rng(0).uniform(-spread, spread, len(values))
    for layer in range(LAYERS):
        kept = np.isfinite(values[:, layer])
        if not kept.any():
            continue
        own, height = values[kept, layer], layer + shift + jitter[kept]
        axes.scatter(own[:DOTS], height[:DOTS], s=12, color=colors[layer], alpha=0.6, **EDGE)
        ink = INK if shift == 0 else colors[layer]
        axes.plot([own.mean()], [layer + shift], "D", color=ink, markersize=5, zorder=4)


def _draw_intervals(axes: Any, cells: Sequence[Cell]) -> None:
    for cell in cells:
        if cell.interval:
            ends = [cell.interval.low, cell.interval.high]
            axes.plot(ends, [cell.layer - 1] * 2, color=INK, linewidth=2.2, zorder=3)


def _draw_nulls(axes: Any, panel: Panel) -> None:
    """What the numbers would be if they meant nothing."""
    lines: list[tuple[float, str]] = []
    if panel.quantity == ENRICHMENT:
        lines.append((1.0, "--"))
    untrained = panel.cohort.numbers.get(beside(panel.column, UNTRAINED))
    if panel.quantity == SALIENCY and untrained is not None:
        for layer in range(LAYERS):
            known = untrained[:, layer + 1][np.isfinite(untrained[:, layer + 1])]
            if known.size:
                axes.plot([known.mean()], [layer], "x", color=PAIN_INK, markersize=7, zorder=5)
    if panel.ranking and panel.ranking.flat is not None:
        lines.append((panel.ranking.flat, "--"))
    if panel.ranking and panel.ranking.permuted:
        lines.append((panel.ranking.permuted.limit, ":"))
    if panel.quantity == CONTRIBUTION:
        lines.append((0.0, "-"))
    for position, style in lines:
        axes.axvline(position, color=INK, linewidth=1.1, linestyle=style, zorder=2)


def _legend(part: Any, block: list[Panel]) -> None:
    """What dots, diamonds, lines and colors are."""
    words = (
        "dot: a person    diamond, bar: mean, 95 % interval    dashed: a map that says nothing    "
        "dotted: 95 % of greatest means with shuffled labels    cross: untrained networks"
    )
    if any(block[0].cohort.groups):
        words += "    two rows: upper red pain, lower blue control"
    part.supxlabel(words, x=0.01, ha="left", fontsize=9, color=FAINT)
