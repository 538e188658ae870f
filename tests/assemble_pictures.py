"""Frames as a scanner shows them: speckle, a shear-wave box painted over it, two pictures side by side."""

import io

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from scipy.ndimage import gaussian_filter

from dicom_node.scanner import Style, write_study
from dicom_node.settings import Color, Source
from models.scan import Geometry, Scan
from tests.assemble_studies import edit

SLICES, ROWS, COLUMNS = 8, 64, 80
BOX = np.s_[:, 12:52, 14:66]
"""Where the shear wave is painted in a picture (slice, row, column)."""
INNER = np.s_[:, 14:50, 16:64]
"""Its inside without the edge, where color and gray mix."""
RANGE_M_S = (0.0, 8.0)
DECLARED = Source(color=Color(map="jet", range=RANGE_M_S, unit="m/s"))
DELTA_CM = 0.02


def echo(seed=3, shape=(SLICES, ROWS, COLUMNS)):
    """Speckle whose brightness falls with depth, gray levels 10 to 220 (slice, row, column)."""
    noise = np.random.default_rng(seed).rayleigh(1, shape)
    speckle = gaussian_filter(noise, (0, 1, 1)) * np.linspace(110, 60, shape[1])[:, None]
    return np.clip(np.rint(speckle), 10, 220).astype(np.uint8)


def speeds(seed=4, low=0.8, high=6.5, shape=(SLICES, ROWS, COLUMNS)):
    """A smooth map of shear-wave speeds in m/s."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, 9, 9))
    return low + (high - low) * (field - field.min()) / np.ptp(field)


def jet(share):
    """RGB 0-255 of 0 to 1, written here again so that a fault of the product's map shows."""
    place = 4 * np.asarray(share)[..., None]
    return 255 * np.clip(1.5 - np.abs(place - np.array([3.0, 2.0, 1.0])), 0, 1)


def painted(gray, values, opacity=1.0, colors=jet, ends=RANGE_M_S):
    """RGB (slice, row, column, 3): the picture with the box of colors laid over it."""
    frames = np.repeat(gray[..., None], 3, axis=-1).astype(np.float64)
    share = (values[BOX] - ends[0]) / (ends[1] - ends[0])
    frames[BOX] = opacity * colors(np.clip(share, 0, 1)) + (1 - opacity) * frames[BOX]
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def in_color(gray):
    return np.repeat(gray[..., None], 3, axis=-1)


def region(first_column, first_row, last_column, last_row, data_type=1):
    """A tissue region, ends included, with square pixels of 0.2 mm."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, data_type, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = first_column, first_row
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = last_column, last_row
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = DELTA_CM
    return item


def write_frames(folder, frames, regions=(), quality=None, change=lambda dataset: None):
    """One multi-frame instance of RGB frames (slice, row, column, 3), as JPEG where a quality is given."""
    shape = frames.shape[:3]
    blank = Scan(
        np.zeros((1, *shape), np.float32),
        ("b-mode",),
        ("1",),
        np.ones(shape, np.bool_),
        np.eye(4),
        Geometry(),
    )

    def fill(dataset):
        dataset.PixelData = frames.tobytes()
        if quality:
            dataset.PixelData = encapsulate([jpeg(frame, quality) for frame in frames])
            dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
            dataset.PhotometricInterpretation = "YBR_FULL_422"
            dataset.LossyImageCompression = "01"
        dataset.SequenceOfUltrasoundRegions = list(regions)
        change(dataset)

    paths = write_study(blank, folder, Style("multiframe", color="RGB"))
    edit(paths[0], fill)
    return paths


def jpeg(frame, quality):
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling="4:2:2")
    return buffer.getvalue()
