"""The layers' measurements: what the arrays of ``steps.measure`` mean, in codes and units."""

from collections.abc import Iterator

from models.findings import Measurement
from models.layer.sizes.extent import Size, Sizes, extent_measurements, measure
from models.layer.sizes.flags import size_flags, source_flags
from models.layer.sizes.signal import has_shear_wave, shear_flags, signal_measurements
from models.scan import Scan

__all__ = [
    "Size",
    "Sizes",
    "has_shear_wave",
    "measure",
    "shear_flags",
    "size_flags",
    "size_measurements",
    "source_flags",
]


def size_measurements(scan: Scan, sizes: Sizes) -> Iterator[Measurement]:
    """Caliper, thickness, coverage, volume, echo intensity and shear-wave speed of each layer."""
    yield from extent_measurements(scan, sizes)
    yield from signal_measurements(scan, sizes)
