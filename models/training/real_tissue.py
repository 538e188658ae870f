"""Real tissue: the statistics of published images of layered limbs, which the gate must not refuse.

The images are not part of this project; what the gate reads of them is, in real_tissue.csv, and that suffices
to fit. The statistics follow from the segmentation network, so compute them anew whenever it is trained:
``python -m models.training.real_tissue WEIGHTS IMAGES`` reads a folder with one folder of images per source.

The images have no spacing: their depth is drawn. They are single: each is shown still, as a short sweep that
moves a little, and still with all that the screen shows beside it.
"""

import csv
import io
import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import find_objects, label, map_coordinates, uniform_filter

from models.layer.place import REASONS, statistics
from models.layer.weights import Weights, load_weights
from models.phantom.streams import stream
from models.scan import Geometry, Scan
from models.training.found import digest, find

Half = Literal["fit", "held-out"]
Array = NDArray[np.float32]
TABLE = Path(__file__).with_name("real_tissue.csv")
DEPTH_MM = (35.0, 65.0)
STEP_MM = 0.5
FLATTEST = 1.0  # gray levels of spread, of what may still be an image
LEAST_PIXELS = 16
MOST_PIXELS = 560
SHOWINGS = ("still", "moving", "whole")


@dataclass(frozen=True, slots=True)
class Source:
    """Published images: where, under which licence, and how they are halved.

    block  images that lie together in number may be of one person: so many in a row go to the same half.
    every  one of so many is taken.
    """

    folder: str
    files: str
    licence: str
    attribution: str
    block: int
    first: Half = "fit"
    every: int = 1


