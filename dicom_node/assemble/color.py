"""A shear-wave picture into speed: the color of each pixel into a place on the declared map, into m/s.

A color is taken for a value only when the site declares map, range and unit, and when it is close to exactly
one place of the map. All else is no value: gray, other colors, edges, and both ends of the range,
where a scanner paints all that lies beyond.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.assemble.colormap import ENTRIES, check_same, named, shown
from dicom_node.assemble.elasticity import MODULUS_FACTOR, SPEED_UNITS, conversion
from dicom_node.assemble.overlay import grown
from dicom_node.errors import StudyError, UnsupportedPixels
from dicom_node.settings import Source as Declaration

TOLERANCE = 24.0
"""Distance to the map, RGB 0-255. JPEG of quality 50 moves 99% of the pixels by less than 18, and no gray
comes closer to jet, or to a scanner's map like it, than 87. A fainter color has a smaller map: x opacity."""
AMBIGUOUS = 6.0
"""Places of the map that are nearer than this to being nearest could be meant as well ..."""
SAME_PLACE = ENTRIES // 16
"""... and if they lie farther apart than this, the color has no certain value."""
CLIPPED = 4
"""Colors at an end of the map that lossy compression cannot tell from the last one."""
MOST_CLIPPED = 0.1
LEAST_ON_MAP = 0.5
LEAST_COLORED = 0.005
"""Share of the pixels that must be colored; less is a caliper or a logo."""
CHUNK = 16384
UNSEEN = 65535
COLOR_FLOW = 2
DOPPLER = 0x0010 | 0x0100
"""Color Doppler and color power mode in value 4 of Image Type (PS3.3 C.8.5.6.1.1)."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Values of the first and last color, how they become m/s, and the share of color in a pixel."""

    first: float
    last: float
    to_speed: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    opacity: float
    words: str


