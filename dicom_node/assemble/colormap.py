"""The colors that stand for values, lowest first: by name, from a file, or from the bar in the image."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.assemble.overlay import GRAY_SPREAD
from dicom_node.errors import UnsupportedPixels

ENTRIES = 256
"""A map is used with this many colors: steps of 0.4% of its range, below what any scanner resolves."""
LEAST_LENGTH = 200.0
"""Sum of the color steps along a map; a patch of one color has none, red to green 360."""
MOST_GRAY = 0.05
"""Share of a map that may be gray: it cannot be told from B-mode, and leaving it out biases a mean."""
SAME_MAP = 24.0
"""Mean distance of a bar and the declared map, RGB 0-255; the tolerance of one pixel."""


def named(study_uid: str, name: str) -> NDArray[np.float64]:
    """(256, 3) RGB 0-255 of a map declared by name or file: CSV or PNG. Raises UnsupportedPixels."""
    if name == "jet":
        return _checked(study_uid, _jet())
    try:
        colors = _table(Path(name)) if name.lower().endswith(".csv") else _image(Path(name))
    except (OSError, ValueError) as error:
        raise UnsupportedPixels(
            study_uid,
            f"the color map file {Path(name).name} cannot be read ({type(error).__name__})",
        ) from error
    return _checked(study_uid, _even(colors))


def shown(study_uid: str, frame: NDArray[np.uint8], bar: tuple[int, ...]) -> NDArray[np.float64]:
    """(256, 3) of a bar in a frame (row, column, 3): bottom or left is lowest. Raises UnsupportedPixels.

    ``bar`` is first column, first row, last column, last row. The median across the bar passes over ticks.
    """
    left, top, right, bottom = bar
    patch = frame[top : bottom + 1, left : right + 1]
    if patch.shape[:2] != (bottom - top + 1, right - left + 1):
        raise UnsupportedPixels(study_uid, "the declared color bar lies outside the image")
    upright = patch.shape[0] >= patch.shape[1]
    colors = np.median(patch, axis=1)[::-1] if upright else np.median(patch, axis=0)
    return _checked(study_uid, _even(colors))


def check_same(study_uid: str, bar: NDArray[np.float64], declared: NDArray[np.float64]) -> None:
    """Raises UnsupportedPixels when the image shows another map than the one that is declared for it."""
    apart = float(np.linalg.norm(bar - declared, axis=1).mean())
    if apart > SAME_MAP:
        raise UnsupportedPixels(
            study_uid,
            f"the color bar in the image is not the declared map ({apart:.0f} gray levels apart)",
        )


def _jet() -> NDArray[np.float64]:
    """Blue, cyan, yellow, red, as MATLAB's jet: three shifted trapezoids."""
    place = np.linspace(0, 4, ENTRIES)
    channels = [np.clip(1.5 - np.abs(place - peak), 0, 1) for peak in (3, 2, 1)]
    return 255 * np.stack(channels, axis=1)


def _table(path: Path) -> NDArray[np.float64]:
    """Three numbers in a line, lowest color first; 0 to 1 when none is above 1, else 0 to 255."""
    colors = np.loadtxt(path, delimiter=",", ndmin=2, encoding="utf-8")
    if colors.shape[1] != 3 or len(colors) < 2 or not np.isfinite(colors).all():
        raise ValueError("not three numbers in each line")
    colors = colors * (255 if colors.max() <= 1 else 1)
    if colors.min() < 0 or colors.max() > 255:
        raise ValueError("not 0 to 255")
    return np.asarray(colors, np.float64)


def _image(path: Path) -> NDArray[np.float64]:
    """A picture of the map alone: along its longer side, bottom or left is lowest."""
    with Image.open(path) as picture:
        colors = np.asarray(picture.convert("RGB"), np.float64)
    if max(colors.shape[:2]) < 2:
        raise ValueError("one pixel")
    upright = colors.shape[0] >= colors.shape[1]
    return np.median(colors, axis=1)[::-1] if upright else np.median(colors, axis=0)


def _even(colors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Any number of evenly spaced colors as ``ENTRIES`` of them, mixed between neighbors."""
    place = np.linspace(0, len(colors) - 1, ENTRIES)
    known = np.arange(len(colors))
    return np.stack([np.interp(place, known, channel) for channel in colors.T], axis=1)


def _checked(study_uid: str, colors: NDArray[np.float64]) -> NDArray[np.float64]:
    gray = float((np.ptp(colors, axis=1) <= GRAY_SPREAD).mean())
    if gray > MOST_GRAY:
        raise UnsupportedPixels(
            study_uid, f"{gray:.0%} of the color map is gray, which cannot be told from B-mode"
        )
    if np.linalg.norm(np.diff(colors, axis=0), axis=1).sum() < LEAST_LENGTH:
        raise UnsupportedPixels(study_uid, "the color map has a single color")
    return colors
