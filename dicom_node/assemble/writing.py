"""Writing burned into the frames: lines of letters that stand still, anywhere in the picture.

Unlike ``annotation``, which must never take tissue for a mark, this must not miss a name: what it finds
decides what results say of burned-in text, and takes no pixel from the analysis.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.assemble.overlay import grown

STILL, STILL_LOSSY = 3.0, 16.0
"""Gray levels by which a letter may vary over the frames; compression mixes it with tissue."""
LEAST_CONTRAST = 10.0
"""Gray levels between a stroke and what lies around it."""
STILLER, LEAST_FRAMES = 0.25, 8
"""A letter also varies by this share of what lies around it at most, over this many frames and more."""
FROZEN_SHARE = 0.3
"""Of the pixels that are not black: more stand still in a frozen film, where stillness tells nothing."""
LOOKED_AT = 16
"""Frames that are looked at each by itself, for letters that do not stand in all of them."""
EVEN, EVEN_CONTRAST = 0.5, 40.0
"""Gray levels between neighboring pixels of one stroke in one frame, and between it and what lies around."""
BLACK = 4.0
MOVING, LEAST_MOVING = 12.0, 0.3
"""Gray levels by which speckle varies, and the share of the pixels around a letter that must."""
MOVING_LOSSY = 32.0
ALIKE = 8.0
"""Gray levels: the letters of a line are of one level."""
SHARP, LEAST_SHARP = 10.0, 0.6
"""Gray levels between a letter and this share of the pixels beside it."""
SHARP_WHITE = 40.0
"""The same of letters as bright as the picture is anywhere: saturated tissue ends less abruptly."""
AROUND = 11
"""Pixels across which the background is looked for: wider than a stroke, narrower than a letter."""
LEAST_SIZE, MOST_SIZE = 4, 48
"""Height of a letter in pixels."""
LEAST_PIXELS = 4
LEAST_LETTERS = 4
"""In a line; fewer are a label of depth or a marker, and name nobody."""
MOST_GAP = 1.6
"""Between letters of a line, and between words, in heights of a letter."""
MOST_WIDTH = 8.0
"""Of letters that touch one another, in heights."""


@dataclass(frozen=True, slots=True)
class _Letter:
    """Something of the size of a letter: its rows and columns, ends excluded, and its number."""

    top: int
    bottom: int
    left: int
    right: int
    number: int
    level: float

    @property
    def height(self) -> int:
        return self.bottom - self.top


@dataclass(frozen=True, slots=True, eq=False)
class Writing:
    """Letters, bool (row, column); ``is_frozen``: the film stands still, so that small ones may be missed."""

    letters: NDArray[np.bool_]
    is_frozen: bool


def find_writing(gray: NDArray[np.float32], colored: NDArray[np.bool_], is_lossy: bool) -> Writing:
    """Lines of letters, bool (row, column), in ``gray`` 0-255 and ``colored`` (slice, row, column).

    Lines run across or along the picture. Letters may be brighter or darker than what they stand on.
    """
    found = np.zeros(gray.shape[1:], np.bool_)
    level = gray.mean(axis=0)
    still = _still_strokes(gray, level, is_lossy)
    for strokes in still:
        found |= _lines(strokes, level) | _lines(strokes.T, level.T).T
    for position in np.unique(np.linspace(0, len(gray) - 1, LOOKED_AT).astype(int)):
        frame = gray[position]
        strokes = _even_strokes(frame)
        found |= _lines(strokes, frame, EVEN) | _lines(strokes.T, frame.T, EVEN).T
    painted = np.asarray(colored.all(axis=0))
    even = np.zeros_like(level)
    found |= _lines(painted, even) | _lines(painted.T, even.T).T
    return Writing(found, not still)


def _still_strokes(
    gray: NDArray[np.float32], level: NDArray[np.float32], is_lossy: bool
) -> tuple[NDArray[np.bool_], ...]:
    """Still pixels that are brighter, or darker, than what lies around them, or amid what moves.

    None of them in a frozen film.
    """
    low, high = gray.min(axis=0), gray.max(axis=0)
    change = high - low
    seen = high > BLACK
    still = change <= (STILL_LOSSY if is_lossy else STILL)
    if np.mean(still[seen] if seen.any() else 0.0) > FROZEN_SHARE:
        return ()
    if len(gray) >= LEAST_FRAMES:
        still |= change <= STILLER * ndimage.median_filter(change, AROUND, mode="nearest")
    background = ndimage.median_filter(level, AROUND, mode="nearest")
    least = MOVING_LOSSY if is_lossy else MOVING
    moving = ndimage.uniform_filter((change >= least).astype(np.float32), AROUND)
    return (
        still & (level >= background + LEAST_CONTRAST),
        still & (level <= background - LEAST_CONTRAST),
        still & seen & (moving >= LEAST_MOVING),
    )


def _even_strokes(frame: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Bright pixels of one frame with two neighbors as bright: strokes, and no grains of speckle."""
    background = ndimage.uniform_filter(frame, AROUND, mode="nearest")
    padded = np.pad(frame, 1, constant_values=-np.inf)
    rows, columns = frame.shape
    alike = np.zeros(frame.shape, np.uint8)
    for row in range(3):
        for column in range(3):
            beside = padded[row : row + rows, column : column + columns]
            alike += np.abs(beside - frame) <= EVEN
    return np.asarray((alike > 2) & (frame >= background + EVEN_CONTRAST))


