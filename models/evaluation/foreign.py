"""Foreign: a second simulator, for evaluation only: no code and few choices shared with ``models.phantom``.

A network that was trained on one simulator may have learned that simulator. This one is written from the same
published values (thickness, echogenicity, attenuation) but draws all else in its own way: surfaces are sums
of sinusoids, speckle is complex noise filtered by a Gaussian in the Fourier domain, with one to three looks
compounded, an interface has a bright line, none, or one beside its edge, septa are arcs, muscle is oriented
noise. Left out: refraction, fan-shaped beams (a fan is cut out, its beams stay parallel), shear waves, pain.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from models.scan import Geometry, Scan

LAYERS = 6
STREAM = 0xF0E16  # so that no seed of another simulator gives the same numbers
MIRROR = (4, 4, 8)  # slices, fine rows, columns beyond the edges
FINE = 2  # rows of the simulation per row of the image
THICKNESS_MM = ((2.0, 0.4), (4.0, 1.5), (0.8, 0.3), (7.0, 3.0), (1.5, 0.5), (25.0, 6.0))
LEAST_MM = (0.8, 1.2, 0.35, 1.5, 0.6, 9.0)
GRAY = ((150, 20), (70, 15), (165, 25), (75, 15), (185, 25), (100, 20))  # at 60 dB
ATTENUATION = (0.02, 0.35, 0.63, 1.57, 0.63, 1.57, 1.0, 3.0)  # dB/cm/MHz of gel, the layers, bone
GEL_DB, BONE_DB = -75.0, -55.0
LEAST_CONTRAST_DB = 8.0  # of dermis and membranes over fat; below it no reader would find the layer

Array = NDArray[np.floating]
Complex = NDArray[np.complexfloating]


@dataclass(frozen=True, slots=True)
class Appearance:
    """How one volume was acquired and looks: drawn once per seed."""

    frequency_mhz: float
    f_number: float
    focus_mm: float
    looks: int
    dynamic_range_db: float
    gain_db: float
    gamma: float
    noise_margin_db: float
    gel_mm: float
    along_fibers: bool
    pennation_deg: float
    padding: str
    level_db: tuple[float, ...]
    laminae: int


@dataclass(frozen=True, slots=True, eq=False)
class Foreign:
    """A simulated scan and its truth.

    labelmap      uint8 (slice, row, column): 0 outside, 1 dermis to 6 muscle.
    thickness_mm  mean perpendicular thickness of the continuous layer, where it is whole in most columns.
    """

    scan: Scan
    labelmap: NDArray[np.uint8]
    thickness_mm: dict[int, float]
    appearance: Appearance


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Coordinates of the simulation in mm: y (slice, 1), x (column,), z (fine row,)."""

    y: Array
    x: Array
    z: Array

    @property
    def steps_mm(self) -> tuple[float, float, float]:
        return (
            float(self.y[1, 0] - self.y[0, 0]),
            float(self.z[1] - self.z[0]),
            float(self.x[1] - self.x[0]),
        )


def foreign_phantom(
    seed: int,
    shape: tuple[int, int, int] = (16, 160, 160),
    spacing_mm: tuple[float, float, float] = (0.4, 0.2, 0.25),
) -> Foreign:
    """Simulate one B-mode volume (slice, row, column), two slices or more; the same seed, the same volume."""
    streams = np.random.SeedSequence([STREAM, seed]).spawn(4)
    acquired, anatomy, tissue, speckle = map(np.random.default_rng, streams)
    look = _appearance(acquired)
    axes = [(np.arange(n) + 0.5) * d for n, d in zip(shape, spacing_mm, strict=True)]
    fine = (np.arange(FINE * shape[1]) + 0.5) * spacing_mm[1] / FINE
    grid = _Grid(axes[0][:, None], axes[2], fine)
    top_mm = _probe_mm(look, grid.x)
    surfaces = _surfaces(anatomy, look, grid, top_mm)
    inside = _inside(look, axes[1], grid.x, top_mm)
    valid = np.broadcast_to(inside, shape).copy()
    labels = np.where(valid, _regions(surfaces, axes[1]) % (LAYERS + 1), 0).astype(np.uint8)
    level = _echogenicity(tissue, look, grid, surfaces)
    gray = _image(speckle, look, grid, (level, surfaces, top_mm))
    voxels = np.where(valid, gray, 0).astype(np.float32)[None]
    affine = _affine(look.along_fibers, spacing_mm)
    measured = Geometry("measured", "measured", "measured")
    scan = Scan(voxels, ("b-mode",), ("1",), valid, affine, measured)
    return Foreign(scan, labels, _thickness(surfaces, labels, spacing_mm), look)


