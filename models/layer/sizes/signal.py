"""Signal: echo intensity and shear-wave speed of each layer, as codes and units."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from models import codes
from models.findings import Code, Flag, Measurement
from models.layer import concepts
from models.layer.labels import (
    DEEP_FASCIA,
    DERMIS,
    MUSCLE,
    SUPERFICIAL_FASCIA,
    SUPERFICIAL_FAT,
)
from models.layer.sizes.extent import Size, Sizes
from models.scan import Scan
from models.steps.measure import Echo, Speed, echo_of, inner_voxels, speed_of

SHEAR_RESOLUTION_MM = 3.0  # thinner layers read wrong: Sci Rep 2023;13:815
LEAST_SHEAR_VOXELS = 50
STEADY = 0.15  # interquartile range over median of the speed; above, the estimate is not trusted
MOST_THIN = 0.1  # of a layer's columns that kept only their middle row: then the method says so
DENSITY_KG_M3 = 1000.0
THIN_LAYERS = (DERMIS, SUPERFICIAL_FASCIA, DEEP_FASCIA)


def signal_measurements(scan: Scan, sizes: Sizes) -> Iterator[Measurement]:
    """Echo intensity of every layer and, where the scan has it, shear-wave speed and what follows from it."""
    echoes = {size.layer: _echo(scan, sizes, size) for size in sizes.layers}
    speeds = _speeds(scan, sizes)
    for size in sizes.layers:
        echo, how = echoes[size.layer]
        if echo:
            yield from _echo_numbers(size.layer, echo, how)
            yield from _ratios(size.layer, {n: found for n, (found, _) in echoes.items()})
        if size.layer in speeds:
            yield from _speed_numbers(size, speeds[size.layer])


def has_shear_wave(scan: Scan) -> bool:
    """Does the scan carry shear-wave speed and where it is valid?"""
    return {"shear-wave-speed", "shear-wave-valid"} <= set(scan.channels)


def shear_flags(scan: Scan, sizes: Sizes) -> Iterator[Flag]:
    """Layers too thin for their shear-wave speed, and speeds that scatter."""
    if not has_shear_wave(scan):
        return
    thin = [size.label for size in sizes.layers if below_resolution(size)]
    if thin:
        yield Flag(
            concepts.SHEAR_THIN,
            f"Below the resolution of shear-wave imaging ({SHEAR_RESOLUTION_MM:g} mm): "
            f"{', '.join(thin).lower()}.",
        )
    speeds = _speeds(scan, sizes)
    loose = [
        size.label
        for size in sizes.layers
        if not below_resolution(size)
        and size.layer in speeds
        and speeds[size.layer].spread > STEADY
    ]
    if loose:
        yield Flag(
            concepts.SHEAR_UNSTEADY,
            f"The interquartile range of the shear-wave speed is more than {STEADY:.0%} of its median: "
            f"{', '.join(loose).lower()}.",
        )


def below_resolution(size: Size) -> bool:
    """Whether a layer is too thin for shear-wave imaging: skin and membranes always are."""
    found = size.statistics
    thin = not size.cut and found is not None and found.mean < SHEAR_RESOLUTION_MM
    return size.layer in THIN_LAYERS or thin


def _echo(scan: Scan, sizes: Sizes, size: Size) -> tuple[Echo | None, Code]:
    inner, thin = inner_voxels(sizes.ground.labelmap == size.layer)
    how = concepts.MIDDLE_ROWS if thin > MOST_THIN else concepts.INNER_VOXELS
    return echo_of(scan.channel("b-mode"), inner), how


def _echo_numbers(layer: int, echo: Echo, how: Code) -> Iterator[Measurement]:
    for derivation, value in (
        (codes.MEAN, echo.mean),
        (codes.STANDARD_DEVIATION, echo.sd),
        (codes.MEDIAN, echo.median),
        (codes.PERCENTILE_10, echo.p10),
        (codes.PERCENTILE_90, echo.p90),
    ):
        yield Measurement(codes.ECHOGENICITY, value, codes.NO_UNITS, layer, how, derivation)
    for quantity, value in (
        (concepts.ECHOVARIATION, echo.variation),
        (concepts.SATURATED, 100 * echo.saturated),
        (concepts.FLOOR, 100 * echo.floor),
    ):
        yield Measurement(quantity, value, codes.PERCENT, layer, how)


def _ratios(layer: int, echoes: Mapping[int, Echo | None]) -> Iterator[Measurement]:
    """Mean over that of muscle and of superficial fat, of stored gray levels.

    Gain drops out of a linear scale only; log-compressed gray it shifts, and the ratio with it.
    """
    own = echoes[layer]
    for other, quantity in (
        (MUSCLE, concepts.ECHO_TO_MUSCLE),
        (SUPERFICIAL_FAT, concepts.ECHO_TO_FAT),
    ):
        reference = echoes.get(other)
        if own and reference and reference.mean > 0 and layer != other:
            yield Measurement(quantity, own.mean / reference.mean, codes.RATIO, layer)


def _speeds(scan: Scan, sizes: Sizes) -> dict[int, Speed]:
    """Shear-wave speed of each layer that has enough valid voxels."""
    if not has_shear_wave(scan):
        return {}
    channel = scan.channel("shear-wave-speed")
    valid: NDArray[np.bool_] = scan.channel("shear-wave-valid") > 0.5
    found = {
        size.layer: speed_of(channel, valid, sizes.ground.labelmap == size.layer)
        for size in sizes.layers
    }
    return {n: speed for n, speed in found.items() if speed and speed.count >= LEAST_SHEAR_VOXELS}


def _speed_numbers(size: Size, speed: Speed) -> Iterator[Measurement]:
    thin, layer = below_resolution(size), size.layer
    how = concepts.BELOW_RESOLUTION if thin else concepts.VALID_VOXELS
    for derivation, value, unit in (
        (codes.MEAN, 100 * speed.mean, codes.CM_PER_S),
        (codes.MEDIAN, 100 * speed.median, codes.CM_PER_S),
        (codes.INTERQUARTILE_RANGE, 100 * speed.iqr, codes.CM_PER_S),
        (codes.IQR_TO_MEDIAN, speed.spread, codes.RATIO),
    ):
        yield Measurement(codes.SHEAR_WAVE_SPEED, value, unit, layer, how, derivation)
    for quantity, value, unit in (
        (concepts.SHEAR_VALID, 100 * speed.valid_share, codes.PERCENT),
        (concepts.SHEAR_COUNT, float(speed.count), codes.NO_UNITS),
    ):
        yield Measurement(quantity, value, unit, layer, how)
    if not thin:
        modulus_kpa = DENSITY_KG_M3 * speed.median**2 / 1000
        yield Measurement(concepts.SHEAR_MODULUS, modulus_kpa, codes.KPA, layer, how, codes.MEDIAN)
        yield Measurement(
            codes.ELASTICITY, 3 * modulus_kpa, codes.KPA, layer, concepts.ISOTROPIC, codes.MEDIAN
        )
