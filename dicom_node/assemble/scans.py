"""One acquisition: decoded channels, tissue region and facts of a placed stack and its elasticity map."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.assemble.annotation import LEAST_FRAMES, Marks, find_marks
from dicom_node.assemble.burned_in import burned_in
from dicom_node.assemble.color import LEAST_COLORED, ColorReader, fill_speed
from dicom_node.assemble.dual import Dual, Frames, split
from dicom_node.assemble.elasticity import decode_speed
from dicom_node.assemble.facts import describe
from dicom_node.assemble.grouping import Stack
from dicom_node.assemble.instances import malformed
from dicom_node.assemble.levels import to_white
from dicom_node.assemble.overlay import grown
from dicom_node.assemble.pixels import Gray, decode_gray
from dicom_node.assemble.placement import Placed
from dicom_node.assemble.regions import beside_fan
from dicom_node.assemble.writing import Writing, find_writing
from dicom_node.errors import StudyError, TooLarge, UnsupportedPixels
from dicom_node.settings import Color
from dicom_node.settings import Source as Declaration
from dicom_node.study import Acquisition
from models.scan import Scan

CHANNELS = ("b-mode", "shear-wave-speed", "shear-wave-valid")
UNITS = ("1", "m/s", "1")
HIDDEN = (
    "its color hides the B-mode: send both side by side, or declare the opacity if it is below 1"
)


@dataclass(frozen=True, slots=True)
class Assembled:
    """An acquisition, and why its elasticity map is not in it, or "" when it is or when there is none."""

    acquisition: Acquisition
    left_out: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """What is seen: gray levels, color, B-mode (slice, row, column); marks, writing, bar (row, column)."""

    gray: Gray
    colored: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    marks: Marks
    writing: Writing
    bar: NDArray[np.bool_]
    dual: Dual | None
    scaled: str


@dataclass(frozen=True, slots=True, eq=False)
class _Wave:
    """Shear wave: is it in the voxels, or why not; where the echo beneath is known; what it was made from."""

    is_shown: bool = False
    left_out: str = ""
    beneath: NDArray[np.bool_] | None = None
    words: str = ""


def assemble_scan(
    study_uid: str,
    tissue: Placed,
    elastic: Placed | None,
    declared: Declaration | None,
    largest_bytes: int,
) -> Assembled:
    """Decode the B-mode and its elasticity map, or the shear wave painted over it, into one Scan.

    Shear wave that cannot become m/s for certain is left out with its reason, the B-mode stays. Raises
    TooLarge before anything is decoded that takes more than ``largest_bytes``, UnsupportedPixels when the
    B-mode cannot be decoded or shows nothing, Incomplete when frames are missing.
    """
    declared = declared or Declaration()
    reader = None
    if declared.color != Color() and not elastic:
        reader = ColorReader(study_uid, declared, tissue.stack.frames[0].instance.header)
    voxels = _room(study_uid, (3 if elastic or reader else 1, *tissue.stack.shape), largest_bytes)
    ground = _look(study_uid, tissue, declared, reader, voxels)
    wave = _Wave()
    if elastic:
        wave = _decode(study_uid, elastic.stack, declared.elasticity, voxels)
    elif reader and ground.colored.mean() >= LEAST_COLORED:
        wave = _uncolor(study_uid, reader, ground, voxels)
    valid = _valid(ground, wave.beneath)
    if not valid.any():
        raise UnsupportedPixels(study_uid, "no B-mode is seen: color covers the tissue")
    if wave.is_shown and reader and not (valid & (voxels[2] > 0)).any():
        wave = _Wave(left_out=HIDDEN)
    if len(voxels) > 1 and not wave.is_shown:
        voxels = voxels[:1].copy()
    with malformed(study_uid, "the description of the acquisition cannot be read"):
        frames = tissue.stack.frames + (elastic.stack.frames if elastic else ())
        facts = describe(frames, _own_facts(tissue, ground, wave))
    names, units = CHANNELS[: len(voxels)], UNITS[: len(voxels)]
    scan = Scan(voxels, names, units, valid, tissue.affine, tissue.geometry, "US", facts)
    stacks = [tissue.stack] + ([elastic.stack] if elastic and wave.is_shown else [])
    sources = (replace(one.origin(), character_set=declared.character_set) for one in stacks)
    return Assembled(Acquisition(scan, tuple(sources)), wave.left_out)


def _room(study_uid: str, shape: tuple[int, ...], largest_bytes: int) -> NDArray[np.float32]:
    if (needed := 4 * int(np.prod(shape))) > largest_bytes:
        room = f"{needed >> 20} MiB decoded, and {largest_bytes >> 20} MiB are left for it"
        raise TooLarge(study_uid, f"the sweep is too large: {room}")
    return np.zeros(shape, np.float32)


def _look(
    study_uid: str,
    tissue: Placed,
    declared: Declaration,
    reader: ColorReader | None,
    voxels: NDArray[np.float32],
) -> _Ground:
    """Decode the B-mode, with the place of each color on the map into the second channel."""

    def read(slot: int, frame: NDArray[np.uint8], colored: NDArray[np.bool_]) -> None:
        places = reader.read(frame, colored, voxels[0, slot]) if reader else None
        if places is not None:
            voxels[1, slot] = places

    gray = decode_gray(study_uid, tissue.stack, voxels[0], read)
    with malformed(study_uid, "the window of the gray levels cannot be read"):
        scaled = to_white(voxels[0], tissue.stack.frames)
    if gray.levels.min() == gray.levels.max():
        raise UnsupportedPixels(study_uid, "the images are blank: every pixel has the same value")
    colored = np.zeros(gray.levels.shape, np.bool_) if gray.colored is None else gray.colored
    bar = _bar(declared.color, colored.shape[1:])
    dual = split(study_uid, tissue.pictures, declared.dual, Frames(gray.levels, colored, bar))
    inside = tissue.inside
    if dual:
        inside = np.zeros_like(inside)
        inside[dual.tissue.slices] = True
    header = tissue.stack.frames[0].instance.header
    is_lossy = header.get("LossyImageCompression") == "01"
    marks = find_marks(gray.levels, np.asarray(inside.any(axis=0)), is_lossy)
    writing = find_writing(gray.levels, colored, is_lossy)
    return _Ground(gray, colored, inside, marks, writing, bar, dual, scaled)


def _bar(color: Color, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the site says the color bar is, bool (row, column): its colors are no shear wave."""
    bar = np.zeros(shape, np.bool_)
    if color.bar:
        left, top, right, bottom = color.bar
        bar[top : bottom + 1, left : right + 1] = True
    return bar


