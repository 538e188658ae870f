"""The stand-in scanner writes valid ultrasound, the same bytes each time."""

import shutil
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.scanner import Style, write_study
from dicom_node.scanner.style import COLORS, ENCODINGS, FORMS
from models.scan import Geometry, Scan

SHAPE = (3, 40, 36)
AFFINE = np.array([[0, 0, 0.2, -10], [-0.5, 0, 0, 5], [0, 0.25, 0, 7], [0, 0, 0, 1.0]])


def make_scan(shape=SHAPE, shear_wave=True):
    rng = np.random.default_rng(1)
    gray = rng.integers(0, 256, shape).astype(np.float32)
    speed = rng.uniform(0.5, 8, shape).astype(np.float32)
    known = (rng.random(shape) > 0.2).astype(np.float32)
    count = 3 if shear_wave else 1
    return Scan(
        np.stack((gray, speed, known)[:count]),
        ("b-mode", "shear-wave-speed", "shear-wave-valid")[:count],
        ("1", "m/s", "1")[:count],
        np.ones(shape, np.bool_),
        AFFINE.copy(),
        Geometry("measured", "measured", "measured"),
    )


def possible_styles():
    for form in FORMS:
        for encoding in ENCODINGS:
            for color in COLORS:
                try:
                    yield Style(form, encoding, color, seed=3)
                except ValueError:
                    continue


# Two irregular styles that scanners write nevertheless: the validator is right to complain.
REGULAR = [
    style
    for style in possible_styles()
    if (style.encoding, style.color) != ("jpeg", "RGB")
    and not (style.color == "YBR_FULL_422" and style.encoding != "jpeg")
]


def test_a_study_has_one_patient_who_never_was_and_a_series_for_each_channel(tmp_path):
    paths = write_study(make_scan(), tmp_path, Style("frames", seed=7))
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    assert len(headers) == 2 * SHAPE[0]
    assert {str(header.PatientName) for header in headers} == {"PHANTOM^7"}
    assert len({header.StudyInstanceUID for header in headers}) == 1
    assert [header.SeriesNumber for header in headers] == [1, 1, 1, 2, 2, 2]
    assert [header.InstanceNumber for header in headers] == [1, 2, 3, 1, 2, 3]
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_call_writes_the_same_bytes_and_another_seed_another_study(tmp_path, form):
    first, again, other = (
        write_study(make_scan(), tmp_path / name, Style(form, seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert dcmread(first[0]).StudyInstanceUID != dcmread(other[0]).StudyInstanceUID


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"form": "enhanced", "color": "RGB"}, "MONOCHROME2"),
        ({"form": "frames", "encoding": "jpeg", "color": "PALETTE COLOR"}, "lossy"),
        ({"form": "frames", "encoding": "rle", "color": "YBR_FULL_422"}, "chroma"),
        ({"form": "cine"}, "not one of"),
        ({"encoding": "zip"}, "not one of"),
        ({"elasticity": "bar"}, "not one of"),
    ],
)
def test_what_does_not_go_together_is_refused(choice, reason):
    with pytest.raises(ValueError, match=reason):
        Style(**choice)


def test_a_scan_without_gray_levels_is_refused(tmp_path):
    scan = make_scan()
    bright = Scan(
        scan.voxels * 2, scan.channels, scan.units, scan.valid, scan.affine, scan.geometry
    )
    with pytest.raises(ValueError, match="0-255"):
        write_study(bright, tmp_path, Style())


def test_a_native_multiframe_holds_its_pixels_once(tmp_path):
    scan = make_scan((64, 128, 128), shear_wave=False)
    tracemalloc.start()
    write_study(scan, tmp_path, Style("multiframe"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * scan.valid.size  # one byte a pixel; a growing buffer may double once


@pytest.mark.peer
@pytest.mark.parametrize("form", FORMS)
def test_dciodvfy_finds_no_error(tmp_path, form):
    dciodvfy = shutil.which("dciodvfy", path="/usr/bin:/bin:/usr/local/bin")
    if not dciodvfy:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    for number, style in enumerate(style for style in REGULAR if style.form == form):
        paths = write_study(make_scan(), tmp_path / str(number), style)
        for path in (paths[0], paths[-1]):
            assert errors(dciodvfy, path) == [], style


def errors(dciodvfy: str, path: Path) -> list[str]:
    run = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]
