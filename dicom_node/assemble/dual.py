"""Two pictures in one frame: where the B-mode is, and where the same image with shear wave laid over it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.assemble.overlay import grown
from dicom_node.assemble.regions import Box
from dicom_node.errors import UnsupportedPixels

LEAST_COLORED = 0.01
"""Share of a picture that a shear-wave box covers at least; less is a caliper."""
MOST_COLORED = 0.1
"""The B-mode has at most this share of the color that its neighbor has."""
SAME_IMAGE = 0.8
"""Correlation of gray levels: 0.95 and more for one image twice, whatever its compression."""
LEAST_COMPARED = 1000
COMPARED_FRAMES = 8
SAME_SIZE = 1


@dataclass(frozen=True, slots=True)
class Dual:
    """The B-mode and its twin of equal size."""

    tissue: Box
    twin: Box


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Gray levels and which are colored, (slice, row, column); where the color bar is (row, column)."""

    gray: NDArray[np.float32]
    colored: NDArray[np.bool_]
    bar: NDArray[np.bool_]

    def color_share(self, box: Box) -> float:
        return float((self.colored & ~self.bar)[box.slices].mean())


def split(study_uid: str, boxes: Sequence[Box], declared: str, frames: Frames) -> Dual | None:
    """The two pictures of a frame, or None when it is one.

    ``boxes`` are the tissue regions of the object, ``declared`` is what the site says (settings, ``dual``).
    Raises UnsupportedPixels when there are several pictures and nothing tells which is which.
    """
    shape = frames.gray.shape[1:]
    if len(boxes) > 2 or (len(boxes) == 2 and not _equal(*boxes)):
        raise UnsupportedPixels(
            study_uid, f"{len(boxes)} tissue regions of different kind in one frame"
        )
    if declared:
        dual = _declared(study_uid, boxes, declared, shape)
        _check_color(study_uid, dual, frames)
    elif len(boxes) == 2:
        dual = _by_color(study_uid, boxes, frames)
    else:
        return None
    _check_same(study_uid, dual, frames)
    return dual


def _equal(one: Box, two: Box) -> bool:
    rows = (one.last_row - one.row) - (two.last_row - two.row)
    columns = (one.last_column - one.column) - (two.last_column - two.column)
    return max(abs(rows), abs(columns)) <= SAME_SIZE


def _trimmed(one: Box, two: Box) -> Dual:
    """Both of the smaller size, so that a pixel of one has its twin in the other."""
    rows = min(one.last_row - one.row, two.last_row - two.row)
    columns = min(one.last_column - one.column, two.last_column - two.column)
    first, second = (
        Box(box.row, box.column, box.row + rows, box.column + columns) for box in (one, two)
    )
    return Dual(first, second)


def _declared(study_uid: str, boxes: Sequence[Box], declared: str, shape: tuple[int, ...]) -> Dual:
    """The two regions in order; else halves of the frame, of which a single region may calibrate one."""
    first, _ = declared.split("-")
    across = first in ("left", "right")
    if len(boxes) == 2:
        pair = sorted(boxes, key=lambda box: box.column if across else box.row)
    else:
        rows, columns = shape
        half = (
            Box(0, 0, rows - 1, columns // 2 - 1)
            if across
            else Box(0, 0, rows // 2 - 1, columns - 1)
        )
        down, aside = (0, columns - columns // 2) if across else (rows - rows // 2, 0)
        other = half.moved(down, aside)
        if boxes:
            half, other = _around(study_uid, boxes[0], half, other)
        pair = [half, other]
    if first in ("right", "bottom"):
        pair.reverse()
    return _trimmed(*pair)


def _around(study_uid: str, region: Box, half: Box, other: Box) -> tuple[Box, Box]:
    """One region in one half has its twin at the same place of the other; one over both is cut in two."""
    down, aside = other.row - half.row, other.column - half.column
    if region.inside(half):
        return region, region.moved(down, aside)
    if region.inside(other):
        return region.moved(-down, -aside), region
    rows, columns = region.last_row - region.row + 1, region.last_column - region.column + 1
    if aside:
        first = Box(region.row, region.column, region.last_row, region.column + columns // 2 - 1)
        return first, first.moved(0, columns - columns // 2)
    first = Box(region.row, region.column, region.row + rows // 2 - 1, region.last_column)
    return first, first.moved(rows - rows // 2, 0)


def _by_color(study_uid: str, boxes: Sequence[Box], frames: Frames) -> Dual:
    """Of two equal tissue regions the B-mode is the one without color."""
    one, two = sorted(boxes, key=frames.color_share)
    plain, painted = frames.color_share(one), frames.color_share(two)
    if painted < LEAST_COLORED or plain > MOST_COLORED * painted:
        raise UnsupportedPixels(
            study_uid,
            "two tissue regions in one frame, and color does not tell B-mode from shear wave: declare dual "
            "in [[sources]]",
        )
    return _trimmed(one, two)


def _check_color(study_uid: str, dual: Dual, frames: Frames) -> None:
    plain, painted = frames.color_share(dual.tissue), frames.color_share(dual.twin)
    if plain > max(LEAST_COLORED, MOST_COLORED * painted):
        raise UnsupportedPixels(
            study_uid, "the half that is declared as B-mode shows color: another dual is declared"
        )


def _check_same(study_uid: str, dual: Dual, frames: Frames) -> None:
    """The gray of both halves must be one image, as far as color leaves any of it to compare."""
    step = max(1, len(frames.gray) // COMPARED_FRAMES)
    hidden = frames.colored[::step] | frames.bar
    gray = frames.gray[::step]
    one, two = (gray[box.slices] for box in (dual.tissue, dual.twin))
    seen = ~grown(hidden[dual.tissue.slices] | hidden[dual.twin.slices])
    seen &= (one > 0) | (two > 0)
    if np.count_nonzero(seen) < LEAST_COMPARED or one[seen].std() == 0 or two[seen].std() == 0:
        return
    if np.corrcoef(one[seen], two[seen])[0, 1] < SAME_IMAGE:
        raise UnsupportedPixels(
            study_uid,
            "the two halves of the frames do not show the same image; if only some series of this scanner "
            "are dual, name them in sources.match",
        )
