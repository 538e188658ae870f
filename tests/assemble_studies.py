"""Small synthetic studies for the tests of assemble."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from dicom_node.assemble import assemble_study
from dicom_node.study import StoredInstance, Study
from models.scan import Geometry, Scan

SHAPE = (4, 40, 36)
SPACING_MM = (0.5, 0.25, 0.2)
# Rows go anterior, columns to the left, slices to the feet, with an odd origin.
AFFINE = np.array([[0, 0, 0.2, -10], [0, -0.25, 0, 5], [-0.5, 0, 0, 7], [0, 0, 0, 1.0]])
MEASURED = ("enhanced", "enhanced-apex", "frames")
# Quality 95 and 50 dB, on noise, which no code likes.
LOSSY_GRAY_LEVELS = {"jpeg": 10, "j2k": 6}


def make_scan(affine=AFFINE, shear_wave=False, shape=SHAPE):
    rng = np.random.default_rng(5)
    gray = rng.integers(0, 256, shape).astype(np.float32)
    speed = rng.uniform(0.5, 8, shape).astype(np.float32)
    known = (rng.random(shape) > 0.2).astype(np.float32)
    count = 3 if shear_wave else 1
    valid = np.zeros(shape, np.bool_)
    valid[:, 3:-2, 1:-5] = True
    return Scan(
        np.stack((gray, speed * known, known)[:count]),
        ("b-mode", "shear-wave-speed", "shear-wave-valid")[:count],
        ("1", "m/s", "1")[:count],
        valid,
        np.array(affine),
        Geometry("measured", "measured", "measured"),
    )


def store(paths, calling_ae="US3"):
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    return [
        StoredInstance(header.SOPInstanceUID, header.SOPClassUID, path, calling_ae)
        for header, path in zip(headers, paths, strict=True)
    ], headers[0].StudyInstanceUID


def assemble(paths, sources=()) -> Study:
    instances, study_uid = store(paths)
    return assemble_study(study_uid, 1, instances, sources)


def assemble_one(paths, sources=()) -> Scan:
    (acquisition,) = assemble(paths, sources).acquisitions
    return acquisition.scan


def edit(path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path)
