"""Sheets: the two pages that people look at, drawn once, sent as Secondary Capture and as PDF.

No identity is drawn: patient and study are in the header, where they can be corrected.
"""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from dicom_node.report import concepts
from dicom_node.report.cautions import side_caution
from dicom_node.report.form import PAGES
from dicom_node.report.identity import SOFTWARE
from dicom_node.report.laterality import side_of
from dicom_node.report.picture import (
    FAINT,
    INK,
    PAPER,
    SOFT,
    color_of,
    draw_attribution,
    draw_bars,
    draw_slice,
    explaining_columns,
    shown_slices,
)
from dicom_node.report.relief import NOTE, draw_relief, heights_mm, measured_segments
from dicom_node.report.table import Column, columns_of, withheld
from models.findings import Findings, Segment
from models.scan import Scan

SIZE_INCH = (11.69, 8.27)  # A4, landscape
DPI = 120  # letters of 8 points are 13 pixels high, and a page is 1403 x 992
RED = "#9c1f1f"
WARNING = "RESEARCH USE ONLY. Not a medical device. Not for diagnosis."
LEFT, RIGHT = 0.035, 0.965
SHOWN_COLUMNS = 5
"""More than these are no table that can be read on a screen; the report has them all."""


def draw_sheets(scan: Scan, findings: Findings, name: str) -> tuple[Figure, Figure]:
    """Pictures, decision and what it rests on; then thickness maps, table and every caveat."""
    return _pictures(scan, findings, name), _numbers(scan, findings, name)