class Places:
    """Where on the map each color lies: kept for all colors of a study, as there are few of them."""

    def __init__(self, colors: NDArray[np.float64], opacity: float) -> None:
        self._colors = opacity * colors
        self._opacity = opacity
        self._known = np.full(1 << 24, UNSEEN, np.uint16)

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """(pixel, 3) -> 1 to ``ENTRIES``, 0 for a color that is not on the map or on it twice."""
        packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        new = np.unique(packed[self._known[packed] == UNSEEN])
        for start in range(0, new.size, CHUNK):
            part = new[start : start + CHUNK]
            rgb = np.stack((part >> 16, part >> 8 & 255, part & 255), axis=1)
            self._known[part] = self._find(rgb.astype(np.float64))
        return self._known[packed]

    def beneath(self, pixels: NDArray[np.uint8], places: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Gray level under a half-transparent color at a known place."""
        rest = pixels.mean(axis=1) - self._colors.mean(axis=1)[places.astype(np.intp) - 1]
        return np.clip(rest / (1 - self._opacity), 0, 255)

    def _find(self, rgb: NDArray[np.float64]) -> NDArray[np.uint16]:
        """pixel = opacity x color + (1 - opacity) x any gray: the distance that no gray can explain."""
        mean, means = rgb.mean(axis=1), self._colors.mean(axis=1)
        one, two = rgb - mean[:, None], self._colors - means[:, None]
        square = (one**2).sum(1)[:, None] + (two**2).sum(1) - 2 * one @ two.T
        gray = mean[:, None] - means
        square += 3 * (gray - np.clip(gray, 0, (1 - self._opacity) * 255)) ** 2
        distance = np.sqrt(np.maximum(square, 0))
        nearest = distance.min(axis=1)
        near = distance <= nearest[:, None] + AMBIGUOUS
        extent = ENTRIES - 1 - near[:, ::-1].argmax(1) - near.argmax(1)
        certain = (nearest <= TOLERANCE * self._opacity) & (extent <= SAME_PLACE)
        return np.where(certain, distance.argmin(1) + 1, 0).astype(np.uint16)


class ColorReader:
    """Reads the frames of one stack as they are decoded; ``left_out`` says why not, if so."""

    def __init__(self, study_uid: str, declared: Declaration, header: Dataset) -> None:
        color = declared.color
        self._study_uid, self._color = study_uid, color
        self._map: NDArray[np.float64] | None = None
        self._places: Places | None = None
        self.left_out = ""
        first, last = color.range
        words = f"{color.map or 'color bar'}, {first:g} to {last:g} {color.unit}"
        to_speed = conversion(color.unit, declared.elasticity)
        self.scale = Scale(first, last, to_speed, color.opacity, words)
        if _is_doppler(header):
            self.left_out = "the object says that its color is Doppler"
        elif color.unit not in SPEED_UNITS and declared.elasticity not in MODULUS_FACTOR:
            self.left_out = (
                f"colors in {color.unit}: declare in [[sources]] elasticity what they are"
            )

    def read(
        self, frame: NDArray[np.uint8], colored: NDArray[np.bool_], levels: NDArray[np.float32]
    ) -> NDArray[np.uint16] | None:
        """Place of each pixel (row, column) on the map, 0 for none; None when colors cannot be read.

        Under a half-transparent color the gray ``levels`` (row, column) are replaced by what lies beneath.
        """
        if self.left_out:
            return None
        try:
            known = self._prepare(frame)
        except StudyError as error:
            self.left_out = error.reason
            return None
        places = np.zeros(colored.shape, np.uint16)
        pixels = frame[colored]
        found = known.of(pixels)
        places[colored] = found
        if self._color.opacity < 1:
            on = found > 0
            levels[places > 0] = known.beneath(pixels[on], found[on])
        return places

    def _prepare(self, frame: NDArray[np.uint8]) -> Places:
        """The map from its file once, the bar of every frame held against it."""
        if self._map is None and self._color.map:
            self._map = named(self._study_uid, self._color.map)
        if self._color.bar:
            bar = shown(self._study_uid, frame, self._color.bar)
            if self._map is None:
                self._map = bar
            check_same(self._study_uid, bar, self._map)
        if self._places is None:
            assert self._map is not None  # settings demand a map or a bar
            self._places = Places(self._map, self._color.opacity)
        return self._places


def fill_speed(
    study_uid: str,
    scale: Scale,
    places: NDArray[np.float32],
    known: NDArray[np.float32],
    colored: NDArray[np.bool_],
) -> None:
    """Turn ``places`` into m/s where they are and fill ``known``; all (slice, row, column).

    Raises UnsupportedPixels when the picture is not what the site declares: too few of its colors are on
    the map, or too many at the end of its range.
    """
    on, total = np.count_nonzero(places), np.count_nonzero(colored)
    if on < LEAST_ON_MAP * total:
        raise UnsupportedPixels(
            study_uid,
            f"only {on / total:.0%} of the colored pixels have a color of the declared map",
        )
    low, high = _clipped(scale)
    beyond = np.count_nonzero((places >= 1) & ((places < low) | (places > high)))
    if beyond > MOST_CLIPPED * on:
        raise UnsupportedPixels(
            study_uid,
            f"{beyond / on:.0%} of the colors lie at the end of the range, so their value may be beyond it",
        )
    for slot, place in enumerate(places):
        sure = (place >= low) & (place <= high) & ~grown(~colored[slot])
        values = scale.first + (place.astype(np.float64) - 1) * (
            (scale.last - scale.first) / (ENTRIES - 1)
        )
        place[...] = np.where(sure, scale.to_speed(np.where(sure, values, 0)), 0)
        known[slot] = sure
    if not known.any():
        raise UnsupportedPixels(study_uid, "no pixel has a color of the declared map")


def _clipped(scale: Scale) -> tuple[int, int]:
    """First and last place with a certain value; nothing lies below a range that starts at 0."""
    ends = (scale.first > 0, True) if scale.first < scale.last else (True, scale.last > 0)
    return 1 + CLIPPED * ends[0], ENTRIES - CLIPPED * ends[1]


def _is_doppler(header: Dataset) -> bool:
    kinds = list(header.get("ImageType") or ())
    flags = str(kinds[3]) if len(kinds) > 3 else ""
    said = int(flags, 16) if flags and set(flags) <= set("0123456789ABCDEFabcdef") else 0
    regions = header.get("SequenceOfUltrasoundRegions") or ()
    return bool(said & DOPPLER) or any(
        region.get("RegionDataType") == COLOR_FLOW for region in regions
    )
