"""Gray levels of more than 8 bits, frames in time, and regions that are none."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.errors import UnsupportedPixels
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Source
from models.scan import Geometry
from tests.assemble_pictures import echo, in_color, region, write_frames
from tests.assemble_studies import SHAPE, assemble, assemble_one, edit, make_scan


def write_wide(folder, stored, bits=16, **header):
    """A multi-frame instance of stored values of more than 8 bits, signed where their type is."""

    def fill(dataset):
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        dataset.PixelData = stored.tobytes()
        dataset["PixelData"].VR = "OW"
        for key, value in header.items():
            setattr(dataset, key, value)

    paths = write_study(make_scan(), folder, Style("multiframe"))
    edit(paths[0], fill)
    return paths


def values(low, high, kind=np.uint16):
    """Every level of a range at least about once, in disorder."""
    every = np.linspace(low, high, int(np.prod(SHAPE))).astype(kind)
    return np.random.default_rng(1).permutation(every).reshape(SHAPE)


def test_the_window_of_the_object_gives_the_gray_levels(tmp_path):
    stored = values(0, 4095)
    paths = write_wide(tmp_path, stored, 12, WindowCenter="2000", WindowWidth="3001")
    found = assemble_one(paths)
    # PS3.3 C.11.2.1.2.1: black at c - 0.5 - (w - 1) / 2, white at c - 0.5 + (w - 1) / 2
    expected = np.clip((stored.astype(float) - 499.5) / 3000 * 255, 0, 255)
    np.testing.assert_allclose(found.channel("b-mode"), expected, atol=1e-3)
    assert found.facts["gray_levels"] == "12 bits by window 499.5 to 3499.5"


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_an_inverted_image_is_windowed_before_it_is_inverted(tmp_path, kind):
    stored = values(0, 2000, kind)
    header = {"WindowCenter": "600", "WindowWidth": "801"}
    header["PhotometricInterpretation"] = "MONOCHROME1"
    found = assemble_one(write_wide(tmp_path, stored, 12, **header))
    expected = 255 - np.clip((stored.astype(float) - 199.5) / 800 * 255, 0, 255)
    np.testing.assert_allclose(found.channel("b-mode"), expected, atol=1e-3)


def test_a_window_is_of_rescaled_values_and_may_be_exact(tmp_path):
    stored = values(0, 4095)
    header = {"RescaleSlope": "2", "RescaleIntercept": "-100", "VOILUTFunction": "LINEAR_EXACT"}
    paths = write_wide(tmp_path, stored, 12, WindowCenter="4000", WindowWidth="6000", **header)
    expected = np.clip((2.0 * stored - 100 - 1000) / 6000 * 255, 0, 255)
    np.testing.assert_allclose(assemble_one(paths).channel("b-mode"), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("header", "bits"),
    [({}, 12), ({"WindowCenter": "2000", "WindowWidth": "9", "VOILUTFunction": "SIGMOID"}, 12)],
)
def test_without_a_linear_window_the_bits_count(tmp_path, header, bits):
    stored = values(0, 4000)
    found = assemble_one(write_wide(tmp_path, stored, bits, **header))
    np.testing.assert_allclose(found.channel("b-mode"), stored / 4095 * 255, atol=1e-3)
    assert found.facts["gray_levels"] == "12 bits by their full range"


def test_eight_bits_in_sixteen_stay_as_they_are(tmp_path):
    stored = values(0, 255)
    found = assemble_one(write_wide(tmp_path, stored))
    np.testing.assert_array_equal(found.channel("b-mode"), stored)
    assert "gray_levels" not in found.facts


@given(
    window=st.one_of(st.none(), st.tuples(st.floats(0.05, 0.95), st.integers(2, 9000))),
    signed=st.booleans(),
    inverted=st.booleans(),
)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_gray_levels_keep_their_order(tmp_path, window, signed, inverted):
    stored = values(-2000 if signed else 0, 2000 if signed else 4095, np.int16)
    stored = stored if signed else stored.astype(np.uint16)
    header = {"PhotometricInterpretation": "MONOCHROME1"} if inverted else {}
    if window:
        center = stored.min() + window[0] * np.ptp(stored.astype(int))
        header |= {"WindowCenter": f"{center:.1f}", "WindowWidth": str(window[1])}
    paths = write_wide(tmp_path, stored, 12, **header)
    gray = assemble_one(paths).channel("b-mode")
    order = np.argsort(stored.ravel(), kind="stable")
    steps = np.diff(gray.ravel()[order])
    assert (steps <= 0).all() if inverted else (steps >= 0).all()
    assert gray.min() >= 0
    assert gray.max() <= 255


def test_a_film_is_never_said_to_have_a_frame_step(tmp_path):
    """A multi-frame has a frame time whether it is a film or a sweep: only the site can tell."""
    paths = write_study(make_scan(), tmp_path, Style("multiframe"))
    found = assemble_one(paths)
    assert found.geometry.frame_step == "assumed"
    assert "in time" in found.facts["geometry_notes"]
    found = assemble_one(paths, [Source(frame_spacing_mm=0.4)])
    assert found.geometry.frame_step == "declared"
    assert "geometry_notes" not in found.facts
    edit(paths[0], lambda dataset: delattr(dataset, "FrameTime"))
    found = assemble_one(paths)
    assert found.geometry.frame_step == "assumed"
    assert "geometry_notes" not in found.facts


def pixels(item):
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 0
    return item


def flat(item):
    item.PhysicalDeltaY = 0.0
    return item


@pytest.mark.parametrize(
    ("regions", "inside", "in_plane"),
    [
        ((region(200, 200, 300, 300),), np.s_[:, :], "unknown"),
        ((region(20, 10, 500, 500), region(200, 200, 300, 300)), np.s_[10:, 20:], "measured"),
        ((pixels(region(20, 10, 60, 50)),), np.s_[10:51, 20:61], "unknown"),
        ((flat(region(20, 10, 60, 50)),), np.s_[10:51, 20:61], "unknown"),
        ((region(0, 0, 79, 63, data_type=10),), np.s_[:, :], "unknown"),
    ],
)
def test_regions_that_say_nothing_are_none(tmp_path, regions, inside, in_plane):
    """Beside the image, clipped by it, not in centimeters, without height, an ECG strip."""
    found = assemble_one(write_frames(tmp_path, in_color(echo()), regions))
    mask = np.zeros(found.shape[1:], np.bool_)
    mask[inside] = True
    np.testing.assert_array_equal(found.valid[0], mask)
    assert found.geometry == Geometry(in_plane, "assumed", "assumed")


def test_nothing_but_color_is_no_b_mode(tmp_path):
    frames = in_color(echo())
    frames[..., 2] = 255 - frames[..., 2] // 4
    frames[:, ::2, :, 0] = 255
    frames[:, ::2, :, 2] = 0
    with pytest.raises(UnsupportedPixels, match="no B-mode"):
        assemble(write_frames(tmp_path, frames, (region(0, 0, 79, 63),)))