def _appearance(rng: np.random.Generator) -> Appearance:
    return Appearance(
        frequency_mhz=rng.uniform(6, 13),
        f_number=rng.uniform(1.8, 3.5),
        focus_mm=rng.uniform(8, 25),
        looks=int(rng.integers(1, 4)),
        dynamic_range_db=rng.uniform(50, 70),
        gain_db=float(np.clip(rng.normal(0, 3), -6, 6)),
        gamma=rng.uniform(0.85, 1.2),
        noise_margin_db=rng.uniform(8, 25),
        gel_mm=max(0.25, rng.uniform(-1, 3)),
        along_fibers=bool(rng.random() < 0.5),
        pennation_deg=rng.uniform(-15, 15),
        padding=str(
            rng.choice(["none", "trapezoid", "convex", "margin"], p=[0.6, 0.15, 0.1, 0.15])
        ),
        level_db=_levels_db(rng),
        laminae=int(rng.integers(1, 4)),
    )


def _levels_db(rng: np.random.Generator) -> tuple[float, ...]:
    """Mean backscatter of gel, the six layers and bone: draws that keep the published order of echoes."""
    mean, sd = np.transpose(GRAY)
    while True:
        level = rng.normal(mean, 0.8 * sd) / 255 * 60 - 60
        level[[1, 3]] += rng.normal(
            0, 2.5
        )  # both fats brighter or darker together: it is one person
        fat = level[[1, 3]].max()
        if (
            level[[0, 2, 4]].min() > fat + LEAST_CONTRAST_DB
            and level[4] > level[5] + LEAST_CONTRAST_DB
        ):
            return (GEL_DB, *level.tolist(), BONE_DB)


def _waves(rng: np.random.Generator, grid: _Grid, count: int = 4) -> Array:
    """Smooth random field (slice, column) of about unit SD: sinusoids of 10-40 mm, long ones higher."""
    field = np.zeros((grid.y.shape[0], grid.x.size))
    for length in rng.uniform(10, 40, count):
        turn, phase = rng.normal(0, 0.5), rng.uniform(0, 2 * np.pi)
        along = grid.x * np.cos(turn) + grid.y * np.sin(turn)
        field += length / 40 * np.sin(2 * np.pi * along / length + phase)
    return field / np.sqrt(0.22 * count)


def _probe_mm(look: Appearance, x: Array) -> Array:
    """Depth of the probe's face below the image's top edge, (column,)."""
    if look.padding != "convex":
        return np.zeros_like(x)
    radius, off = 60.0, x - x.mean()
    return np.asarray(radius - np.sqrt(radius**2 - off**2))


def _surfaces(rng: np.random.Generator, look: Appearance, grid: _Grid, top_mm: Array) -> Array:
    """Depth in mm of the seven surfaces that bound the layers, (7, slice, column)."""
    skin = look.gel_mm + rng.uniform(0.05, 0.25) * _waves(rng, grid)
    surfaces = [np.maximum(skin, 0.2) + top_mm]
    pressed, middle = rng.uniform(0.8, 1.0), grid.x.mean()
    for layer, (mean, sd) in enumerate(THICKNESS_MM, 1):
        least = LEAST_MM[layer - 1]
        wanted = max(least, mean + sd * np.clip(rng.normal(), -2, 2))
        height = wanted + min(rng.uniform(0.04, 0.15) * wanted, 0.7) * _waves(rng, grid)
        if layer in (2, 4, 6):  # the soft ones give way: to pressure, to a curved probe, as wedges
            slope = np.clip(rng.normal(0, 0.03), -0.8 * wanted / 40, 0.8 * wanted / 40)
            height = height * (pressed if layer < LAYERS else 1) - 0.25 * top_mm
            height = height + slope * (grid.x - middle)
        surfaces.append(surfaces[-1] + np.maximum(height, 0.6 * least))
    return np.stack(surfaces)


