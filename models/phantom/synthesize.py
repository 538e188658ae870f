"""Synthesize: one seed becomes one sweep with its truth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.phantom.anatomy import Anatomy, build_anatomy, true_thickness_mm
from models.phantom.bmode import Sweep, render
from models.phantom.factors import default_effects, draw_factors, pain_latent
from models.phantom.fan import Fan, bilinear, lay_fan, nearest
from models.phantom.grid import Grid
from models.phantom.shear import shear_wave
from models.phantom.streams import stream
from models.phantom.surfaces import MEMBRANES, Lacks
from models.phantom.texture import scatter
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
    convex       a curved probe: the widest fan that the image holds, at 3-7 MHz.
    merged       the deep fat thins to nothing over a part of the width.
    broken       membranes (3, 5) with a gap, where their neighbors meet.
    wide         factors from the far wider ranges of the table [wide].
    """

    shape: tuple[int, int, int] = (64, 192, 192)
    spacing_mm: tuple[float, float, float] = (0.5, 0.2, 0.2)
    shear_wave: bool = False
    absent: tuple[int, ...] = ()
    fixed: Mapping[str, float] = field(default_factory=dict)
    effects: Mapping[str, float] | None = None
    convex: bool = False
    merged: bool = False
    broken: tuple[int, ...] = ()
    wide: bool = False

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.spacing_mm) <= 0:
            raise ValueError(f"shape {self.shape} and spacing {self.spacing_mm} mm must be above 0")
        if not set(self.absent) <= set(range(1, 6)):
            raise ValueError(f"absent layers {self.absent}: only layers 1 to 5 can be absent")
        if not set(self.broken) <= set(MEMBRANES):
            raise ValueError(f"broken layers {self.broken}: only the membranes 3 and 5 can break")


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


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """What is scanned, before there is an image: along the beams of ``fan``, or on the image's own grid."""

    grid: Grid
    fan: Fan | None
    factors: dict[str, float]
    anatomy: Anatomy


def body_of(seed: int, request: PhantomRequest) -> Body:
    """The person of a seed. Raises ValueError, KeyError as ``synthesize`` does."""
    image = Grid(request.shape, request.spacing_mm)
    factors = _factors(seed, request)
    fan = lay_fan(image, factors["probe.radius_mm"]) if request.convex else None
    grid = fan.beams if fan else image
    lacks = Lacks(request.absent, request.merged, request.broken)
    return Body(grid, fan, factors, build_anatomy(seed, grid, factors, lacks))


def synthesize(seed: int, request: PhantomRequest) -> Phantom:
    """Simulate one lumbar sweep; the same seed and request give the same volume.

    Raises ValueError when the field is too shallow for six layers, KeyError for an unknown factor.
    """
    body = body_of(seed, request)
    grid, fan, factors, anatomy = body.grid, body.fan, body.factors, body.anatomy
    effects = default_effects() if request.effects is None else request.effects
    latent = pain_latent(factors, effects)
    probability = 1 / (1 + math.exp(-factors["pain.slope"] * latent))
    channels = {
        "b-mode": render(Sweep(seed, grid, anatomy, factors, scatter(seed, grid, anatomy, factors)))
    }
    if request.shear_wave:
        speed, valid = shear_wave(seed, grid, anatomy, factors)
        channels |= {"shear-wave-speed": speed, "shear-wave-valid": valid.astype(np.float32)}
    labelmap, field = anatomy.labelmap, anatomy.valid
    if fan:
        channels = {name: _convert(fan, name, volume) for name, volume in channels.items()}
        labelmap, field = nearest(fan, labelmap), fan.valid
    return Phantom(
        seed,
        _scan(Grid(request.shape, request.spacing_mm), field, factors, channels, request.convex),
        labelmap,
        true_thickness_mm(anatomy, grid),
        bool(stream(seed, "pain.label").uniform() < probability),
        probability,
        latent,
        factors,
    )


def _factors(seed: int, request: PhantomRequest) -> dict[str, float]:
    """The factors of the request; a curved probe has lower frequencies: 3 to 7 for 5 to 15 MHz."""
    factors = draw_factors(seed, request.fixed, request.wide)
    if request.convex and "probe.frequency_mhz" not in request.fixed:
        factors["probe.frequency_mhz"] = 1 + 0.4 * factors["probe.frequency_mhz"]
    return factors


def _convert(fan: Fan, name: str, volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """A channel on the image's grid; speeds are not mixed over the edge of their validity."""
    return bilinear(fan, volume) if name == "b-mode" else nearest(fan, volume)


def _scan(
    grid: Grid,
    field: NDArray[np.bool_],
    factors: Mapping[str, float],
    channels: Mapping[str, NDArray[np.float32]],
    convex: bool,
) -> Scan:
    units = {"b-mode": "1", "shear-wave-speed": "m/s", "shear-wave-valid": "1"}
    transverse = factors["probe.transverse"] >= 0.5
    return Scan(
        np.stack(list(channels.values())),
        tuple(channels),
        tuple(units[name] for name in channels),
        np.repeat(field[None], grid.shape[0], axis=0),
        _affine(grid, factors),
        Geometry("measured", "measured", "measured"),
        "US",
        {
            "transducer": "convex" if convex else "linear",
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
