"""Which color model pixels really have, as headers are wrong about it: told by the pixels themselves.

Ultrasound is mostly gray. Gray is three equal planes in RGB, and two chroma planes at 128 in YBR_FULL (PS3.3
C.7.6.3.1.2), so that gray of one model is an impossible or a strong color in the other:

- gray of YBR: both chroma planes within 8 of 128, the first plane more than 24 away from it. As RGB this
  is a teal or a red on which the echo would be drawn in red.
- gray of RGB: planes within 16 of one another and two of them at least 56 away from 128. As YBR this is
  beyond what any RGB gives.
- impossible as YBR: beyond the RGB cube by more than 40. Halved chroma and lossy codes leave some at the
  edges of colors, dark RGB has nothing else.

A frame is RGB when 2% of it is gray of RGB, twice what is gray of YBR, or when half of it has planes within
16 of one another that are not at 128. A frame is YBR when 2% of it is gray of YBR, ten times what is gray of
RGB or impossible as YBR, and when it has what neither a teal background nor a tint in RGB has: the first
plane varies in a tenth of these pixels, and twice as many have their chroma there as have it around there
(9 to 24 from 128). Any other frame tells nothing: it is what the other frames of its series are that are
declared alike, or what its header says.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import convert_color_space

from dicom_node.assemble.overlay import spread_of
from dicom_node.errors import UnsupportedPixels

Model = Literal["RGB", "YBR"]
SAMPLES = 1 << 14
"""Pixels of a frame that are looked at, about."""
NEUTRAL = 128
MOST_CHROMA = 8
LEAST_FROM_NEUTRAL = 24
MOST_SPREAD = 16
LEAST_IMPOSSIBLE_CHROMA = 56
BEYOND = 40
MOST_AROUND = 24
LEAST_SHARE = 0.02
MOSTLY = 0.5
MOST_AGAINST = 0.1
CONCENTRATED = 2
LEAST_VARIED = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """A frame as it was decoded, uint8 (row, column, 3), and what header and code stream say that it is."""

    slot: int
    planes: NDArray[np.uint8]
    declared: str

    @property
    def said(self) -> Model:
        return "YBR" if self.declared.startswith("YBR_FULL") else "RGB"


@dataclass(slots=True)
class _Kind:
    """What is known of the frames that are declared alike, and those that wait until it is."""

    model: Model | None = None
    waiting: list[Planes] = field(default_factory=list)


@dataclass(slots=True)
class ColorModel:
    """The color model of the frames of one stack; ``note`` says where it is not what the header says."""

    study_uid: str
    note: str = ""
    _kinds: dict[str, _Kind] = field(default_factory=dict)

    def in_rgb(self, frames: Iterable[Planes]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(slice, frame in RGB) of each frame; those that tell nothing come when another one does.

        Raises UnsupportedPixels when frames that are declared alike are not of one model.
        """
        for frame in frames:
            kind = self._kinds.setdefault(frame.declared, _Kind())
            found = told(frame.planes)
            if found and kind.model and found != kind.model:
                raise UnsupportedPixels(
                    self.study_uid,
                    f"the pixels are declared as {frame.declared}, but some frames are RGB and others YBR",
                )
            kind.model = kind.model or found
            if kind.model is None:
                kind.waiting.append(frame)
                continue
            yield from self._converted([*kind.waiting, frame], kind.model)
            kind.waiting = []
        for kind in self._kinds.values():
            for frame in kind.waiting:
                yield from self._converted([frame], frame.said)

    def _converted(
        self, frames: Iterable[Planes], model: Model
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for frame in frames:
            if model != frame.said:
                self.note = (
                    f"the pixels are declared as {frame.declared}, but are {model}: read as such"
                )
            is_rgb = model == "RGB"
            yield (
                frame.slot,
                frame.planes if is_rgb else convert_color_space(frame.planes, "YBR_FULL", "RGB"),
            )


def told(planes: NDArray[np.uint8]) -> Model | None:
    """The color model of a frame (row, column, 3), None where its pixels do not tell."""
    step = max(1, round((planes.shape[0] * planes.shape[1] / SAMPLES) ** 0.5))
    pixels = planes[::step, ::step].astype(np.int16)
    first, chroma = pixels[..., 0], pixels[..., 1:] - NEUTRAL
    largest = np.abs(chroma).max(axis=-1)
    in_ybr = (largest <= MOST_CHROMA) & (np.abs(first - NEUTRAL) > LEAST_FROM_NEUTRAL)
    spread = spread_of(pixels)
    in_rgb = (spread <= MOST_SPREAD) & (np.abs(chroma).min(axis=-1) >= LEAST_IMPOSSIBLE_CHROMA)
    around = np.count_nonzero((largest > MOST_CHROMA) & (largest <= MOST_AROUND))
    of_ybr, of_rgb = np.count_nonzero(in_ybr), np.count_nonzero(in_rgb)
    least = LEAST_SHARE * first.size
    equal = np.count_nonzero((spread <= MOST_SPREAD) & (largest > MOST_CHROMA))
    if (of_rgb >= least and of_rgb >= CONCENTRATED * of_ybr) or equal >= MOSTLY * first.size:
        return "RGB"
    against = np.count_nonzero(in_rgb | _impossible(first, chroma))
    is_many = of_ybr >= least and of_ybr >= CONCENTRATED * around and of_ybr > 0
    if not is_many or against > MOST_AGAINST * of_ybr:
        return None
    levels = first[in_ybr]
    varied = np.abs(levels - np.median(levels)) >= 2
    return "YBR" if varied.mean() >= LEAST_VARIED else None


def _impossible(first: NDArray[np.int16], chroma: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Pixels that as YBR_FULL lie beyond the RGB cube."""
    blue, red = first + 1.772 * chroma[..., 0], first + 1.402 * chroma[..., 1]
    green = first - 0.344136 * chroma[..., 0] - 0.714136 * chroma[..., 1]
    lowest = np.minimum(np.minimum(blue, red), green)
    highest = np.maximum(np.maximum(blue, red), green)
    return np.asarray((lowest < -BEYOND) | (highest > 255 + BEYOND))


def model_by_length(header: Dataset, frame_count: int, length: int) -> str:
    """Photometric interpretation of pixels that are not compressed, where their number of bytes corrects it.

    YBR_FULL_422 has two bytes for a pixel, RGB and YBR_FULL have three (PS3.3 C.7.6.3.1.2).
    """
    declared = str(header.PhotometricInterpretation)
    pixels = int(header.Rows) * int(header.Columns) * frame_count * int(header.BitsAllocated) // 8
    if declared == "YBR_FULL_422" and length >= 3 * pixels:
        return "YBR_FULL"
    if declared in ("RGB", "YBR_FULL") and length in (2 * pixels, 2 * pixels + 1):
        return "YBR_FULL_422"
    return declared
