"""Media: what a probe shows that lies on no lower back: gel, air, organs, lungs, test objects."""

import numpy as np

from models.phantom import PhantomRequest
from models.phantom.streams import stream
from models.training.negatives.fields import Gray, Maker, axes_mm, grain, shown, smooth, speckle


def _noise(seed: int, request: PhantomRequest) -> Gray:
    """Speckle alone, with a gain that changes with depth."""
    random = stream(seed, "negative.noise")
    depth, _ = axes_mm(request)
    start, end = random.uniform(30, 180, 2)
    gain = start + (end - start) * depth / depth[-1]
    return (speckle(seed, request) + gain).astype(np.float32)


def _gel(seed: int, request: PhantomRequest) -> Gray:
    """Near-field echo, its reverberations, and little below: gel, air, or a probe without contact."""
    random = stream(seed, "negative.gel")
    depth, side = axes_mm(request)
    decay, spacing = random.uniform(2, 10), random.uniform(1.5, 6)
    ring = (
        random.uniform(0, 120) * np.exp(-depth / decay) * np.cos(2 * np.pi * depth / spacing) ** 8
    )
    near = random.uniform(60, 200) * np.exp(-((depth / random.uniform(1, 8)) ** 2))
    level = near + ring + random.uniform(0, 25) + 0 * side
    return (level + speckle(seed, request) * random.uniform(0.1, 0.6)).astype(np.float32)


def _organ(seed: int, request: PhantomRequest) -> Gray:
    """Speckle of slowly changing level, dark chambers, bright walls: heart, bladder, cysts, vessels."""
    random = stream(seed, "negative.organ")
    depth, side = axes_mm(request)
    level = random.uniform(60, 130) + random.uniform(10, 40) * smooth(random, request, 6.0)
    for _ in range(random.integers(1, 6)):
        middle = random.uniform(0, depth[-1, 0]), random.uniform(side[0, 0], side[0, -1])
        radius = random.uniform(2, 14, 2)
        tilt = random.uniform(-1, 1)
        down, aside = depth - middle[0] + tilt * (side - middle[1]), side - middle[1]
        distance = np.hypot(down / radius[0], aside / radius[1])
        level = np.where(distance < 1, random.uniform(0, 30), level)
        wall = random.uniform(0, 120) * np.exp(-(((distance - 1) * radius.mean()) ** 2))
        level = level + wall
    return (level + speckle(seed, request)).astype(np.float32)


def _fan(seed: int, request: PhantomRequest) -> Gray:
    """A sector on black, filled with an organ or with noise."""
    random = stream(seed, "negative.fan")
    depth, side = axes_mm(request)
    inner, half = random.uniform(0, 20), random.uniform(0.4, 0.9)
    radius, angle = np.hypot(depth + inner, side), np.arctan2(side, depth + inner + 1e-6)
    inside = (radius > inner) & (radius < inner + depth[-1]) & (abs(angle) < half)
    filled = (_organ if random.uniform() < 0.7 else _noise)(seed, request)
    return np.where(inside, filled, 0).astype(np.float32)


def _grains(seed: int, request: PhantomRequest) -> Gray:
    """Noise of any kind, brighter or darker with depth, in even steps of time gain or smoothly."""
    random = stream(seed, "negative.grains")
    depth, _ = axes_mm(request)
    level = np.exp(random.uniform(-2, 1) * depth / depth[-1])
    if random.uniform() < 0.5:
        level = np.round(level * 8 / level.max()) / 8 + 0.05
    return shown(seed, level[None] * grain(seed, request))


def _air(seed: int, request: PhantomRequest) -> Gray:
    """A probe in the air or on a lung: echoes of its own face at even distances, each weaker, and rays."""
    random = stream(seed, "negative.air")
    depth, side = axes_mm(request)
    pitch, decay = random.uniform(1, 12), random.uniform(3, 40)
    comb = np.exp(-(((depth + pitch / 2) % pitch - pitch / 2) ** 2) / random.uniform(0.02, 0.6))
    level = 0.1 + random.uniform(1, 6) * comb * np.exp(-depth / decay) + 0 * side
    for _ in range(int(random.choice([0, 0, 1, 3, 6]))):
        middle, width = random.uniform(side.min(), side.max()), random.uniform(0.5, 4)
        level = level + random.uniform(0.3, 3) * np.exp(-(((side - middle) / width) ** 2))
    return shown(seed, level[None] * grain(seed, request))


def _test_object(seed: int, request: PhantomRequest) -> Gray:
    """Even speckle with wires, cysts and rods at regular places, as objects for quality tests show."""
    random = stream(seed, "negative.test object")
    depth, side = axes_mm(request)
    level = np.full((depth.size, side.size), random.uniform(60, 130))
    pitch = random.uniform(4, 15)
    wires = np.hypot(
        (depth + pitch / 3) % pitch - pitch / 2, (side / random.uniform(1, 3)) % pitch - pitch / 2
    )
    level = level + random.uniform(40, 160) * np.exp(-((wires / random.uniform(0.2, 0.6)) ** 2))
    for _ in range(random.integers(0, 6)):
        middle = random.uniform(0, depth[-1, 0]), random.uniform(side[0, 0], side[0, -1])
        inside = np.hypot(depth - middle[0], side - middle[1]) < random.uniform(1, 6)
        level = np.where(inside, level + random.uniform(-120, 60), level)
    return (level + speckle(seed, request)).astype(np.float32)


def _cloud(seed: int, request: PhantomRequest) -> Gray:
    """Noise whose power falls with a power of the spatial frequency."""
    random = stream(seed, "negative.cloud")
    slope, flat = random.uniform(0.3, 2), random.uniform(1, 4)
    frequency = [
        np.fft.fftfreq(n, mm) for n, mm in zip(request.shape, request.spacing_mm, strict=True)
    ]
    slow, down, aside = np.meshgrid(*frequency, indexing="ij", sparse=True)
    distance = np.sqrt(slow**2 + (down / random.choice([1, flat])) ** 2 + aside**2) + 0.01
    spectrum = np.fft.fftn(random.standard_normal(request.shape)) * distance**-slope
    field = np.fft.ifftn(spectrum).real
    gray = random.uniform(60, 150) + random.uniform(15, 60) * field / field.std()
    return np.asarray(gray, np.float32)


KINDS: dict[str, Maker] = {
    "noise": _noise,
    "grains": _grains,
    "cloud": _cloud,
    "gel": _gel,
    "air": _air,
    "organ": _organ,
    "fan": _fan,
    "test object": _test_object,
}
