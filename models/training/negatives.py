"""Negatives: made scans that show no lumbar layers. None is taken from a patient.

They teach the gate of models/layer/place.py what to refuse: speckle and gel alone, hollow organs, sector
fans, screens of text, stripes, smooth pictures, and lumbar phantoms turned, flipped or cut to pieces.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from models.phantom import PhantomRequest, synthesize
from models.phantom.streams import stream
from models.scan import Geometry, Scan

Gray = NDArray[np.float32]
Maker = Callable[[int, PhantomRequest], Gray]


def make_negative(seed: int, kind: str, request: PhantomRequest) -> Scan:
    """One negative of a kind of ``KINDS``, on the grid of a request. Half of them are one image repeated."""
    gray = KINDS[kind](seed, request)
    if stream(seed, "negative.still").uniform() < 0.5:
        gray = np.repeat(gray[:1], gray.shape[0], axis=0)
    gray = np.rint(np.clip(gray, 0, 255)).astype(np.float32)
    affine = np.diag([*request.spacing_mm, 1.0])
    valid = np.ones(gray.shape, np.bool_)
    return Scan(gray[None], ("b-mode",), ("1",), valid, affine, Geometry("measured", "measured"))


def _speckle(seed: int, request: PhantomRequest) -> Gray:
    """Log-compressed speckle (|filtered complex Gaussian|) in gray levels about zero, SD about 20."""
    random = stream(seed, "negative.speckle")
    size_mm = random.uniform((0.2, 0.08, 0.15), (0.8, 0.4, 1.2))
    sigma = size_mm / np.array(request.spacing_mm)
    real, imaginary = (gaussian_filter(random.standard_normal(request.shape), sigma) for _ in "ri")
    envelope = np.hypot(real, imaginary)
    level = 20 * np.log10(envelope / envelope.mean() + 0.01)
    return (level * random.uniform(2.5, 5)).astype(np.float32)


def _axes_mm(request: PhantomRequest) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depth (row, 1) and distance from the middle (1, column) in mm."""
    _, rows, columns = request.shape
    _, row_mm, column_mm = request.spacing_mm
    depth = np.arange(rows, dtype=np.float64)[:, None] * row_mm
    return depth, (np.arange(columns, dtype=np.float64) - columns / 2)[None] * column_mm


def _noise(seed: int, request: PhantomRequest) -> Gray:
    """Speckle alone, with a gain that changes with depth."""
    random = stream(seed, "negative.noise")
    depth, _ = _axes_mm(request)
    start, end = random.uniform(30, 180, 2)
    gain = start + (end - start) * depth / depth[-1]
    return (_speckle(seed, request) + gain).astype(np.float32)


def _gel(seed: int, request: PhantomRequest) -> Gray:
    """Near-field echo, its reverberations, and little below: gel, air, or a probe without contact."""
    random = stream(seed, "negative.gel")
    depth, side = _axes_mm(request)
    decay, spacing = random.uniform(2, 10), random.uniform(1.5, 6)
    ring = (
        random.uniform(0, 120) * np.exp(-depth / decay) * np.cos(2 * np.pi * depth / spacing) ** 8
    )
    near = random.uniform(60, 200) * np.exp(-((depth / random.uniform(1, 8)) ** 2))
    level = near + ring + random.uniform(0, 25) + 0 * side
    return (level + _speckle(seed, request) * random.uniform(0.1, 0.6)).astype(np.float32)


def _organ(seed: int, request: PhantomRequest) -> Gray:
    """Speckle of slowly changing level, dark chambers, bright walls: heart, bladder, cysts, vessels."""
    random = stream(seed, "negative.organ")
    depth, side = _axes_mm(request)
    level = random.uniform(60, 130) + random.uniform(10, 40) * _smooth(random, request, 6.0)
    for _ in range(random.integers(1, 6)):
        middle = random.uniform(0, depth[-1, 0]), random.uniform(side[0, 0], side[0, -1])
        radius = random.uniform(2, 14, 2)
        tilt = random.uniform(-1, 1)
        down, aside = depth - middle[0] + tilt * (side - middle[1]), side - middle[1]
        distance = np.hypot(down / radius[0], aside / radius[1])
        level = np.where(distance < 1, random.uniform(0, 30), level)
        wall = random.uniform(0, 120) * np.exp(-(((distance - 1) * radius.mean()) ** 2))
        level = level + wall
    return (level + _speckle(seed, request)).astype(np.float32)


def _fan(seed: int, request: PhantomRequest) -> Gray:
    """A sector on black, filled with an organ or with noise."""
    random = stream(seed, "negative.fan")
    depth, side = _axes_mm(request)
    inner, half = random.uniform(0, 20), random.uniform(0.4, 0.9)
    radius, angle = np.hypot(depth + inner, side), np.arctan2(side, depth + inner + 1e-6)
    inside = (radius > inner) & (radius < inner + depth[-1]) & (abs(angle) < half)
    filled = (_organ if random.uniform() < 0.7 else _noise)(seed, request)
    return np.where(inside, filled, 0).astype(np.float32)


def _text(seed: int, request: PhantomRequest) -> Gray:
    """A screen of letters and bars."""
    random = stream(seed, "negative.text")
    slices, rows, columns = request.shape
    screen = np.full((rows, columns), random.uniform(0, 60))
    for _ in range(random.integers(4, 40)):
        height, width = random.integers(4, 14), random.integers(10, max(11, columns // 2))
        row, column = random.integers(0, rows - height), random.integers(0, columns - 10)
        part = screen[row : row + height, column : column + width]
        letters = random.uniform(size=part.shape) < 0.45
        part[letters] = random.uniform(120, 255)
    return np.repeat(screen[None], slices, axis=0).astype(np.float32)


def _stripes(seed: int, request: PhantomRequest) -> Gray:
    """Parallel stripes in any direction but that of the skin, with some noise."""
    random = stream(seed, "negative.stripes")
    depth, side = _axes_mm(request)
    angle, length = random.uniform(0.9, 2.2), random.uniform(1, 12)
    wave = np.sin(2 * np.pi * (depth * np.cos(angle) + side * np.sin(angle)) / length)
    level = random.uniform(60, 140) + random.uniform(20, 90) * wave
    return (level + random.uniform(0, 1) * _speckle(seed, request)).astype(np.float32)


def _picture(seed: int, request: PhantomRequest) -> Gray:
    """A picture of large and small smooth shapes, as in photographs; no speckle."""
    random = stream(seed, "negative.picture")
    sizes_mm = (0.5, 1.5, 4.0, 10.0)
    level = sum(size**0.7 * _smooth(random, request, size) for size in sizes_mm)
    level = level / level.std() * random.uniform(20, 60) + random.uniform(60, 150)
    return level.astype(np.float32)


def _smooth(random: np.random.Generator, request: PhantomRequest, size_mm: float) -> Gray:
    """Smooth noise of unit variance, (slice, row, column)."""
    sigma = size_mm / np.array(request.spacing_mm)
    field = gaussian_filter(random.standard_normal(request.shape), sigma)
    return np.asarray(field / (field.std() + 1e-9), np.float32)


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


KINDS: dict[str, Maker] = {
    "noise": _noise,
    "gel": _gel,
    "organ": _organ,
    "fan": _fan,
    "text": _text,
    "stripes": _stripes,
    "picture": _picture,
    "upside down": _upside_down,
    "turned": _turned,
    "blocks": _blocks,
    "rows mixed": _rows_mixed,
    "columns slipped": _columns_slipped,
}
"""What is made, by name."""
