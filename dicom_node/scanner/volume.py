"""What is stored: the integer frames of one channel, with its grid and its meaning."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.scanner.style import Style
from models.scan import Scan

DENSITY_KG_M3 = 1000.0


@dataclass(frozen=True, slots=True)
class Mapping:
    """Real World Value Mapping (PS3.3 C.7.6.16.2.11): stored value times slope, in a UCUM unit."""

    slope: float
    unit: str


# With 16 bits, a thousandth of a m/s and a hundredth of a kPa, far below what any scanner resolves.
SLOPES_16_BIT = {"m/s": 0.001, "cm/s": 0.1, "kPa": 0.01}


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One channel on its way to disk.

    values   float32 (slice, row, column) in the unit of ``mapping``, or gray levels without one.
    affine   (slice, row, column, 1) -> patient LPS millimeters.
    region   first row, first column, last row, last column of the tissue, counted from 0.
    encoding, color   of this channel, which may differ from the style's for a map of measured values.
    """

    name: str
    number: int
    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    region: tuple[int, int, int, int]
    encoding: str
    color: str
    bits: int = 8
    mapping: Mapping | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        slices, rows, columns = self.values.shape
        return slices, rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        step, row, column = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(step), float(row), float(column)

    def frame(self, number: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Stored integers of one slice, (row, column)."""
        slope = self.mapping.slope if self.mapping else 1.0
        stored = np.rint(self.values[number] / slope)
        if self.mapping:  # a small value must not become the 0 that means "no value"
            stored = np.where(self.values[number] > 0, np.maximum(stored, 1), 0)
        return np.clip(stored, 0, 2**self.bits - 1).astype(f"u{self.bits // 8}")


def volumes(scan: Scan, style: Style) -> Iterator[Volume]:
    """The B-mode, then the shear wave if the scan has one. Raises ValueError without gray levels 0-255."""
    gray = scan.channel("b-mode") if "b-mode" in scan.channels else None
    if gray is None or gray.min() < 0 or gray.max() > 255:
        raise ValueError("a b-mode channel with gray levels 0-255 wanted")
    grid = (scan.affine, _box(scan.valid))
    yield Volume("b-mode", 1, gray, *grid, style.encoding, style.color)
    if "shear-wave-speed" in scan.channels:
        # JPEG Baseline holds 8 bits, and a lossy code would change what was measured.
        encoding = "explicit" if style.is_lossy else style.encoding
        values = _elasticity(scan, style)
        # The classic ultrasound classes hold 8 bits of gray (PS3.3 C.8.5.6), 255 being the largest value.
        bits = 16 if style.form.startswith("enhanced") else 8
        slope = SLOPES_16_BIT[style.elasticity] if bits == 16 else float(values.max() / 255) or 1.0
        mapping = Mapping(slope, style.elasticity)
        yield Volume("shear-wave", 2, values, *grid, encoding, "MONOCHROME2", bits, mapping)


def _elasticity(scan: Scan, style: Style) -> NDArray[np.float32]:
    """Shear-wave speed in the style's unit, 0 where there is no value."""
    speed = scan.channel("shear-wave-speed") * (scan.channel("shear-wave-valid") > 0)
    if style.elasticity == "kPa":
        return (3 * DENSITY_KG_M3 * speed**2 / 1000).astype(np.float32)
    return speed * np.float32(100) if style.elasticity == "cm/s" else speed


def _box(valid: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The smallest rectangle that holds the tissue of all slices, ends included."""
    seen = np.any(valid, axis=0)
    if not np.any(seen):
        raise ValueError("no voxel of the scan is inside the tissue region")
    rows, columns = np.flatnonzero(np.any(seen, axis=1)), np.flatnonzero(np.any(seen, axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])