def _regions(surfaces: Array, z_mm: Array) -> NDArray[np.int8]:
    """0 gel, 1 to 6 layers, 7 bone at depths (row,): (slice, row, column)."""
    depth = z_mm[None, :, None]
    count = sum((depth >= surface[:, None]).astype(np.int8) for surface in surfaces)
    return np.asarray(count, np.int8)


def _inside(look: Appearance, z_mm: Array, x: Array, top_mm: Array) -> NDArray[np.bool_]:
    """Which pixels (row, column) belong to the image; the rest is padding."""
    depth, off = z_mm[:, None], np.abs(x - x.mean())[None]
    half = 0.5 * (x[-1] - x[0])
    inside = depth >= top_mm
    if look.padding in ("trapezoid", "convex"):
        inside = inside & (off <= 0.72 * half + 0.35 * depth)
    if look.padding == "margin":
        inside = inside & (off <= 0.9 * half) & (depth <= 0.93 * z_mm[-1])
    return np.asarray(inside)


def _echogenicity(
    rng: np.random.Generator, look: Appearance, grid: _Grid, surfaces: Array
) -> Array:
    """Backscatter in dB (slice, fine row, column)."""
    regions = _regions(surfaces, grid.z)
    level = np.asarray(look.level_db)[regions]
    coarse = _oriented(rng, grid, (1.5, 1.0, 0.0))
    level += coarse * np.array([0, 2.5, 1.5, 2, 1.5, 2, 1.5, 3])[regions]
    muscle = regions == LAYERS
    fibers = (
        (5.0, 0.15, look.pennation_deg) if look.along_fibers else (1.0, 0.18, look.pennation_deg)
    )
    grain = _oriented(rng, grid, fibers)
    perimysium = rng.uniform(6, 13) * np.clip(grain - rng.uniform(0.9, 1.5), 0, 1.2)
    level += muscle * (rng.uniform(2, 4) * grain + perimysium)
    depth = (grid.z[None, :, None] - surfaces[4][:, None]) / (surfaces[5] - surfaces[4])[:, None]
    if look.laminae > 1:  # sheets of collagen with loose tissue between
        loose = 0.5 - 0.5 * np.cos(2 * np.pi * (look.laminae - 1) * np.clip(depth, 0, 1))
        level -= (regions == 5) * rng.uniform(8, 16) * loose**2
    if rng.random() < 0.3:  # a superficial membrane that fades in places
        level -= (regions == 3) * rng.uniform(4, 12) * np.clip(_waves(rng, grid), 0, 1)[:, None]
    return np.maximum(level, _septa(rng, look, grid, surfaces) + np.where(muscle, -200.0, 0.0))


def _oriented(rng: np.random.Generator, grid: _Grid, how: tuple[float, float, float]) -> Array:
    """Gaussian noise of unit SD: correlation in mm along and across, degrees of turn; 1.5 mm over slices."""
    along_mm, across_mm, degrees = how
    shape = (grid.y.shape[0], grid.z.size, grid.x.size)
    ky, kz, kx = np.meshgrid(*map(fft.fftfreq, shape, grid.steps_mm), indexing="ij", sparse=True)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    reach = (along_mm * (kx * cosine + kz * sine)) ** 2 + (
        across_mm * (kz * cosine - kx * sine)
    ) ** 2
    noise = fft.ifftn(
        fft.fftn(rng.normal(size=shape)) * np.exp(-9.87 * (reach + (1.5 * ky) ** 2))
    ).real
    return np.asarray(noise / noise.std())


