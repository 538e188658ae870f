"""A scan: the array side of a study. Axis order is (channel, slice, row, column), here and everywhere."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Provenance = Literal["measured", "declared", "assumed", "unknown"]
CHANNELS = frozenset(
    {"b-mode", "shear-wave-speed", "shear-wave-valid", "t1", "t2", "dixon-water", "dixon-fat"}
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where each part of the geometry came from.

    ``measured`` was read from the object, ``declared`` by the site's configuration, ``assumed`` filled in so
    that an array can be placed at all, ``unknown`` not there. No millimeter may be reported without a
    measured or declared ``in_plane``, no volume without a measured or declared ``frame_step``.
    """

    in_plane: Provenance = "unknown"
    frame_step: Provenance = "unknown"
    orientation: Provenance = "unknown"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value not in get_args(Provenance):
                raise ValueError(f"geometry.{name} is {value!r}, not one of {get_args(Provenance)}")

    @property
    def in_plane_known(self) -> bool:
        return self.in_plane in ("measured", "declared")

    @property
    def frame_step_known(self) -> bool:
        return self.frame_step in ("measured", "declared")


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Co-registered channels of one acquisition on the grid of its source frames.

    voxels    float32 (channel, slice, row, column), read-only. B-mode: stored gray level; never normalized.
    channels  one name per channel, of ``CHANNELS``.
    units     one UCUM unit per channel: ``1`` for gray levels and masks, ``m/s`` for shear-wave speed.
    valid     bool (slice, row, column): inside the tissue region of the image.
    affine    float64 (4, 4): (slice, row, column, 1) -> patient LPS millimeters, at voxel centers.
    facts     what an analysis may need and no identity: transducer, side, level, gain.
    """

    voxels: NDArray[np.float32]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    valid: NDArray[np.bool_]
    affine: NDArray[np.float64]
    geometry: Geometry
    modality: str = "US"
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.voxels.ndim != 4 or self.voxels.dtype != np.float32:
            raise ValueError(
                f"voxels: float32 (channel, slice, row, column) wanted, got "
                f"{self.voxels.dtype} {self.voxels.shape}"
            )
        if not (len(self.channels) == len(self.units) == self.voxels.shape[0]):
            raise ValueError(
                f"{self.voxels.shape[0]} channels, but names {self.channels}, units {self.units}"
            )
        if unknown := set(self.channels) - CHANNELS:
            raise ValueError(f"unknown channels {sorted(unknown)}, known are {sorted(CHANNELS)}")
        if self.valid.shape != self.voxels.shape[1:] or self.valid.dtype != np.bool_:
            raise ValueError(
                f"valid: bool {self.voxels.shape[1:]} wanted, got {self.valid.dtype} {self.valid.shape}"
            )
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise ValueError("affine: a finite 4 x 4 matrix wanted")
        if not np.isfinite(self.voxels).all():
            raise ValueError("voxels: not finite")
        for array in (self.voxels, self.valid, self.affine):
            array.setflags(write=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows, columns."""
        slices, rows, columns = self.voxels.shape[1:]
        return slices, rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighboring voxel centers along slice, row and column, in mm."""
        step, row, column = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(step), float(row), float(column)

    def channel(self, name: str) -> NDArray[np.float32]:
        """One channel, (slice, row, column). Raises KeyError when the scan has no such channel."""
        if name not in self.channels:
            raise KeyError(f"no channel {name!r}; this scan has {', '.join(self.channels)}")
        return self.voxels[self.channels.index(name)]

    def save(self, path: Path) -> None:
        """Write the scan as one NumPy archive."""
        text = json.dumps(
            {
                "channels": self.channels,
                "units": self.units,
                "geometry": asdict(self.geometry),
                "modality": self.modality,
                "facts": dict(self.facts),
            }
        )
        with path.open("wb") as file:
            np.savez(
                file, voxels=self.voxels, valid=self.valid, affine=self.affine, text=np.array(text)
            )

    @classmethod
    def load(cls, path: Path) -> "Scan":
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            text = json.loads(str(archive["text"]))
            return cls(
                archive["voxels"],
                tuple(text["channels"]),
                tuple(text["units"]),
                archive["valid"],
                archive["affine"],
                Geometry(**text["geometry"]),
                text["modality"],
                text["facts"],
            )