def as_pixels(figure: Figure) -> NDArray[np.uint8]:
    """The page as uint8 (row, column, red green blue)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def as_pdf(figures: Sequence[Figure]) -> bytes:
    """The pages as one PDF document, without the date of its making."""
    buffer = BytesIO()
    about: dict[str, Any] = {"CreationDate": None, "Creator": SOFTWARE, "Title": WARNING}
    with PdfPages(buffer, metadata=about) as pages:
        for figure in figures:
            pages.savefig(figure)
    return buffer.getvalue()


def _page(scan: Scan, name: str, number: int) -> Figure:
    """An empty page with its heading, the warning and the foot."""
    figure = Figure(figsize=SIZE_INCH, dpi=DPI, facecolor=PAPER)
    # A PDF would join the images of a panel into one, and mix veils with the gray below them twice.
    figure.suppressComposite = True
    figure.add_artist(Rectangle((0, 0.945), 1, 0.055, color=RED, transform=figure.transFigure))
    figure.text(LEFT, 0.9725, WARNING, va="center", fontsize=12, color=PAPER, weight="bold")
    figure.text(RIGHT, 0.9725, f"page {number} of {PAGES}", va="center", ha="right", color=PAPER)
    title = f"{name.capitalize()} analysis"
    figure.text(LEFT, 0.915, title, fontsize=13, color=INK, weight="bold")
    told = [side_of(scan), *(scan.facts.get(key, "").lower() for key in ("level", "view"))]
    figure.text(RIGHT, 0.915, ", ".join(filter(None, told)), ha="right", fontsize=10, color=SOFT)
    figure.text(LEFT, 0.014, _geometry(scan), fontsize=8, color=SOFT)
    figure.text(RIGHT, 0.014, SOFTWARE, ha="right", fontsize=8, color=SOFT)
    return figure


def _geometry(scan: Scan) -> str:
    geometry, spacing = scan.geometry, scan.spacing_mm
    step, row, column = (f"{mm:.3g}" for mm in spacing)
    known = [f"pixels {row} x {column} mm ({geometry.in_plane})"]
    known.append(f"frames {step} mm apart ({geometry.frame_step})")
    return (
        f"Geometry: {', '.join(known)}, orientation {geometry.orientation}. {scan.shape[0]} slices."
    )


def _pictures(scan: Scan, findings: Findings, name: str) -> Figure:
    figure = _page(scan, name, 1)
    _decisions(figure, findings)
    positions = shown_slices(findings.segmentation.labelmap)
    panels = len(positions) + bool(findings.attributions)
    # A color bar takes its part of the last panel.
    widths = [1.0] * len(positions) + [1.12] * bool(findings.attributions)
    grid = figure.add_gridspec(
        *(1, panels),
        width_ratios=widths,
        left=LEFT,
        right=RIGHT - 0.01,
        top=0.815,
        bottom=0.44,
        wspace=0.08,
    )
    for index, position in enumerate(positions):
        draw_slice(figure.add_subplot(grid[index]), scan, findings, position)
    if findings.attributions:
        axes = figure.add_subplot(grid[panels - 1])
        draw_attribution(figure, axes, scan, findings, positions[len(positions) // 2])
    segments = findings.segmentation.segments
    _key(figure, segments)
    shown = explaining_columns(findings)
    if shown:
        bars = figure.add_gridspec(
            1, len(shown), left=0.2, right=RIGHT, top=0.345, bottom=0.125, wspace=0.12
        )
    for index, column in enumerate(shown):
        draw_bars(figure.add_subplot(bars[index]), column, segments, index == 0)
    if any(column.spans for column in shown):
        text = "Black lines: 2.5th to 97.5th percentile. Above 0 speaks for, below 0 against it."
        figure.text(RIGHT, 0.085, text, ha="right", fontsize=8.5, color=SOFT)
    doubts = [flag.code.meaning for flag in findings.flags]
    if doubts:
        text = f"Reasons to distrust (page 2): {'; '.join(doubts)}."
        lines = textwrap.wrap(text, 175, max_lines=2, placeholder=" ...")
        figure.text(LEFT, 0.045, "\n".join(lines), fontsize=8.5, color=RED)
    return figure


def _decisions(figure: Figure, findings: Findings) -> None:
    """What was decided, how sure it is, and over what."""
    if not findings.classifications:
        why = withheld(findings) or "Nothing was classified."
        lines = textwrap.wrap(why, 150, max_lines=2, placeholder=" ...")
        figure.text(LEFT, 0.865, "\n".join(lines), fontsize=11, color=INK)
    for decision in findings.classifications[:1]:
        outcome, probability = decision.outcomes[0]
        ends = [
            f"{item.value:.0f}"
            for item in findings.measurements
            if item.segment is None and item.quantity.value == concepts.INTERVAL_OF
        ]
        interval = f" ({ends[0]} to {ends[1]} % over the ensemble)" if len(ends) == 2 else ""
        figure.text(
            LEFT,
            0.865,
            f"{outcome.meaning}: probability {100 * probability:.0f} %{interval}",
            fontsize=12,
            color=INK,
        )
        figure.text(
            RIGHT,
            0.865,
            f"log-odds {decision.logit:+.2f} (0 is even)",
            ha="right",
            fontsize=10,
            color=SOFT,
        )


def _key(figure: Figure, segments: Sequence[Segment]) -> None:
    figure.legend(
        handles=[Patch(color=color_of(item), label=item.label) for item in segments],
        loc="center",
        bbox_to_anchor=(0.5, 0.405),
        ncols=len(segments),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.0,
        columnspacing=1.4,
    )


def _numbers(scan: Scan, findings: Findings, name: str) -> Figure:
    figure = _page(scan, name, 2)
    measured = measured_segments(scan, findings)
    if measured:
        title = "Thickness over the skin"
        figure.text(LEFT, 0.878, title, fontsize=11, color=INK, weight="bold")
        figure.text(0.235, 0.895, NOTE, fontsize=8, color=SOFT, va="top")
        columns = min(3, len(measured))
        grid = figure.add_gridspec(
            -(-len(measured) // 3),
            columns,
            left=0.065,
            right=RIGHT - 0.015,
            top=0.825,
            bottom=0.425,
            wspace=0.24,
            hspace=0.55,
        )
        for index, segment in enumerate(measured[:6]):
            axes = figure.add_subplot(grid[index // columns, index % columns])
            plane = heights_mm(scan, findings.segmentation.labelmap, segment.number)
            draw_relief(figure, axes, scan, plane)
            axes.set_title(f"{segment.label}, mm", fontsize=9, color=INK)
    else:
        text = "No thickness was measured in millimeters."
        figure.text(LEFT, 0.86, text, fontsize=11, color=INK)
    _table(figure, findings)
    _caveats(figure, scan, findings)
    return figure


def _table(figure: Figure, findings: Findings) -> None:
    """A row per segment, a column per quantity that is read first."""
    everything = columns_of(findings)
    chief = [column for column in everything if column.chief] or list(everything)
    # The first column of a quantity is its main one; the report has them all.
    shown = list({column.name: column for column in reversed(chief)}.values())[::-1]
    shown = shown[:SHOWN_COLUMNS]
    axes = figure.add_axes((LEFT, 0.05, 0.56, 0.315))
    axes.set_axis_off()
    if not shown:
        return
    segments = findings.segmentation.segments
    found = set(np.unique(findings.segmentation.labelmap))
    names = [
        textwrap.fill(item.label if item.number in found else f"{item.label}: not found", 22)
        for item in segments
    ]
    cells = [
        [name, *(textwrap.fill(column.cells.get(item.number, "-"), 24) for column in shown)]
        for name, item in zip(names, segments, strict=True)
    ]
    table = axes.table(
        cellText=cells,
        colLabels=["", *map(_head, shown)],
        colWidths=[0.26, *_widths(shown, 0.74)],
        cellLoc="left",
        colLoc="left",
        bbox=Bbox.unit(),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (row, _), cell in table.get_celld().items():
        cell.set_linewidth(0.4)
        cell.set_edgecolor(FAINT)
        cell.set_text_props(color=INK, weight="bold" if row == 0 else "normal")
        cell.PAD = 0.03
        cell.set_height(cell.get_height() * (1.4 if row == 0 else 1.0))


def _widths(columns: Sequence[Column], room: float) -> list[float]:
    """Shares of a width, by the longest cell of each column."""
    longest = [max(12, *map(len, column.cells.values())) for column in columns]
    return [room * length / sum(longest) for length in longest]


def _head(column: Column) -> str:
    unit = f", {column.unit}" if column.unit and column.unit not in column.name else ""
    longest = max(12, *map(len, column.cells.values()))
    return textwrap.fill(f"{column.name}{unit}", longest + 2)


def _caveats(figure: Figure, scan: Scan, findings: Findings) -> None:
    """Every reason to distrust, in full, as small as it must be to be complete."""
    lines: list[str] = []
    for sentence in filter(None, (side_caution(scan), *(flag.sentence for flag in findings.flags))):
        lines += textwrap.wrap(sentence, 66, initial_indent="- ", subsequent_indent="  ")
    if not lines:
        lines = ["none was found by the program"]
    size = 8.0 if len(lines) <= 20 else 6.5
    room = 20 if size > 7 else 27
    if len(lines) > room:
        lines = [*lines[: room - 1], "... the report has the rest."]
    figure.text(0.615, 0.355, "Reasons to distrust", fontsize=11, color=RED, weight="bold")
    figure.text(
        0.615, 0.345, "\n".join(lines), fontsize=size, color=INK, va="top", linespacing=1.25
    )
