"""Rearranged: lumbar phantoms turned, flipped, cut to pieces or stripped of all but their spectrum."""

import numpy as np
from scipy.ndimage import zoom

from models.phantom import PhantomRequest, synthesize
from models.phantom.streams import stream
from models.training.negatives.fields import Gray, Maker


def _lumbar(seed: int, request: PhantomRequest) -> Gray:
    return synthesize(seed, request).scan.channel("b-mode").copy()


def _upside_down(seed: int, request: PhantomRequest) -> Gray:
    return _lumbar(seed, request)[:, ::-1]


def _turned(seed: int, request: PhantomRequest) -> Gray:
    """A lumbar scan turned by 90 degrees, stretched onto the same grid."""
    _, rows, columns = request.shape
    turned = _lumbar(seed, request).transpose(0, 2, 1)
    factor = (1, rows / columns, columns / rows)
    return np.asarray(zoom(turned, factor, order=1)[:, :rows, :columns], np.float32)


def _blocks(seed: int, request: PhantomRequest) -> Gray:
    """A lumbar scan cut into blocks and put together in another order."""
    random = stream(seed, "negative.blocks")
    down, aside = (int(number) for number in random.integers(2, 6, 2))
    order = random.permutation(down * aside)
    while np.mean(order // aside != np.arange(order.size) // aside) < 0.5:
        order = random.permutation(down * aside)  # most must come from another depth
    gray = _lumbar(seed, request)
    height, width = gray.shape[1] // down, gray.shape[2] // aside
    mixed = gray.copy()
    for target, source in enumerate(order):
        (row, column), (from_row, from_column) = divmod(target, aside), divmod(int(source), aside)
        mixed[:, row * height : (row + 1) * height, column * width : (column + 1) * width] = gray[
            :,
            from_row * height : (from_row + 1) * height,
            from_column * width : (from_column + 1) * width,
        ]
    return mixed


def _rows_mixed(seed: int, request: PhantomRequest) -> Gray:
    """A lumbar scan whose rows were shuffled."""
    order = stream(seed, "negative.rows").permutation(request.shape[1])
    return _lumbar(seed, request)[:, order]


def _columns_slipped(seed: int, request: PhantomRequest) -> Gray:
    """A lumbar scan whose columns, a few millimeters at a time, were pushed up or down."""
    random = stream(seed, "negative.slipped")
    gray, width = (
        _lumbar(seed, request),
        max(2, round(random.uniform(1, 5) / request.spacing_mm[2])),
    )
    for start in range(0, gray.shape[2], width):
        part = gray[:, :, start : start + width]
        part[:] = np.roll(part, int(random.integers(gray.shape[1])), axis=1)
    return gray


def _columns_mixed(seed: int, request: PhantomRequest) -> Gray:
    """A lumbar scan whose columns were shuffled."""
    order = stream(seed, "negative.columns").permutation(request.shape[2])
    return _lumbar(seed, request)[:, :, order]


def _phases_mixed(seed: int, request: PhantomRequest) -> Gray:
    """Noise with the power spectrum and the gray levels of a lumbar scan, and nothing else of it."""
    random = stream(seed, "negative.phases")
    gray = _lumbar(seed, request)
    noise = np.fft.fftn(random.standard_normal(gray.shape))
    mixed = np.fft.ifftn(abs(np.fft.fftn(gray - gray.mean())) * noise / (abs(noise) + 1e-9)).real
    ranked = np.empty(gray.size, np.float32)
    ranked[mixed.ravel().argsort()] = np.sort(gray.ravel())
    return ranked.reshape(gray.shape)


KINDS: dict[str, Maker] = {
    "upside down": _upside_down,
    "turned": _turned,
    "blocks": _blocks,
    "rows mixed": _rows_mixed,
    "columns slipped": _columns_slipped,
    "columns mixed": _columns_mixed,
    "phases mixed": _phases_mixed,
}
