"""Bands: noise with bright bands or layers of other gray drawn into it, and no tissue."""

import numpy as np
from numpy.typing import NDArray

from models.phantom import PhantomRequest, synthesize
from models.phantom.streams import stream
from models.training.negatives.fields import Gray, Maker, axes_mm, grain, shown, speckle

Array = NDArray[np.float64]


def _tilted_mm(random: np.random.Generator, request: PhantomRequest) -> Array:
    """Depth below a surface that is flat, tilted, curved or wavy, (slice, row, column)."""
    depth, side = axes_mm(request)
    if random.uniform() < 0.4:
        return np.broadcast_to(depth + 0 * side, request.shape)
    half = max(side.max(), 1.0)
    step = (np.arange(request.shape[0]) * request.spacing_mm[0])[:, None, None]
    sag = random.uniform(-3, 3) * (side / half) ** 2
    tilt = random.uniform(-0.2, 0.2) * side + random.uniform(-0.3, 0.3) * step
    length, phase = random.uniform(8, 50), random.uniform(0, 6.3)
    wave = random.uniform(0, 1) * np.sin(2 * np.pi * side / length + phase + step * 0.2)
    return np.asarray(depth + sag + wave + tilt)


def _background(random: np.random.Generator, depth: Array) -> Array:
    """What falls off with depth, with or without steps of time gain."""
    level = np.exp(-depth / random.uniform(10, 200))
    if random.uniform() < 0.4:
        knots = np.sort(random.uniform(0, depth.max(), random.integers(1, 8)))
        gain = random.uniform(0.5, 2, knots.size + 1)
        level = level * gain[np.searchsorted(knots, depth)]
    return np.asarray(level)


def _band(random: np.random.Generator, depth: Array, middle: float) -> Array:
    """A bright band, soft or with hard edges."""
    width = random.uniform(0.3, 3)
    off = abs(depth - middle) / width
    shape = np.exp(-2 * off**2) if random.uniform() < 0.6 else (off < 0.5).astype(float)
    return np.asarray(random.uniform(0.3, 6) * shape)


def _bands(seed: int, request: PhantomRequest) -> Gray:
    """Noise with bright bands in any number, place, width, tilt and brightness."""
    random = stream(seed, "negative.bands")
    depth = _tilted_mm(random, request)
    level = _background(random, depth)
    gain = np.ones_like(level)
    for middle in random.uniform(0, depth.max(), random.integers(1, 9)):
        gain = gain + _band(random, depth, middle)
    return shown(seed, level * gain * grain(seed, request))


def _membranes(seed: int, request: PhantomRequest) -> Gray:
    """Noise with two to four bright bands where skin and fascial membranes would be."""
    random = stream(seed, "negative.membranes")
    depth = _tilted_mm(random, request)
    level = _background(random, depth)
    places = np.cumsum(random.uniform((0.3, 2.5, 2, 2), (3, 7, 12, 12)))
    gain = np.ones_like(level)
    for middle in places[int(random.integers(2)) :][: int(random.integers(2, 5))]:
        gain = gain + _band(random, depth, middle)
    return shown(seed, level * gain * grain(seed, request))


def _painted(seed: int, request: PhantomRequest) -> Gray:
    """Layers of even gray, as thick and bright as those of a lower back, with noise for texture."""
    random = stream(seed, "negative.painted")
    depth = _tilted_mm(random, request)
    low, high = (0.5, 1, 0.4, 1, 0.4, 5), (4, 9, 2, 14, 3, 30)
    borders = random.uniform(0, 2) + np.cumsum(random.uniform(low, high))
    gray = random.uniform((5, 90, 30, 110, 30, 120, 50), (60, 200, 120, 220, 120, 240, 150))
    if random.uniform() < 0.5:
        gray = 10 ** (gray / 80)
    level = gray[np.searchsorted(borders, depth)]
    return shown(seed, level * grain(seed, request))


def _profile(seed: int, request: PhantomRequest) -> Gray:
    """The mean over depth of a lumbar scan, from side to side alike, with noise for texture."""
    random = stream(seed, "negative.profile")
    gray = synthesize(seed, request).scan.channel("b-mode")
    mean = gray.mean((0, 2))
    depth = _tilted_mm(random, request) / request.spacing_mm[1]
    level = np.interp(depth, np.arange(mean.size), mean)
    if random.uniform() < 0.5:
        return np.asarray(level * grain(seed, request), np.float32)
    return np.asarray(level + speckle(seed, request), np.float32)


def _lines(seed: int, request: PhantomRequest) -> Gray:
    """Parallel stripes along the skin, evenly spaced, with noise."""
    random = stream(seed, "negative.lines")
    depth = _tilted_mm(random, request)
    wave = np.cos(2 * np.pi * depth / random.uniform(1.5, 15) + random.uniform(0, 6))
    level = 1 + random.uniform(0.2, 4) * (0.5 + 0.5 * wave) ** random.uniform(1, 8)
    return shown(seed, level * _background(random, depth) * grain(seed, request))


KINDS: dict[str, Maker] = {
    "bands": _bands,
    "membranes": _membranes,
    "painted layers": _painted,
    "mean profile": _profile,
    "lines": _lines,
}
