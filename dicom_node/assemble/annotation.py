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
STILL, STILL_LOSSY = 0.0, 12.0
"""Gray levels by which annotation may vary over the frames; compression mixes it with tissue."""
MOVING = 20.0
"""Gray levels by which speckle varies at least over eight frames or more."""
LEAST_LEVEL = 64.0
LEAST_PIXELS = 4
MOST_SHARE = 0.02
"""Of the tissue region: one mark is smaller. What stands still and is larger is no text."""
LEAST_MOVING = 0.7
"""Share of the pixels two beside a mark that must change."""
DARKER = 32.0
"""Those pixels must stay this much darker in every frame: saturated tissue has no such edge."""
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
    candidates = still & (low >= LEAST_LEVEL) & inside
    labels, _ = ndimage.label(candidates, np.ones((3, 3)))
    most = MOST_SHARE * np.count_nonzero(inside)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        window = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
        own = labels[window] == number
        if not LEAST_PIXELS <= np.count_nonzero(own) <= most:
            continue
        near = grown(own)
        ring = grown(near) & ~near & ~candidates[window] & inside[window]
        if not ring.any():
            continue
        around = high[window][ring]
        moving = ((high - low)[window][ring] >= MOVING).mean()
        if np.quantile(around, 0.95) > low[window][own].max() - DARKER:
            continue
        if moving >= LEAST_MOVING:
            on_tissue[window] |= own
        elif around.max() <= BLACK:
            on_black[window] |= own
    return Marks(grown(on_tissue) & inside, grown(on_black) & inside, True)