def _lines(
    strokes: NDArray[np.bool_], level: NDArray[np.float32], alike: float = ALIKE
) -> NDArray[np.bool_]:
    """The strokes that are letters of a line from left to right."""
    parts, _ = ndimage.label(strokes, np.ones((3, 3)))
    letters = [
        letter
        for number, box in enumerate(ndimage.find_objects(parts), start=1)
        if (letter := _letter(parts, level, number, box))
    ]
    kept = [letter.number for line in _joined(letters, alike) for letter in line]
    return np.asarray(np.isin(parts, kept)) if kept else np.zeros_like(strokes)


def _letter(
    parts: NDArray[np.int32],
    level: NDArray[np.float32],
    number: int,
    box: tuple[slice, slice],
) -> _Letter | None:
    """A part of the size of a letter, of one gray level and with sharp edges."""
    rows, columns = box
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if not LEAST_SIZE <= height <= MOST_SIZE or width > MOST_WIDTH * height:
        return None
    window = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
    own = parts[window] == number
    inked = level[window][own]
    if inked.size < LEAST_PIXELS:
        return None
    beside = level[window][grown(own) & ~own]
    ink = float(inked.max() if inked.mean() >= beside.mean() else inked.min())
    least = SHARP if np.ptp(inked) > ALIKE else 0.0
    if ink >= level.max() - ALIKE:
        least = SHARP_WHITE
    if level.any() and np.mean(np.abs(beside - ink) >= least) < LEAST_SHARP:
        return None
    return _Letter(rows.start, rows.stop, columns.start, columns.stop, number, ink)


def _joined(letters: list[_Letter], alike: float) -> list[list[_Letter]]:
    """Lines of enough letters that follow one another at one height."""
    lines: list[list[_Letter]] = []
    for letter in sorted(letters, key=lambda item: item.left):
        for line in lines:
            if abs(letter.level - line[-1].level) <= alike and _follows(letter, line[-1]):
                line.append(letter)
                break
        else:
            lines.append([letter])
    return [line for line in lines if _count(line) >= LEAST_LETTERS]


def _follows(letter: _Letter, last: _Letter) -> bool:
    height = max(letter.height, last.height)
    shared = min(letter.bottom, last.bottom) - max(letter.top, last.top)
    gap = letter.left - last.right
    alike = min(letter.height, last.height) * 2 >= height
    return alike and shared * 2 >= height and -height <= gap <= MOST_GAP * height


def _count(line: list[_Letter]) -> int:
    """Letters of a line; those that touch one another are counted by their width."""
    return sum(max(1, round((item.right - item.left) / item.height)) for item in line)
