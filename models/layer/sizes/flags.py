"""Flags: reasons to distrust the sizes of one scan, each with a sentence for the reader."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.findings import Flag
from models.layer import concepts
from models.layer.labels import MUSCLE, PLAUSIBLE_MM, SEGMENTS
from models.layer.sizes.extent import REPORTED_COVERAGE, Size, Sizes
from models.scan import Scan
from models.steps.measure import disordered

LEAST_COVERAGE = 0.8
MOST_REORDERED = 0.02  # of voxels: more, and the network was at a loss somewhere
MOST_DISORDERED = 0.02  # of columns
MOST_CUT = 0.02  # of the muscle's columns: fewer end at the border by a row
MOST_AT_PROBE = 0.02  # of the dermis' columns
TYPICAL = 0.15  # by how much the height of complete columns may differ from that of all


def size_flags(scan: Scan, sizes: Sizes, reordered: float) -> Iterator[Flag]:
    """Reasons to distrust the sizes; ``reordered`` is the share of voxels relabeled to order the layers."""
    yield from _presence(sizes)
    yield from _coverage(sizes)
    yield from _order(sizes, reordered)
    yield from _borders(sizes)
    yield from _plausibility(scan, sizes)
    yield from _geometry(scan)


def source_flags(scan: Scan) -> Iterator[Flag]:
    """What those who put the scan together had to leave out, or noticed."""
    if reason := scan.facts.get("shear_wave_left_out"):
        yield Flag(concepts.SHEAR_LEFT_OUT, f"Only the B-mode was analyzed; shear wave: {reason}.")
    if note := scan.facts.get("geometry_notes"):
        yield Flag(concepts.GEOMETRY_NOTE, f"Geometry: {note}.")
    if note := scan.facts.get("pixel_notes"):
        yield Flag(concepts.PIXEL_NOTE, f"Colors: {note}.")
    if scan.facts.get("lossy"):
        yield Flag(concepts.LOSSY, "The images were compressed with loss before they arrived.")


def _presence(sizes: Sizes) -> Iterator[Flag]:
    missing = [s.label for s in SEGMENTS if s.number not in sizes.ground.found]
    if missing:
        yield Flag(concepts.MISSING, f"Not found: {_list(missing)}.")
    shares = {size.label: _share(size.columns.present, sizes) for size in sizes.layers}
    partial = [f"{label} ({share:.0%})" for label, share in shares.items() if _partial(share)]
    if partial:
        yield Flag(concepts.PARTIAL, f"Found in part of the columns only: {_list(partial)}.")


def _coverage(sizes: Sizes) -> Iterator[Flag]:
    thin = [
        size.label
        for size in sizes.layers
        if not size.statistics or size.statistics.coverage < LEAST_COVERAGE
    ]
    if thin:
        yield Flag(
            concepts.THIN_COVERAGE,
            f"Measured in less than {LEAST_COVERAGE:.0%} of the columns: {_list(thin)}.",
        )
    few = [size.label for size in sizes.layers if size.too_few]
    if few:
        yield Flag(
            concepts.TOO_FEW,
            f"Seen whole in less than {REPORTED_COVERAGE:.0%} of the columns, so no thickness: {_list(few)}.",
        )


def _order(sizes: Sizes, reordered: float) -> Iterator[Flag]:
    if reordered > MOST_REORDERED:
        yield Flag(
            concepts.ORDER, f"{reordered:.0%} of the voxels were relabeled to put layers in order."
        )
    share = _share(disordered(sizes.ground), sizes)
    if share > MOST_DISORDERED:
        yield Flag(
            concepts.ORDER_LEFT, f"The layers are out of order in {share:.0%} of the columns."
        )


def _borders(sizes: Sizes) -> Iterator[Flag]:
    """Where the image ends: at the probe, and in or below the muscle."""
    for size in sizes.layers:
        present = max(1, int(size.columns.present.sum()))
        if size.columns.at_probe.sum() > MOST_AT_PROBE * present:
            yield Flag(
                concepts.SKIN_AT_PROBE,
                "The skin is measured from the first image row: gel or skin above the image is not seen.",
            )
        cut = int(size.columns.cut.sum()) / present
        if size.cut:
            yield Flag(
                concepts.TRUNCATED,
                "The image cuts the muscle off: its visible depth is given, not its thickness.",
            )
        elif size.layer == MUSCLE and cut > MOST_CUT:
            yield Flag(
                concepts.PARTLY_TRUNCATED,
                f"The image cuts the muscle off in {cut:.0%} of its columns: its thickness is that of the "
                "others.",
            )


def _plausibility(scan: Scan, sizes: Sizes) -> Iterator[Flag]:
    odd = [size.label for size in sizes.layers if _implausible(size)]
    if odd:
        yield Flag(concepts.IMPLAUSIBLE, f"Thickness outside plausible limits: {_list(odd)}.")
    field_mm = int(scan.valid.any((0, 2)).sum()) * scan.spacing_mm[1]
    total_mm = sum(size.statistics.mean for size in sizes.layers if size.statistics)
    if total_mm > field_mm:
        yield Flag(
            concepts.TOO_DEEP,
            f"The layers are {total_mm:.1f} mm in all, more than the {field_mm:.1f} mm that the image shows.",
        )
    unlike = [size.label for size in sizes.layers if _unlike(size)]
    if unlike:
        yield Flag(
            concepts.NOT_TYPICAL,
            f"Where it was measured, the layer is more than {TYPICAL:.0%} thicker or thinner than its volume "
            f"says: {_list(unlike)}.",
        )


def _geometry(scan: Scan) -> Iterator[Flag]:
    if not scan.geometry.frame_step_known:
        yield Flag(
            concepts.FRAME_STEP,
            "The distance of frames is not known: no volumes, and tilt is corrected within the image only.",
        )
    states = (scan.geometry.in_plane, scan.geometry.frame_step)
    if "declared" in states:
        yield Flag(
            concepts.DECLARED,
            "A spacing is declared by the site's configuration, not measured by the scanner.",
        )


def _share(columns: NDArray[np.bool_], sizes: Sizes) -> float:
    """Share of the columns that hold any layer."""
    return int(columns.sum()) / max(1, int(sizes.tissue.sum()))


def _partial(share: float) -> bool:
    return share < LEAST_COVERAGE


def _implausible(size: Size) -> bool:
    if size.cut or not size.statistics or size.too_few:
        return False
    low, high = PLAUSIBLE_MM[size.layer]
    return not low <= size.statistics.mean <= high


def _unlike(size: Size) -> bool:
    """Whether complete columns differ in height from all columns of the layer, whose mean is the volume's."""
    columns = size.columns
    if size.cut or size.too_few:
        return False
    height = np.asarray(columns.bottom - columns.top + 1, np.float64)
    whole, every = float(height[columns.complete].mean()), float(height[columns.present].mean())
    return abs(whole / every - 1) > TYPICAL


def _list(labels: list[str]) -> str:
    return ", ".join(labels).lower()