def _decode(study_uid: str, stack: Stack, elasticity: str, voxels: NDArray[np.float32]) -> _Wave:
    try:
        decode_speed(study_uid, stack, elasticity, voxels[1], voxels[2])
    except StudyError as error:
        return _Wave(left_out=error.reason)
    return _Wave(is_shown=True)


def _uncolor(
    study_uid: str, reader: ColorReader, ground: _Ground, voxels: NDArray[np.float32]
) -> _Wave:
    """Places on the map into m/s, in a dual image moved from its twin onto the B-mode."""
    if reader.left_out:
        return _Wave(left_out=reader.left_out)
    if ground.gray.is_tinted:
        return _Wave(left_out="the whole image is tinted, so its colors are no map")
    colored = ground.colored
    if ground.dual:
        here, twin = ground.dual.tissue.slices, ground.dual.twin.slices
        places, painted = voxels[1][twin].copy(), colored[twin]
        colored = np.zeros_like(colored)
        voxels[1], voxels[1][here], colored[here] = 0, places, painted
    colored = colored & ground.inside & ~ground.bar
    voxels[1] *= colored
    try:
        fill_speed(study_uid, reader.scale, voxels[1], voxels[2], colored)
    except StudyError as error:
        return _Wave(left_out=error.reason)
    is_clear = reader.scale.opacity < 1 and not ground.dual
    beneath = voxels[2] > 0 if is_clear else None
    return _Wave(is_shown=True, beneath=beneath, words=f"by color: {reader.scale.words}")


def _valid(ground: _Ground, beneath: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """B-mode and nothing else: beside the fan is no tissue, under color and annotation none is seen."""
    gray = np.where(ground.colored, np.float32(0), ground.gray.levels)
    black = beside_fan(gray, ground.inside, ground.marks.on_black)
    hidden = grown(ground.colored)
    if beneath is not None:
        hidden &= ~beneath
    valid: NDArray[np.bool_] = ground.inside & ~black & ~hidden & ~ground.marks.on_tissue
    return valid


def _own_facts(tissue: Placed, ground: _Ground, wave: _Wave) -> dict[str, str]:
    color = "overlay" if ground.colored.any() else "gray"
    marked = np.count_nonzero(ground.marks.on_tissue)
    searched = ground.marks.searched
    headers = [instance.header for instance in tissue.stack.instances]
    return {
        "color": "tinted" if ground.gray.is_tinted else color,
        "annotation": (f"{marked} pixels left out" if marked else "")
        if searched
        else f"not searched in fewer than {LEAST_FRAMES} frames",
        "burned_in": burned_in(headers, ground.inside, ground.writing),
        "gray_levels": ground.scaled,
        "dual": "B-mode beside shear wave" if ground.dual else "",
        "shear_wave": wave.words,
        "shear_wave_left_out": wave.left_out,
        "geometry_notes": "; ".join(tissue.notes),
        "pixel_notes": ground.gray.note,
    }
