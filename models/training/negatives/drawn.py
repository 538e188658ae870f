"""Drawn: screens, patterns and pictures that no ultrasound scanner made."""

import numpy as np

from models.phantom import PhantomRequest
from models.phantom.streams import stream
from models.training.negatives.fields import Gray, Maker, axes_mm, grain, smooth, speckle


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
    depth, side = axes_mm(request)
    angle, length = random.uniform(0.9, 2.2), random.uniform(1, 12)
    wave = np.sin(2 * np.pi * (depth * np.cos(angle) + side * np.sin(angle)) / length)
    level = random.uniform(60, 140) + random.uniform(20, 90) * wave
    return (level + random.uniform(0, 1) * speckle(seed, request)).astype(np.float32)


def _picture(seed: int, request: PhantomRequest) -> Gray:
    """A picture of large and small smooth shapes, as in photographs; no speckle."""
    random = stream(seed, "negative.picture")
    sizes_mm = (0.5, 1.5, 4.0, 10.0)
    level = sum(size**0.7 * smooth(random, request, size) for size in sizes_mm)
    level = level / level.std() * random.uniform(20, 60) + random.uniform(60, 150)
    return level.astype(np.float32)


def _checkerboard(seed: int, request: PhantomRequest) -> Gray:
    """Squares or rectangles of two grays, with or without noise."""
    random = stream(seed, "negative.checkerboard")
    depth, side = axes_mm(request)
    height, width = random.uniform(1, 15, 2)
    odd = (np.floor(depth / height) + np.floor(side / width)) % 2
    low, high = random.uniform(0, 120), random.uniform(120, 255)
    level = np.where(odd > 0, high, low)[None]
    clean = random.uniform() < 0.3
    return np.asarray(
        level * (np.ones(request.shape) if clean else grain(seed, request)), np.float32
    )


def _waves(seed: int, request: PhantomRequest) -> Gray:
    """Sums and products of sine waves in any direction."""
    random = stream(seed, "negative.waves")
    depth, side = axes_mm(request)
    level = np.zeros((depth.size, side.size))
    for _ in range(random.integers(1, 5)):
        angle, length = random.uniform(0, np.pi), random.uniform(1, 30)
        turn = 2 * np.pi * (depth * np.cos(angle) + side * np.sin(angle)) / length
        level = level + random.uniform(0.3, 1) * np.sin(turn + random.uniform(0, 6))
    gray = random.uniform(70, 140) + random.uniform(20, 80) * level / (level.std() + 1e-9)
    return np.asarray(gray[None] + random.uniform(0, 0.6) * speckle(seed, request), np.float32)


def _ramp(seed: int, request: PhantomRequest) -> Gray:
    """A gradient in any direction, smooth or in steps, with little noise."""
    random = stream(seed, "negative.ramp")
    depth, side = axes_mm(request)
    angle = random.uniform(0, 2 * np.pi)
    along = depth / depth.max() * np.cos(angle) + side / side.max() * np.sin(angle)
    along = (along - along.min()) / (np.ptp(along) + 1e-9)
    steps = int(random.choice([0, 3, 5, 8, 12]))
    along = np.floor(along * steps) / steps if steps else along
    noise = random.uniform(0, 12) * random.standard_normal(request.shape)
    return np.asarray(random.uniform(0, 60) + random.uniform(60, 195) * along + noise, np.float32)


def _screen(seed: int, request: PhantomRequest) -> Gray:
    """Panels, bars and buttons of a program, still."""
    random = stream(seed, "negative.screen")
    slices, rows, columns = request.shape
    screen = np.full((rows, columns), random.uniform(0, 255))
    for _ in range(random.integers(3, 20)):
        top, left = int(random.integers(rows - 4)), int(random.integers(columns - 4))
        height, width = int(random.integers(2, rows // 2)), int(random.integers(2, columns))
        if random.uniform() < 0.5:
            left, width = 0, columns
        screen[top : top + height, left : left + width] = random.uniform(0, 255)
    return np.repeat(screen[None], slices, axis=0).astype(np.float32)


KINDS: dict[str, Maker] = {
    "text": _text,
    "screen": _screen,
    "stripes": _stripes,
    "checkerboard": _checkerboard,
    "waves": _waves,
    "ramp": _ramp,
    "picture": _picture,
}