SOURCES = (
    Source(
        "dl_track_aponeurosis",
        "image_*.png",
        "Apache-2.0",
        "DL_Track, github.com/njcronin/DL_Track, apo_images: lower limb, several scanners",
        block=8,
        every=3,
    ),
    Source(
        "timtrack_ds1",
        "*.png",
        "CC0-1.0",
        "TimTrack, github.com/timvanderzee/ultrasound-automated-algorithm, dataset 1: vastus lateralis, GE",
        block=1000,
    ),
    Source(
        "timtrack_ds2",
        "*.png",
        "CC0-1.0",
        "TimTrack, as before, dataset 2: gastrocnemius, GE",
        block=1000,
        first="held-out",
    ),
    Source(
        "timtrack_ds3",
        "*.jpg",
        "CC-BY-4.0",
        "TimTrack dataset 3, zenodo.org/records/2598553: gastrocnemius, Telemed",
        block=1000,
        first="held-out",
    ),
    Source(
        "timtrack_ds4",
        "*.png",
        "CC-BY-4.0",
        "TimTrack dataset 4, Mendeley Data dpmf9bz8pt: gastrocnemius, Telemed and Philips",
        block=1000,
    ),
    Source(
        "usgra_seg",
        "img_*.png",
        "CC-BY-4.0",
        "usgra-seg, github.com/tmkand/usgra-seg: regions of nerves, Mindray",
        block=10,
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One showing of one image, and its statistics."""

    source: str
    half: str
    image: str
    showing: str
    depth_mm: float
    statistics: dict[str, float]


def read_table(path: Path = TABLE) -> list[Row]:
    """The rows of real_tissue.csv."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    return [
        Row(
            item["source"],
            item["half"],
            item["image"],
            item["showing"],
            float(item["depth_mm"]),
            {name: float(item[name]) for name in REASONS},
        )
        for item in csv.DictReader(lines)
    ]


def weights_of_table(path: Path = TABLE) -> str:
    """Digest of the segmentation network that the table was computed with."""
    return path.read_text(encoding="utf-8").split("segmentation network ", 1)[1].split(".", 1)[0]


def write_table(folder: Path, images: Path, out: Path = TABLE, processes: int = 1) -> None:
    """Compute the statistics of all showings of all images with the weights of a folder, and write them."""
    jobs = [(source, half, path) for source in SOURCES for half, path in halved(source, images)]
    make = partial(_rows, folder=folder)
    if processes > 1:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            rows = [row for part in pool.map(make, jobs) for row in part]
    else:
        rows = [row for job in jobs for row in make(job)]
    out.write_text(_csv(rows, digest(load_weights(folder))), encoding="utf-8")


def halved(source: Source, images: Path) -> Iterator[tuple[Half, Path]]:
    """The images of a source that are taken, each with its half."""
    order: tuple[Half, Half] = ("fit", "held-out")
    paths = sorted((images / source.folder).glob(source.files))[:: source.every]
    for number, path in enumerate(paths):
        yield order[(number // source.block + order.index(source.first)) % 2], path


def shown(gray: Array, showing: str, depth_mm: float, seed: int) -> Scan:
    """A published image as a scan of square pixels: still twice, or moving a little over three slices."""
    if showing != "whole":
        gray = gray[image_area(gray)]
    step_mm = depth_mm / gray.shape[0]
    frames = _moved(gray, step_mm, seed) if showing == "moving" else np.repeat(gray[None], 2, 0)
    return Scan(
        frames[None],
        ("b-mode",),
        ("1",),
        np.ones(frames.shape, np.bool_),
        np.diag([STEP_MM, step_mm, step_mm, 1.0]),
        Geometry("assumed", "assumed"),
    )


def image_area(gray: Array) -> tuple[slice, slice]:
    """The largest rectangle about connected pixels that are not flat, as rulers, text and margins are."""
    mean = uniform_filter(gray, 7)
    spread = np.sqrt(np.maximum(uniform_filter(gray**2, 7) - mean**2, 0))
    busy = uniform_filter((spread > FLATTEST).astype(np.float32), 21) > 0.6
    parts, count = label(busy)
    if count == 0:
        return slice(None), slice(None)
    largest = int(np.argmax(np.bincount(parts.ravel())[1:]))
    rows, columns = find_objects(parts)[largest]
    if min(rows.stop - rows.start, columns.stop - columns.start) < LEAST_PIXELS:
        return slice(None), slice(None)
    return rows, columns


def _moved(gray: Array, step_mm: float, seed: int) -> Array:
    """Three slices, each a little beside the last, with a little noise of its own."""
    random = stream(seed, "real.moving")
    size_mm = random.uniform(0.02, 0.3)
    noise = random.uniform(0.0, 0.08)
    rows, columns = np.indices(gray.shape).astype(np.float64)
    frames = []
    down, aside = 0.0, 0.0
    for _ in range(3):
        moved = map_coordinates(gray, [rows + down, columns + aside], order=1, mode="nearest")
        frames.append(moved * (1 + noise * random.standard_normal(gray.shape)))
        down += 0.3 * size_mm / step_mm * random.standard_normal()
        aside += size_mm / step_mm * random.choice((-1, 1))
    return np.rint(np.clip(frames, 0, 255)).astype(np.float32)


def _rows(job: tuple[Source, Half, Path], folder: Path) -> list[Row]:
    source, half, path = job
    gray = read_gray(path)
    rows = []
    for number, showing in enumerate(SHOWINGS):
        seed = sum(path.name.encode()) * len(SHOWINGS) + number
        depth_mm = round(float(stream(seed, "real.depth").uniform(*DEPTH_MM)), 1)
        scan = shown(gray, showing, depth_mm, seed)
        layers = find(scan, _weights(folder))
        found = statistics(scan, layers)
        rows.append(Row(source.folder, half, path.stem, showing, depth_mm, found))
    return rows


def read_gray(path: Path) -> Array:
    """An image file as gray levels from 0 to 255, at most ``MOST_PIXELS`` wide and high."""
    with Image.open(path) as image:
        gray = image.convert("L")
    gray.thumbnail((MOST_PIXELS, MOST_PIXELS), Image.Resampling.BOX)
    return np.asarray(gray, np.float32)


@cache
def _weights(folder: Path) -> Weights:
    torch.set_num_threads(1)
    return load_weights(folder)


def _csv(rows: Sequence[Row], weights: str) -> str:
    text = io.StringIO()
    text.write(
        "# Statistics of the gate, of published images of real tissue, none part of this project.\n"
    )
    text.write(
        f"# Written by models.training.real_tissue with the segmentation network {weights}.\n"
    )
    for source in SOURCES:
        text.write(f"# {source.folder}: {source.licence}. {source.attribution}.\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "half", "image", "showing", "depth_mm", *REASONS])
    for row in rows:
        values = [_short(row.statistics[name]) for name in REASONS]
        writer.writerow([row.source, row.half, row.image, row.showing, row.depth_mm, *values])
    return text.getvalue()


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "nan"


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), Path(sys.argv[2]), processes=2)
