"""Synthesize: one seed becomes one sweep with its truth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.phantom.anatomy import Anatomy, Grid, build_anatomy, true_thickness_mm
from models.phantom.bmode import render
from models.phantom.factors import default_effects, draw_factors, pain_latent
from models.phantom.shear import shear_wave
from models.phantom.streams import stream
from models.phantom.texture import scatter_db
from models.scan import Geometry, Scan


@dataclass(frozen=True, slots=True)
class PhantomRequest:
    """What is asked of the simulator; the seed decides the rest.

    shape        slices, rows, columns.
    spacing_mm   distance of slices, rows, columns.
    shear_wave   add the channels shear-wave-speed and shear-wave-valid.
    absent       layer numbers that this person lacks (1 to 5).
    fixed        factors set by hand, named as in reference_values.toml, e.g. {"probe.frequency_mhz": 7.5};
                 everything else of the same seed stays as it was.
    effects      weight of each factor in the pain latent; None = those of reference_values.toml.
    """

    shape: tuple[int, int, int] = (64, 192, 192)
    spacing_mm: tuple[float, float, float] = (0.5, 0.2, 0.2)
    shear_wave: bool = False
    absent: tuple[int, ...] = ()
    fixed: Mapping[str, float] = field(default_factory=dict)
    effects: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.spacing_mm) <= 0:
            raise ValueError(f"shape {self.shape} and spacing {self.spacing_mm} mm must be above 0")
        if not set(self.absent) <= set(range(1, 6)):
            raise ValueError(f"absent layers {self.absent}: only layers 1 to 5 can be absent")


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A sweep and its truth.

    scan              channels b-mode and, where asked, shear-wave-speed and shear-wave-valid.
    labelmap          uint8 (slice, row, column): layers 1 to 6, 0 = gel, bone, outside the field.
    thickness_mm      mean per layer, perpendicular to the layer, of the continuous surfaces; the muscle only
                      where the field does not cut it.
    pain              drawn from ``pain_probability`` = sigmoid(slope × ``pain_latent``).
    factors           every number that made the volume.
    """

    seed: int
    scan: Scan
    labelmap: NDArray[np.uint8]
    thickness_mm: dict[int, float]
    pain: bool
    pain_probability: float
    pain_latent: float
    factors: dict[str, float]


def synthesize(seed: int, request: PhantomRequest) -> Phantom:
    """Simulate one lumbar sweep; the same seed and request give the same volume.

    Raises ValueError when the field is too shallow for six layers, KeyError for an unknown factor.
    """
    grid = Grid(request.shape, request.spacing_mm)
    factors = draw_factors(seed, request.fixed)
    effects = default_effects() if request.effects is None else request.effects
    latent = pain_latent(factors, effects)
    probability = 1 / (1 + math.exp(-factors["pain.slope"] * latent))
    anatomy = build_anatomy(seed, grid, factors, request.absent)
    level_db = scatter_db(seed, grid, anatomy, factors)
    channels = {"b-mode": render(seed, grid, anatomy, factors, level_db)}
    if request.shear_wave:
        speed, valid = shear_wave(seed, grid, anatomy, factors)
        channels |= {"shear-wave-speed": speed, "shear-wave-valid": valid.astype(np.float32)}
    return Phantom(
        seed,
        _scan(grid, anatomy, factors, channels),
        anatomy.labelmap,
        true_thickness_mm(anatomy, grid),
        bool(stream(seed, "pain.label").uniform() < probability),
        probability,
        latent,
        factors,
    )


def _scan(
    grid: Grid,
    anatomy: Anatomy,
    factors: Mapping[str, float],
    channels: Mapping[str, NDArray[np.float32]],
) -> Scan:
    units = {"b-mode": "1", "shear-wave-speed": "m/s", "shear-wave-valid": "1"}
    transverse = factors["probe.transverse"] >= 0.5
    return Scan(
        np.stack(list(channels.values())),
        tuple(channels),
        tuple(units[name] for name in channels),
        np.repeat(anatomy.valid[None], grid.shape[0], axis=0),
        _affine(grid, factors),
        Geometry("measured", "measured", "measured"),
        "US",
        {
            "transducer": "linear",
            "frequency_mhz": f"{factors['probe.frequency_mhz']:.1f}",
            "probe_orientation": "transverse" if transverse else "longitudinal",
            "side": "left" if factors["probe.left"] >= 0.5 else "right",
            "level": "L3",
            "gain_db": f"{factors['machine.gain_db']:.1f}",
            "dynamic_range_db": f"{factors['machine.dynamic_range_db']:.0f}",
        },
    )


def _affine(grid: Grid, factors: Mapping[str, float]) -> NDArray[np.float64]:
    """(slice, row, column, 1) -> LPS mm of a prone patient scanned from behind; rows go anterior (-y).

    Transverse: columns to the patient's left (+x), slices from head to foot (-z). Longitudinal: columns
    from head to foot, slices to the right (-x). Both are right-handed, as DICOM's frame normal is. The
    center lies 20 mm beside the midline, as in the published protocols beside L2-L3.
    """
    if factors["probe.transverse"] >= 0.5:
        directions = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]], float)
    else:
        directions = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]], float)
    affine = np.eye(4)
    affine[:3, :3] = directions.T * np.array(grid.spacing_mm)
    center = np.array([20.0 if factors["probe.left"] >= 0.5 else -20.0, 100.0, 0.0])
    middle = np.array([(grid.shape[0] - 1) / 2, 0.0, (grid.shape[2] - 1) / 2])
    affine[:3, 3] = center - affine[:3, :3] @ middle
    return affine
