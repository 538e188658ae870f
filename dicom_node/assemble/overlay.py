"""Which pixels are colored, and whether the color is laid over the echo or is a tint of it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# ITU-R BT.601, the weights of DICOM's own YBR_FULL (PS3.3 C.7.6.3.1.2).
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Channels of a gray pixel may differ by this much of 255 after lossy compression of its chroma.
GRAY_SPREAD = 24
# A tint colors each of the middle gray levels; of a map laid over an echo gray is left beside it.
MIDDLE = (48.0, 208.0)
TINTED_SHARE = 0.8
# A gray level that fewer pixels have says nothing.
LEAST_SHARE = 0.01
# A tint gives each gray level one color; lossy compression lets it vary by this much (standard deviation).
TINT_DEVIATION = 12.0
LUMA_BINS = 16


def spread_of(frame: NDArray) -> NDArray:
    """Largest less smallest channel, (row, column)."""
    return np.asarray(np.maximum(np.maximum(frame[..., 0], frame[..., 1]), frame[..., 2])) - (
        np.minimum(np.minimum(frame[..., 0], frame[..., 1]), frame[..., 2])
    )


def chroma_table(
    frame: NDArray, luma: NDArray[np.float32], colored: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(luma bin, 6) of middle gray levels, which may be added up over frames.

    Count, count of colored ones, sums of red - luma and of blue - luma, sums of their squares.
    """
    middle = (luma >= MIDDLE[0]) & (luma <= MIDDLE[1])
    level = luma[middle]
    bins = (level * (LUMA_BINS / 256)).astype(np.intp)
    red, blue = (frame[..., index][middle] - level for index in (0, 2))
    parts = (np.ones_like(level), colored[middle], red, blue, red**2, blue**2)
    return np.stack([np.bincount(bins, part, LUMA_BINS) for part in parts], axis=1)


def is_tint(table: NDArray[np.float64]) -> bool:
    """Is the color a function of the gray level, so that it hides nothing?"""
    total = table[:, 0].sum()
    used = table[table[:, 0] > LEAST_SHARE * total]
    if not len(used) or (used[:, 1] <= TINTED_SHARE * used[:, 0]).any():
        return False
    means = used[:, 2:4] / used[:, :1]
    variance = (used[:, 4:6] - used[:, :1] * means**2).sum() / total
    return bool(variance < TINT_DEVIATION**2)


def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One pixel wider within each slice: edges mix color and gray, and compression bleeds."""
    window = np.ones((1,) * (mask.ndim - 2) + (3, 3), np.bool_)
    return np.asarray(ndimage.binary_dilation(mask, window))
