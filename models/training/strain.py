"""Strain: a lumbar phantom made unlike the simulator's, but still layered, for a gate that must bear it.

Real scanners smooth, sharpen and grade gray levels in their own ways, people are curved, skin is cut off by
the upper edge. A gate fitted on plain phantoms alone would refuse all that this simulator did not make.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from models.phantom.streams import stream
from models.scan import Scan


def strain(seed: int, scan: Scan) -> Scan:
    """The same B-mode sweep, bent, cut off above, smoothed, graded and with noise; grid and order kept."""
    random = stream(seed, "strain")
    gray = _bent(random, scan)
    sigma = random.uniform(0, 0.5) / np.array(scan.spacing_mm[1:])
    smooth = gaussian_filter(gray, (0, *sigma))
    sharp = random.uniform(0, 1) * (smooth - gaussian_filter(smooth, (0, *(4 * sigma + 1))))
    gray = np.clip((smooth + sharp) / 255, 0, 1) ** random.uniform(0.6, 1.8)
    gray = 255 * gray * random.uniform(0.5, 1.1) + random.uniform(0, 12) * random.standard_normal(
        gray.shape
    )
    still = random.uniform() < 0.4
    if still:
        gray = np.repeat(gray[:1], gray.shape[0], axis=0)
    voxels = np.where(scan.valid, np.rint(np.clip(gray, 0, 255)), 0).astype(np.float32)
    return replace(scan, voxels=voxels[None], channels=("b-mode",), units=("1",))


def _bent(random: np.random.Generator, scan: Scan) -> NDArray[np.float32]:
    """Tilt, waves from side to side, another scale in depth, and up to 4 mm less above the skin."""
    gray = scan.channel("b-mode")
    _, rows, columns = gray.shape
    _, row_mm, column_mm = scan.spacing_mm
    side = (np.arange(columns) - columns / 2) * column_mm
    wave = random.uniform(0, 1.5) * np.sin(
        2 * np.pi * (side / random.uniform(15, 60) + random.uniform())
    )
    shift = random.uniform(0, 4) + wave + side * np.tan(np.deg2rad(random.uniform(-10, 10)))
    depth = np.arange(rows)[:, None] * row_mm
    # Below the skin everything is moved; deep down the shift is less, so that thickness changes as well.
    from_depth = depth * random.uniform(0.6, 1.1) + shift * np.exp(-depth / random.uniform(15, 200))
    where = np.stack([from_depth / row_mm, np.broadcast_to(np.arange(columns), (rows, columns))])
    bent = [map_coordinates(image, where, order=1, mode="nearest") for image in gray]
    return np.asarray(bent, np.float32)
