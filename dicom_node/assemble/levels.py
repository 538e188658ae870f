"""B-mode of more than 8 bits into gray levels 0-255, by what the object declares and never by its content."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_node.assemble.instances import Frame

WHITE = 255.0
WINDOWS = ("", "LINEAR", "LINEAR_EXACT")


def to_white(levels: NDArray[np.float32], frames: Sequence[Frame]) -> str:
    """Map ``levels`` (slice, row, column) of stored values in place; says how, "" where nothing was to do.

    By the window that all frames have (PS3.3 C.11.2.1.2), as a screen shows them; else by the number of
    bits, where values above 255 show that they are used. Both keep the order of gray levels.
    """
    header = frames[0].instance.header
    bits = int(header.BitsStored)
    if bits <= 8 or int(header.SamplesPerPixel) > 1:
        return ""
    lowest = -(2 ** (bits - 1)) if int(header.PixelRepresentation) else 0
    highest = lowest + 2**bits - 1
    window = _window(frames)
    if window:
        first, last = window
        words = f"{bits} bits by window {first:g} to {last:g}"
    elif levels.max() > WHITE or levels.min() < 0:
        first, last = lowest, highest
        words = f"{bits} bits by their full range"
    else:
        return ""
    if header.PhotometricInterpretation == "MONOCHROME1":
        # The levels are inverted already: what was the lowest stored value is the highest level.
        first, last = lowest + highest - last, lowest + highest - first
    levels -= np.float32(first)
    levels *= np.float32(WHITE / (last - first))
    np.clip(levels, 0, WHITE, out=levels)
    return words


def _window(frames: Sequence[Frame]) -> tuple[float, float] | None:
    """Stored values shown black and white; None without one linear window for all frames."""
    windows = {_of_frame(frame) for frame in frames}
    return windows.pop() if len(windows) == 1 else None


def _of_frame(frame: Frame) -> tuple[float, float] | None:
    group = "FrameVOILUTSequence"
    center, width = (_first(frame.value(group, f"Window{part}")) for part in ("Center", "Width"))
    function = str(frame.value(group, "VOILUTFunction") or "")
    if center is None or width is None or width <= 1 or function not in WINDOWS:
        return None
    if function == "LINEAR_EXACT":
        ends = center - width / 2, center + width / 2
    else:
        ends = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    transformation = "PixelValueTransformationSequence"
    slope = _first(frame.value(transformation, "RescaleSlope"))
    intercept = _first(frame.value(transformation, "RescaleIntercept"))
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if not slope > 0 or not np.isfinite((*ends, slope, intercept)).all():
        return None
    return (ends[0] - intercept) / slope, (ends[1] - intercept) / slope


def _first(value: object) -> float | None:
    """The first of several windows is the one a viewer opens with."""
    if value is None or value == "":
        return None
    return (
        float(value[0])
        if isinstance(value, Sequence) and not isinstance(value, str)
        else float(str(value))
    )
