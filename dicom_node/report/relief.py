"""Relief: how thick each layer is over the surface of the skin, as maps of sweep by image width."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dicom_node.report.picture import FAINT, INK
from dicom_node.report.sides import THICKNESS
from models.findings import Findings, Segment
from models.scan import Scan

NOTE = (
    "Height along the beam from interface to interface, seen from the probe, in steps of one pixel.\n"
    "Not corrected for tilt, so it may exceed the thickness in the table. White: no complete column."
)


def measured_segments(scan: Scan, findings: Findings) -> tuple[Segment, ...]:
    """The segments that have a thickness in mm."""
    if not scan.geometry.in_plane_known:
        return ()
    numbers = {m.segment for m in findings.measurements if m.quantity[:2] == THICKNESS}
    return tuple(item for item in findings.segmentation.segments if item.number in numbers)


def heights_mm(scan: Scan, labelmap: NDArray[np.uint8], number: int) -> NDArray[np.float64]:
    """Height of one segment, (slice, column) in mm; NaN where it is not one run that ends in the image."""
    mask = labelmap == number
    rows = mask.shape[1]
    count = mask.sum(axis=1)
    first, last = mask.argmax(axis=1), rows - 1 - mask[:, ::-1].argmax(axis=1)
    below = np.minimum(last + 1, rows - 1)[:, None]
    ends = (last + 1 < rows) & np.take_along_axis(scan.valid, below, axis=1)[:, 0]
    whole = (count > 0) & (count == last - first + 1) & ends
    return np.where(whole, count * scan.spacing_mm[1], np.nan)


def draw_relief(figure: Figure, axes: Any, scan: Scan, plane: NDArray[np.float64]) -> None:
    """One map, with its color bar in mm; along the sweep in mm too, where the distance of frames is known."""
    slices, columns = plane.shape
    step_mm, _, column_mm = scan.spacing_mm
    is_scaled = scan.geometry.frame_step_known
    length = slices * step_mm if is_scaled else slices
    known = plane[np.isfinite(plane)]
    if not known.size:
        axes.text(0.5, 0.5, "no complete column", ha="center", transform=axes.transAxes, fontsize=8)
        axes.set_axis_off()
        return
    low, high = np.percentile(known, (2, 98))
    image = axes.imshow(
        plane,
        cmap="viridis",
        vmin=low,
        vmax=max(high, low + scan.spacing_mm[1]),
        extent=(0, columns * column_mm, length, 0),
        aspect="equal" if is_scaled else "auto",
        interpolation="nearest",
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)  # type: ignore[operator]
    axes.set_xlabel("across the image, mm", fontsize=8, color=INK)
    axes.set_ylabel(f"along the sweep, {'mm' if is_scaled else 'slices'}", fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=2)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
