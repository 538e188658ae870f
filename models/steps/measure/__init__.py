"""measure: thickness, calipers, volume, echo intensity and shear-wave speed of labeled layers."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from models.steps.measure.caliper import caliper, caliper_slice
from models.steps.measure.columns import (
    Columns,
    Ground,
    Plane,
    columns_of,
    disordered,
    heights_mm,
    probe_rows,
    visible_depth_mm,
)
from models.steps.measure.laplace import laplace_mm
from models.steps.measure.surface import surface_distance_mm
from models.steps.measure.thickness import (
    Statistics,
    statistics,
    tilt_corrected_mm,
    volume_over_area_mm,
)
from models.steps.measure.voxels import (
    SPEED_M_S,
    Echo,
    Speed,
    echo_of,
    eroded,
    inner_voxels,
    speed_of,
    volume_mm3,
)

__all__ = [
    "SPEED_M_S",
    "THICKNESS",
    "Columns",
    "Echo",
    "Ground",
    "Plane",
    "Speed",
    "Statistics",
    "caliper",
    "caliper_slice",
    "columns_of",
    "disordered",
    "echo_of",
    "eroded",
    "heights_mm",
    "inner_voxels",
    "laplace_mm",
    "probe_rows",
    "speed_of",
    "statistics",
    "surface_distance_mm",
    "tilt_corrected_mm",
    "visible_depth_mm",
    "volume_mm3",
    "volume_over_area_mm",
]

THICKNESS: Mapping[str, Callable[[Ground, Columns], Plane]] = MappingProxyType(
    {
        "T1": heights_mm,
        "T2": tilt_corrected_mm,
        "T3": surface_distance_mm,
        "T4": laplace_mm,
        "T6": volume_over_area_mm,
    }
)
"""Definitions of thickness, one number in mm per column; T2 is the default everywhere."""
