"""The picture of one outcome: gray slices with the segments' outlines, the attribution, bars per segment."""

from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from dicom_node.report.table import Column, columns_of, show
from models.findings import Findings, Segment
from models.scan import Scan

INK, SOFT, FAINT, PAPER = "#1d2733", "#5d6b7a", "#8593a3", "#ffffff"
SLICES = 3
LEVEL_SLICES = 32
"""Slices whose gray levels set the contrast of all; more of them would only take longer."""

LABEL = {
    "fontsize": 7.5,
    "color": INK,
    "bbox": {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},  # no line through a number
}
EXPLAINING = ("Saliency", "Contribution")
"""Words with which the names of quantities begin that are drawn as bars."""


def draw(scan: Scan, findings: Findings) -> bytes:
    """A PNG of about 1500 pixels width. What lies outside the tissue, as burned-in names, is black."""
    shares = explaining_columns(findings)
    positions = shown_slices(findings.segmentation.labelmap)
    panels = len(positions) + bool(findings.attributions)
    _, row_mm, column_mm = scan.spacing_mm
    height_to_width = scan.shape[1] * row_mm / (scan.shape[2] * column_mm)
    panel_width = 2.9
    image_height = float(np.clip(panel_width * height_to_width, 1.6, 5.2))
    bars_height = 0.5 + 0.3 * len(findings.segmentation.segments) if shares else 0.0
    figure = Figure(
        figsize=(0.5 + panel_width * panels, image_height + bars_height + 1.15),
        dpi=120,
        facecolor=PAPER,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    heights = [image_height, bars_height] if shares else [image_height]
    grid = GridSpec(len(heights), 1, figure=figure, height_ratios=heights)
    images = grid[0].subgridspec(1, panels)
    for index, position in enumerate(positions):
        draw_slice(figure.add_subplot(images[index]), scan, findings, position)
    if findings.attributions:
        axes = figure.add_subplot(images[panels - 1])
        draw_attribution(figure, axes, scan, findings, positions[len(positions) // 2])
    if shares:
        bars = grid[1].subgridspec(1, len(shares))
        for index, column in enumerate(shares):
            axes = figure.add_subplot(bars[index])
            draw_bars(axes, column, findings.segmentation.segments, index == 0)
    _legend(figure, findings)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return _shrink(buffer)


def explaining_columns(findings: Findings) -> list[Column]:
    """The first column of each quantity that says what a decision rests on."""
    columns = columns_of(findings)
    firsts = (
        next((column for column in columns if column.name.startswith(word)), None)
        for word in EXPLAINING
    )
    return [column for column in firsts if column is not None]


def _shrink(png: BytesIO) -> bytes:
    """The same picture in 256 colors: a third of the bytes, for a page that carries it inside."""
    png.seek(0)
    smaller = BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").quantize(
            256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def shown_slices(labelmap: NDArray[np.uint8]) -> list[int]:
    """Up to three slices, evenly spread over those that have a segment, else over all."""
    found = np.flatnonzero(labelmap.any(axis=(1, 2)))
    if not found.size:
        found = np.arange(labelmap.shape[0])
    places = np.linspace(0, found.size - 1, 2 * SLICES + 1)[1::2]
    return sorted({int(found[round(place)]) for place in places})


def draw_slice(axes: Any, scan: Scan, findings: Findings, position: int) -> None:
    _gray(axes, scan, position)
    labels = findings.segmentation.labelmap[position]
    for segment in findings.segmentation.segments:
        mask = labels == segment.number
        if mask.any():
            color = color_of(segment)
            veil = np.ma.masked_where(~mask, mask)
            aspect = _aspect(scan)
            axes.imshow(veil, cmap=ListedColormap([color]), alpha=0.16, aspect=aspect)
            # A border of zeros closes outlines at the edge of the image.
            padded = np.pad(mask.astype(float), 1)
            rows, columns = (np.arange(length) - 1 for length in padded.shape)
            axes.contour(columns, rows, padded, levels=[0.5], colors=[color], linewidths=1.3)
    axes.set_xlim(-0.5, labels.shape[1] - 0.5)
    axes.set_ylim(labels.shape[0] - 0.5, -0.5)
    axes.set_title(f"slice {position + 1} of {scan.shape[0]}", fontsize=9, color=INK)


def draw_attribution(
    figure: Figure, axes: Any, scan: Scan, findings: Findings, position: int
) -> None:
    _gray(axes, scan, position)
    attribution = findings.attributions[0]
    values = attribution.map[position]
    top = float(attribution.map.max()) or 1.0
    # Faint where nothing is attributed, so that the tissue stays visible.
    image = axes.imshow(
        values,
        cmap="inferno",
        vmin=0.0,
        vmax=top,
        alpha=np.clip(values / top, 0.0, 1.0) ** 0.5 * 0.85,
        aspect=_aspect(scan),
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.outline.set_visible(False)  # type: ignore[operator]
    title = f"{attribution.concept.meaning.lower()}, slice {position + 1}"
    axes.set_title(title, fontsize=9, color=INK)


def _gray(axes: Any, scan: Scan, position: int) -> None:
    step = max(1, scan.shape[0] // LEVEL_SLICES)
    gray, valid = scan.voxels[0, ::step], scan.valid[::step]
    inside = gray[valid] if valid.any() else gray
    low, high = np.percentile(inside, (1, 99.5))
    image = np.where(scan.valid[position], scan.voxels[0, position], low)
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1), aspect=_aspect(scan))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_bars(axes: Any, column: Column, segments: tuple[Segment, ...], named: bool) -> None:
    places = np.arange(len(segments))[::-1]
    values = [column.values.get(segment.number, 0.0) for segment in segments]
    axes.barh(places, values, color=[color_of(segment) for segment in segments], height=0.66)
    ends = [end for span in column.spans.values() for end in span]
    lowest, highest = min(*values, *ends, 0.0), max(*values, *ends, 0.0)
    span = highest - lowest or 1.0
    for place, segment in zip(places, segments, strict=True):
        if segment.number in column.spans:
            axes.plot(column.spans[segment.number], (place, place), color=INK, linewidth=1.2)
    if column.null is not None:
        axes.axvline(column.null, color=INK, linewidth=0.9, linestyle="--")
    axes.set_xlim(lowest - (0.16 * span if lowest < 0 else 0.0), highest + 0.16 * span)
    for place, value, segment in zip(places, values, segments, strict=True):
        text = show(value) if segment.number in column.values else "not measured"
        side = "left" if value >= 0 else "right"
        shift = 0.02 * span if value >= 0 else -0.02 * span
        reach = (value, *column.spans.get(segment.number, ()))  # no number on top of an interval
        end = max(reach) if value >= 0 else min(reach)
        axes.text(end + shift, place, text, va="center", ha=side, **LABEL)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_yticks(places, [segment.label for segment in segments] if named else [])
    axes.tick_params(length=0, labelsize=8, colors=INK)
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    unit = f" ({column.unit})" if column.unit else ""
    axes.set_title(column.name + unit, fontsize=9, color=INK, loc="left")
    note = column.method
    if column.null is not None:
        note = f"{note}; dashed: null {show(column.null)}".lstrip("; ")
    if note:
        axes.set_xlabel(note, fontsize=7.5, color=SOFT, loc="left")


def _legend(figure: Figure, findings: Findings) -> None:
    segments = findings.segmentation.segments
    figure.legend(
        handles=[Patch(color=color_of(segment), label=segment.label) for segment in segments],
        loc="outside upper left",
        ncols=len(segments),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=1.0,
        columnspacing=1.4,
    )
    figure.text(
        0.995, 0.004, "Research use only, not for diagnosis", ha="right", fontsize=7, color="#a33"
    )


def color_of(segment: Segment) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in segment.color)
    return red, green, blue


def _aspect(scan: Scan) -> float:
    _, row_mm, column_mm = scan.spacing_mm
    return row_mm / column_mm
