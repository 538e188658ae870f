"""Findings: what an analysis says of one scan, with units and concepts inside and no DICOM object in it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Voxel = tuple[float, float, float]
"""A point in voxel coordinates (slice, row, column), voxel centers at whole numbers."""


class Code(NamedTuple):
    """A coded concept: value, coding scheme designator, meaning (PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One structure: its number (1 or more), its words, and its display color (sRGB, 0-255)."""

    number: int
    label: str
    category: Code
    type: Code
    site: Code
    color: tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """All described segments, and ``labelmap`` uint8 (slice, row, column) on the scan's grid, 0 = outside.

    A segment without voxels is absent: described, measured by nothing.
    """

    segments: tuple[Segment, ...]
    labelmap: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.labelmap.dtype != np.uint8 or self.labelmap.ndim != 3:
            raise ValueError(
                f"labelmap: uint8 (slice, row, column) wanted, got {self.labelmap.dtype}"
            )
        numbers = [segment.number for segment in self.segments]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"segment numbers must count from 1, got {numbers}")
        if self.labelmap.size and int(self.labelmap.max()) > len(numbers):
            raise ValueError(
                f"labelmap holds {int(self.labelmap.max())}, but there are {len(numbers)} segments"
            )
        self.labelmap.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Classification:
    """A decision: the concept, each outcome's probability (0-1), and the logit of the first outcome.

    ``levels`` are the probabilities of ordered levels, from the one that is none of the concept up; empty
    where the decision has none.
    """

    concept: Code
    outcomes: tuple[tuple[Code, float], ...]
    logit: float
    levels: tuple[tuple[Code, float], ...] = ()

    def __post_init__(self) -> None:
        if not all(0.0 <= probability <= 1.0 for _, probability in self.outcomes + self.levels):
            raise ValueError(f"probabilities must lie in 0-1: {self.outcomes + self.levels}")


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """What a decision rests on, as a map float32 (slice, row, column) in 0-1 on the scan's grid."""

    concept: Code
    method: str
    target: str
    map: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.map.dtype != np.float32 or self.map.ndim != 3 or not np.isfinite(self.map).all():
            raise ValueError("attribution map: finite float32 (slice, row, column) wanted")
        self.map.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number with its meaning.

    value       finite; an absent measurement is absent, never 0.
    unit        UCUM.
    segment     number of the segment measured, None for the whole scan.
    method      how it was measured, or None.
    derivation  the statistic (mean, SD, ...), or None for a single value.
    line        the two ends of a caliper, in voxel coordinates of one slice, if the value is its length.
    """

    quantity: Code
    value: float
    unit: Code
    segment: int | None = None
    method: Code | None = None
    derivation: Code | None = None
    line: tuple[Voxel, Voxel] | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.quantity.meaning} of segment {self.segment} is {self.value}")


@dataclass(frozen=True, slots=True)
class Flag:
    """A reason to distrust the findings: a code and one sentence for the reader."""

    code: Code
    sentence: str


@dataclass(frozen=True, slots=True)
class Run:
    """What was run: enough to repeat it. ``seconds`` and ``device`` never enter a DICOM object."""

    analysis: str
    version: str
    weights_sha256: str
    settings: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All that one analysis says of one scan."""

    segmentation: Segmentation
    classifications: tuple[Classification, ...]
    attributions: tuple[Attribution, ...]
    measurements: tuple[Measurement, ...]
    flags: tuple[Flag, ...]
    run: Run

    def save(self, path: Path) -> None:
        """Write the findings as one NumPy archive."""
        arrays: dict[str, Any] = {
            f"map{number}": item.map for number, item in enumerate(self.attributions)
        }
        arrays |= {
            "labelmap": self.segmentation.labelmap,
            "text": np.array(json.dumps(self.describe())),
        }
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def describe(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON types."""
        return {
            "segments": [asdict(item) for item in self.segmentation.segments],
            "classifications": [asdict(item) for item in self.classifications],
            "attributions": [
                {"concept": item.concept, "method": item.method, "target": item.target}
                for item in self.attributions
            ],
            "measurements": [asdict(item) for item in self.measurements],
            "flags": [asdict(item) for item in self.flags],
            "run": {
                **asdict(self.run),
                "settings": dict(self.run.settings),
                "libraries": dict(self.run.libraries),
            },
        }

    @classmethod
    def load(cls, path: Path) -> "Findings":
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            text = json.loads(str(archive["text"]))
            maps = [archive[f"map{number}"] for number in range(len(text["attributions"]))]
            return cls(
                Segmentation(
                    tuple(_segment(item) for item in text["segments"]), archive["labelmap"]
                ),
                tuple(_classification(item) for item in text["classifications"]),
                tuple(
                    Attribution(Code(*item["concept"]), item["method"], item["target"], array)
                    for item, array in zip(text["attributions"], maps, strict=True)
                ),
                tuple(_measurement(item) for item in text["measurements"]),
                tuple(Flag(Code(*item["code"]), item["sentence"]) for item in text["flags"]),
                Run(**text["run"]),
            )


def _segment(item: dict[str, Any]) -> Segment:
    codes = {key: Code(*item[key]) for key in ("category", "type", "site")}
    red, green, blue = item["color"]
    return Segment(item["number"], item["label"], color=(red, green, blue), **codes)


def _classification(item: dict[str, Any]) -> Classification:
    outcomes, levels = (
        # Findings that were saved before there were levels have none.
        tuple((Code(*code), probability) for code, probability in item.get(key, ()))
        for key in ("outcomes", "levels")
    )
    return Classification(Code(*item["concept"]), outcomes, item["logit"], levels)


def _measurement(item: dict[str, Any]) -> Measurement:
    codes = {key: Code(*item[key]) if item[key] else None for key in ("method", "derivation")}
    line = None
    if item["line"]:
        (slice0, row0, column0), (slice1, row1, column1) = item["line"]
        line = ((slice0, row0, column0), (slice1, row1, column1))
    quantity, unit = Code(*item["quantity"]), Code(*item["unit"])
    return Measurement(quantity, item["value"], unit, item["segment"], line=line, **codes)