def _septa(rng: np.random.Generator, look: Appearance, grid: _Grid, surfaces: Array) -> Array:
    """Arcs of connective tissue in the fats, in dB; -200 where there is none."""
    level = np.full((grid.y.shape[0], grid.z.size, grid.x.size), -200.0)
    inside = np.isin(_regions(surfaces, grid.z), (2, 4))
    for layer, count in ((2, rng.poisson(4)), (4, rng.poisson(7))):
        top, height = surfaces[layer - 1], surfaces[layer] - surfaces[layer - 1]
        for _ in range(count):
            center, reach = rng.uniform(0, grid.x[-1]), rng.uniform(3, 12)
            off = (grid.x - center + rng.normal(0, 0.5) * (grid.y - grid.y.mean())) / reach
            rise = (
                rng.uniform(0.05, 0.95) + rng.normal(0, 0.15) * off + rng.normal(0, 0.25) * off**2
            )
            middle = top + height * rise
            bright = look.level_db[layer] + rng.uniform(6, 20) - 12 * off**4
            away = (grid.z[None, :, None] - middle[:, None]) / rng.uniform(0.1, 0.22)
            level = np.maximum(level, bright[:, None] - 4.3 * away**2)
    return np.where(inside, level, -200.0)


def _image(
    rng: np.random.Generator, look: Appearance, grid: _Grid, tissue: tuple[Array, Array, Array]
) -> Array:
    """Whole gray levels (slice, row, column) of the echogenicity, surfaces and probe's face in ``tissue``."""
    level, surfaces, top_mm = tissue
    lines = _lines(rng, look, grid, surfaces, top_mm)
    loss = _loss(rng, look, grid, surfaces)
    floor_db = look.level_db[LAYERS] - look.noise_margin_db
    floor = floor_db + 0.07 * look.frequency_mhz * 2 * (grid.z - grid.z[-1])[:, None]
    amplitude, power = 10 ** (level / 20), np.zeros(level.shape)
    for _ in range(look.looks):  # compounding: other angles see the same tissue with other speckle
        echo = _blurred(look, grid, amplitude * _noise(rng, level.shape), lines)
        echo *= 10 ** (loss / 20)
        power += np.abs(echo + 10 ** (floor / 20) * _noise(rng, level.shape)) ** 2
    decibel = 10 * np.log10(power / look.looks + 1e-12)
    decibel = decibel.reshape(level.shape[0], -1, FINE, level.shape[2]).mean(2)
    share = 0.5 + (decibel + 30 + look.gain_db) / look.dynamic_range_db  # -30 dB is mid-gray
    return np.asarray(np.round(255 * np.clip(share, 0, 1) ** look.gamma))


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex64]:
    parts = rng.standard_normal((2, *shape), np.float32) * np.float32(0.5**0.5)
    return np.asarray(parts[0] + 1j * parts[1], np.complex64)


def _blurred(look: Appearance, grid: _Grid, speckle: Complex, lines: Array) -> Complex:
    """Complex echo after a Gaussian point spread, sharp at the focus and twice as wide far from it."""
    wave_mm = 1.54 / look.frequency_mhz
    fwhm_mm = np.array([3 * look.f_number, 1.0, look.f_number]) * wave_mm
    around = [
        (size, size) for size in MIRROR
    ]  # or one end of the volume would shine into the other
    echoes = [np.pad(part, around, "symmetric") for part in (speckle, lines)]
    axes = map(fft.fftfreq, echoes[0].shape, grid.steps_mm)
    ky, kz, kx = np.meshgrid(*axes, indexing="ij", sparse=True)
    spectra = [fft.fftn(echo.astype(np.complex64)) for echo in echoes]
    defocus = 1 - np.exp(-(((grid.z - look.focus_mm) / 12) ** 2))[:, None]
    result = np.zeros(speckle.shape, complex)
    for wider, share in ((1.0, np.sqrt(1 - defocus)), (2.0, np.sqrt(defocus))):
        y, z, x = fwhm_mm / 2.355 * (wider, 1.0, wider)
        spread = np.exp(-19.74 * ((y * ky) ** 2 + (z * kz) ** 2 + (x * kx) ** 2))
        unit = spread / np.sqrt(
            (spread**2).mean()
        )  # speckle keeps its power, a wide line its height
        echo = fft.ifftn(spectra[0] * unit + spectra[1] * spread)
        result += share * echo[tuple(slice(size, -size) for size in MIRROR)]
    return result


