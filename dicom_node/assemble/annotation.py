"""Gray annotation burned into the tissue: text, calipers and markers that stand still while the echo changes.

It can be told only over several frames, and only where the tissue around it changes and stays darker: white
text on a single frame, on a frozen film, or on tissue as bright as itself is not found.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.assemble.overlay import grown

LEAST_FRAMES = 8
STILL, STILL_LOSSY = 0.0, 16.0
"""Gray levels by which annotation may vary over the frames; compression mixes it with tissue."""
MOVING = 12.0
"""Gray levels by which speckle varies at least over eight frames or more."""
LEAST_LEVEL = 64.0
LEAST_PIXELS = 4
REACH = 2
"""Pixels from stroke to stroke of one mark, and from a full stroke to its smooth edges."""
MOST_SHARE = 0.02
"""Of the tissue region: one mark is smaller. What stands still and is larger is no text."""
LEAST_MOVING = 0.7
"""Share of the pixels around a mark that must change."""
DARKER = 32.0
"""They must stay this much darker than the mark in every frame: saturated tissue has no such edge."""
SHARP = 16.0
"""The pixel beside a full stroke is darker by this; blur, or an edge that moves, leaves less ..."""
MOST_BLURRED = 0.25
"""... and in a mark only this share of the pixels beside it may be brighter."""
MOST_REACHING = 0.02
"""Of the pixels beside a mark, in any frame as bright as itself; where saturated tissue ends, more are."""
BRIGHT_TISSUE = 1e-3
"""After lossy compression nothing stands still exactly: then no more tissue than this may be as bright."""
BLACK = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """Annotation, bool (row, column): on tissue, and on black; not ``searched`` in too few frames."""

    on_tissue: NDArray[np.bool_]
    on_black: NDArray[np.bool_]
    searched: bool


def find_marks(gray: NDArray[np.float32], inside: NDArray[np.bool_], is_lossy: bool) -> Marks:
    """Annotation in ``gray`` 0-255 (slice, row, column), within the region ``inside`` (row, column)."""
    on_tissue, on_black = np.zeros_like(inside), np.zeros_like(inside)
    if len(gray) < LEAST_FRAMES:
        return Marks(on_tissue, on_black, False)
    low, high = gray.min(axis=0), gray.max(axis=0)
    still = high - low <= (STILL_LOSSY if is_lossy else STILL)
    full = still & (low >= LEAST_LEVEL) & inside
    marks, _ = ndimage.label(_reached(full), np.ones((3, 3)))
    most = MOST_SHARE * np.count_nonzero(inside)
    tissue = high[inside & (marks == 0)]
    for number, box in enumerate(ndimage.find_objects(marks), start=1):
        window = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        own = marks[window] == number
        strokes = own & full[window]
        around = grown(own) & ~own & inside[window]
        if not LEAST_PIXELS <= np.count_nonzero(strokes) <= most or not around.any():
            continue
        level = float(low[window][strokes].max())
        brightest = float(np.quantile(high[window][around], 0.95))
        if brightest > level - DARKER or _is_blurred(high[window], strokes, level):
            continue
        if is_lossy and np.mean(tissue >= level - SHARP) > BRIGHT_TISSUE:
            continue
        ink = own & inside[window] & (low[window] > brightest)
        if np.mean((high - low)[window][around] >= MOVING) >= LEAST_MOVING:
            on_tissue[window] |= ink
        elif high[window][around].max() <= BLACK:
            on_black[window] |= ink
    return Marks(grown(on_tissue) & inside, grown(on_black) & inside, True)


def _reached(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3), np.bool_), REACH))


def _is_blurred(high: NDArray[np.float32], strokes: NDArray[np.bool_], level: float) -> bool:
    edge = high[grown(strokes) & ~strokes]
    return bool(
        np.mean(edge >= level - SHARP) > MOST_BLURRED or np.mean(edge >= level) > MOST_REACHING
    )
