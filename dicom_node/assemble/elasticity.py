"""Stored values of an elasticity map into shear-wave speed in m/s, by what the object and the site say."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.assemble.grouping import Stack
from dicom_node.assemble.instances import Frame, malformed
from dicom_node.assemble.pixels import decode_stored
from dicom_node.errors import UnsupportedPixels

SPEED_UNITS = {"m/s": 1.0, "cm/s": 0.01, "mm/s": 0.001}
PRESSURE_UNITS = {"kPa": 1000.0, "Pa": 1.0}
# Soft tissue; the convention of elastography (pressure is density times speed squared).
DENSITY_KG_M3 = 1000.0
# What a pressure means is a choice of the manufacturer: E = 3 rho c^2, or mu = rho c^2.
MODULUS_FACTOR = {"youngs-modulus": 3.0, "shear-modulus": 1.0}


@dataclass(frozen=True, slots=True)
class Mapping:
    """Stored values first to last are slope x value + intercept, which ``speed`` turns into m/s."""

    speed: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    first: float
    last: float
    slope: float
    intercept: float


def decode_speed(
    study_uid: str,
    stack: Stack,
    elasticity: str,
    speed: NDArray[np.float32],
    known: NDArray[np.float32],
) -> None:
    """Fill ``speed`` in m/s, and ``known`` with 1 where there is a value; both (slice, row, column).

    Values outside the mapped range, negative ones and nothing mapped are no value. ``elasticity`` is what the
    site declares of pressures. Raises UnsupportedPixels when the values have no certain meaning: a color or a
    gray level is never taken for a speed.
    """
    mappings = [_mapping(study_uid, frame, elasticity) for frame in stack.frames]
    for slot, stored in decode_stored(study_uid, stack):
        mapping = mappings[slot]
        values = mapping.slope * stored.astype(np.float64) + mapping.intercept
        mapped = (stored >= mapping.first) & (stored <= mapping.last) & (values >= 0)
        speed[slot] = np.where(mapped, mapping.speed(np.where(mapped, values, 0)), 0)
        known[slot] = mapped
    if not known.any():
        raise UnsupportedPixels(study_uid, "no pixel of the elasticity map has a value")


def _mapping(study_uid: str, frame: Frame, elasticity: str) -> Mapping:
    with malformed(study_uid, "the real world value mapping cannot be read"):
        items = _items(frame)
        if not items:
            raise UnsupportedPixels(
                study_uid,
                "elasticity map without real world value mapping: gray levels are no speed",
            )
        units = [str(item.MeasurementUnitsCodeSequence[0].CodeValue) for item in items]
        speeds = [number for number, unit in enumerate(units) if unit in SPEED_UNITS]
        pressures = [number for number, unit in enumerate(units) if unit in PRESSURE_UNITS]
        if not speeds and not pressures:
            raise UnsupportedPixels(
                study_uid, "elasticity map in a unit that is no speed or pressure"
            )
        if not speeds and elasticity not in MODULUS_FACTOR:
            raise UnsupportedPixels(
                study_uid,
                f"elasticity map in {units[pressures[0]]}: declare in [[sources]] elasticity whether this "
                "is Young's modulus or shear modulus",
            )
        chosen = (speeds or pressures)[0]
        return _linear(study_uid, items[chosen], conversion(units[chosen], elasticity))


def _items(frame: Frame) -> list[Dataset]:
    """Items of Real World Value Mapping: of the frame, else shared, else of the data set."""
    header = frame.instance.header
    own = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    places = [own[frame.number - 1]] if own else []
    for place in (*places, *shared[:1], header):
        if items := place.get("RealWorldValueMappingSequence"):
            return list(items)
    return []


def conversion(unit: str, elasticity: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Values of a unit into m/s; of a pressure only where ``elasticity`` is one of ``MODULUS_FACTOR``."""
    if unit in SPEED_UNITS:
        return lambda values: values * SPEED_UNITS[unit]
    return lambda values: np.sqrt(
        values * PRESSURE_UNITS[unit] / (MODULUS_FACTOR[elasticity] * DENSITY_KG_M3)
    )


def _linear(
    study_uid: str, item: Dataset, speed: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Mapping:
    """The linear form of PS3.3 C.7.6.16.2.11; the other form, a table, is not taken."""
    if "RealWorldValueSlope" not in item:
        raise UnsupportedPixels(study_uid, "elasticity map by lookup table, not by slope")
    first, last = (
        item.get(
            f"RealWorldValue{end}ValueMapped",
            item.get(f"DoubleFloatRealWorldValue{end}ValueMapped"),
        )
        for end in ("First", "Last")
    )
    ends = (float(first), float(last))
    line = (float(item.RealWorldValueSlope), float(item.RealWorldValueIntercept))
    if not np.isfinite((*ends, *line)).all():
        raise UnsupportedPixels(study_uid, "the real world value mapping is not finite")
    return Mapping(speed, *ends, *line)