def _lines(
    rng: np.random.Generator, look: Appearance, grid: _Grid, surfaces: Array, top_mm: Array
) -> Array:
    """Coherent echoes: interfaces (or not), bone, the probe's face and its reverberations; amplitude."""
    lines = np.zeros((grid.y.shape[0], grid.z.size, grid.x.size))
    depth = grid.z[None, :, None]

    def add(middle: Array, decibel: float | Array, width_mm: float) -> None:
        height = 10 ** (np.asarray(decibel) / 20)
        shape = np.exp(-(((depth - middle[:, None]) / width_mm) ** 2))
        np.add(lines, height * shape, out=lines)

    for index, surface in enumerate(surfaces):
        beside = rng.choice([0.0, 0.0, rng.normal(0, 0.3)])
        strength = rng.uniform(-32, -16) + 6 * np.clip(_waves(rng, grid), -2, 1)[:, None]
        if index in (0, LAYERS) or rng.random() < 0.6:
            add(surface + beside * (0 < index < LAYERS), strength, rng.uniform(0.08, 0.2))
    face = np.broadcast_to(top_mm, surfaces[0].shape)
    add(face, -14.0, rng.uniform(0.1, 0.3))
    if rng.random() < 0.5:
        period, start, fall = rng.uniform(0.6, 2.0), rng.uniform(-34, -24), rng.uniform(4, 9)
        for count in range(1, 5):
            add(face + look.gel_mm + count * period, start - fall * count, 0.12)
    return lines


def _loss(rng: np.random.Generator, look: Appearance, grid: _Grid, surfaces: Array) -> Array:
    """What attenuation less the operator's depth gain, its error, and shadows take or give, in dB."""
    per_mm = np.asarray(ATTENUATION)[_regions(surfaces, grid.z)] * look.frequency_mhz * 2 / 10
    taken = np.cumsum(per_mm, 1) * grid.steps_mm[1]
    usual = gaussian_filter1d(taken.mean((0, 2)), 4 / grid.steps_mm[1], mode="nearest")
    knots = np.linspace(0, grid.z[-1], 6)
    sliders = PchipInterpolator(knots, np.clip(rng.normal(0, 1.5, 6), -3, 3))(grid.z)
    loss = (usual + sliders)[:, None] - taken
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        center, width = rng.uniform(0, grid.x[-1]), rng.uniform(0.8, 3)
        drift = grid.x - center - rng.normal(0, 0.4) * (grid.y - grid.y.mean())
        dark = rng.uniform(3, 14) * np.exp(-((drift / width) ** 2))
        begun = np.clip((grid.z - rng.uniform(0, 10)) / 2, 0, 1)
        loss = loss - dark[:, None] * begun[:, None]
    return np.asarray(np.maximum(loss, -60))


def _thickness(
    surfaces: Array, labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float]
) -> dict[int, float]:
    """Mean over columns that show the layer whole; none for a layer cut off in half of its columns."""
    found: dict[int, float] = {}
    rows = (np.arange(labels.shape[1]) + 0.5) * spacing_mm[1]
    regions = _regions(surfaces, rows)
    for layer in range(1, LAYERS + 1):
        shown, there = (labels == layer).sum(1), (regions == layer).sum(1)
        reached = surfaces[layer] < rows[-1]
        whole = (shown == there) & (shown > 0) & reached
        if whole.sum() <= 0.5 * (shown > 0).sum() or not whole.any():
            continue
        middle = 0.5 * (surfaces[layer - 1] + surfaces[layer])
        slope = np.hypot(*np.gradient(middle, spacing_mm[0], spacing_mm[2]))
        height = (surfaces[layer] - surfaces[layer - 1]) / np.sqrt(1 + slope**2)
        found[layer] = float(height[whole].mean())
    return found


def _affine(along_fibers: bool, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Prone: rows go to the front of the body; columns to the head along the fibers, else to the left."""
    left, front, head = np.eye(3) * (1, -1, 1)
    slice_, column = (left, head) if along_fibers else (head, left)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([slice_, front, column], 1) * spacing_mm
    return affine
