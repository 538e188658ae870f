"""Shear wave that arrives as colors becomes m/s by what the site declares, and by nothing else."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat

from dicom_node.assemble.color import Places
from dicom_node.settings import Color, Match, Source
from tests.assemble_pictures import (
    BOX,
    DECLARED,
    INNER,
    RANGE_M_S,
    echo,
    jet,
    painted,
    region,
    speeds,
    write_frames,
)
from tests.assemble_studies import assemble, assemble_one

HALF = Source(color=Color(map="jet", range=RANGE_M_S, unit="m/s", opacity=0.5))
WHOLE = (region(0, 0, 79, 63),)


def dual(values, **more):
    """The B-mode, and beside it the same with the colors over it."""
    gray = echo()
    frames = painted(gray, values, **more)
    return np.concatenate((np.repeat(gray[..., None], 3, axis=3), frames), axis=2)


TWO = (region(0, 0, 79, 63), region(80, 0, 159, 63))


@pytest.mark.parametrize(
    ("quality", "median_m_s", "most_m_s"), [(None, 0.01, 0.02), (90, 0.02, 0.4), (60, 0.03, 0.6)]
)
def test_a_declared_map_gives_meters_per_second(tmp_path, quality, median_m_s, most_m_s):
    values = speeds(low=0.3, high=7.6)
    found = assemble_one(write_frames(tmp_path, dual(values), TWO, quality), [DECLARED])
    assert found.units == ("1", "m/s", "1")
    speed, known = (found.channel(name)[:, :, :80] for name in found.channels[1:])
    assert known[INNER].mean() > 0.995
    outside = np.ones(known.shape, np.bool_)
    outside[BOX] = False
    assert not known[outside].any()
    assert not speed[known == 0].any()
    if quality is None:  # edges mix color and gray, so one pixel of the box has no value
        assert np.count_nonzero(known) == 8 * (40 - 2) * (52 - 2)
    error = np.abs(speed - values)[known > 0]
    assert np.median(error) < median_m_s
    assert np.quantile(error, 0.999) < most_m_s
    assert found.facts["shear_wave"] == "by color: jet, 0 to 8 m/s"


def test_kilopascals_are_what_the_site_says_they_are(tmp_path):
    kilopascals = speeds(low=5, high=80)
    frames = dual(kilopascals, ends=(0, 100))
    paths = write_frames(tmp_path, frames, TWO)
    color = Color(map="jet", range=(0.0, 100.0), unit="kPa")
    for elasticity, factor in (("youngs-modulus", 3), ("shear-modulus", 1)):
        found = assemble_one(paths, [Source(color=color, elasticity=elasticity)])
        known = found.channel("shear-wave-valid")[:, :, :80] > 0
        speed = found.channel("shear-wave-speed")[:, :, :80][known]
        np.testing.assert_allclose(speed, np.sqrt(kilopascals[known] / factor), rtol=0.03)
    found = assemble_one(paths, [Source(color=color)])
    assert found.channels == ("b-mode",)
    assert "elasticity" in found.facts["shear_wave_left_out"]


def test_a_range_may_run_downward_and_starts_anywhere(tmp_path):
    values = speeds(low=1.4, high=3.6)
    color = Color(map="jet", range=(4.0, 1.0), unit="m/s")
    paths = write_frames(tmp_path, dual(values, ends=(4.0, 1.0)), TWO)
    found = assemble_one(paths, [Source(color=color)])
    known = found.channel("shear-wave-valid")[:, :, :80] > 0
    assert known[INNER].all()
    error = np.abs(found.channel("shear-wave-speed")[:, :, :80] - values)[known]
    assert error.max() < 0.01


def test_without_a_declaration_a_color_stays_a_color_and_is_no_echo(tmp_path):
    gray, values = echo(), speeds()
    found = assemble_one(write_frames(tmp_path, painted(gray, values), WHOLE))
    assert found.channels == ("b-mode",)
    assert found.facts["color"] == "overlay"
    box = np.zeros(gray.shape, np.bool_)
    box[BOX] = True
    assert not found.valid[box].any()
    far = np.ones(gray.shape, np.bool_)
    far[:, 11:53, 13:67] = (
        False  # the edge of a box mixes color and gray, so one pixel around it is lost too
    )
    np.testing.assert_array_equal(found.valid, far)
    np.testing.assert_array_equal(found.channel("b-mode")[far], gray[far])


@pytest.mark.parametrize("share", [0.05, 0.45])
def test_a_large_box_of_soft_tissue_is_no_tint(tmp_path, share):
    """Soft tissue is dark blue, darker than what counts as lit, and may cover most of the image."""
    gray, values = echo(), np.full((8, 64, 80), share * 8)
    frames = np.repeat(gray[..., None], 3, axis=3)
    frames[:, 4:, 4:76] = painted(gray, values)[:, 20:21, 20:21]
    found = assemble_one(write_frames(tmp_path, frames, WHOLE))
    assert found.facts["color"] == "overlay"
    assert not found.valid[:, 4:, 4:76].any()


@pytest.mark.parametrize("quality", [None, 80])
def test_a_tint_of_the_whole_image_hides_nothing(tmp_path, quality):
    gray = echo()
    sepia = np.rint(gray[..., None] * np.array([1.0, 0.8, 0.5])).astype(np.uint8)
    found = assemble_one(write_frames(tmp_path, sepia, WHOLE, quality), [DECLARED])
    assert found.facts["color"] == "tinted"
    assert found.channels == ("b-mode",)
    assert found.valid.all()


@pytest.mark.parametrize("quality", [None, 90])
def test_a_declared_opacity_gives_the_speed_and_the_echo_beneath(tmp_path, quality):
    gray, values = echo(), speeds()
    paths = write_frames(tmp_path, painted(gray, values, opacity=0.5), WHOLE, quality)
    found = assemble_one(paths, [HALF])
    known = found.channel("shear-wave-valid") > 0
    assert known[INNER].mean() > 0.99
    assert found.valid[known].all()
    speed_error = np.abs(found.channel("shear-wave-speed") - values)[known]
    gray_error = np.abs(found.channel("b-mode") - gray)[known]
    if quality is None:
        assert speed_error.max() < 0.05
        assert gray_error.max() < 2
    else:
        assert np.median(speed_error) < 0.03
        assert np.median(gray_error) < 5


def test_an_opaque_box_over_the_only_picture_hides_the_layers_whose_speed_it_shows(tmp_path):
    found = assemble_one(write_frames(tmp_path, painted(echo(), speeds()), WHOLE), [DECLARED])
    assert found.channels == ("b-mode",)
    assert "hides the B-mode" in found.facts["shear_wave_left_out"]


def other_map(share):
    return 255 * np.stack((share, 0.2 + 0 * share, 1 - share), axis=-1)


def doppler(dataset):
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "", "0011"]


def color_flow(dataset):
    dataset.SequenceOfUltrasoundRegions.append(region(20, 20, 40, 40, data_type=2))


@pytest.mark.parametrize(
    ("frames", "change", "color", "reason"),
    [
        (lambda: dual(speeds(), colors=other_map), None, {}, "declared map"),
        (lambda: dual(speeds(), opacity=0.5), None, {}, "declared map"),
        (lambda: dual(speeds(low=4, high=12)), None, {}, "end of the range"),
        (lambda: dual(speeds()), doppler, {}, "Doppler"),
        (lambda: dual(speeds()), color_flow, {}, "Doppler"),
        (lambda: dual(speeds()), None, {"bar": (1, 1, 5, 60)}, "gray"),
        (lambda: dual(speeds()), None, {"bar": (100, 20, 140, 50), "map": ""}, "single|declared"),
        (lambda: dual(speeds()), None, {"bar": (150, 1, 170, 60)}, "outside the image"),
        (lambda: dual(speeds()), None, {"map": "nowhere.csv"}, "cannot be read"),
    ],
)
def test_colors_that_are_not_what_is_declared_are_left_out(tmp_path, frames, change, color, reason):
    paths = write_frames(tmp_path, frames(), TWO, change=change or (lambda dataset: None))
    study = assemble(paths, [Source(color=replace(DECLARED.color, **color))])
    found = study.acquisitions[0].scan
    assert found.channels == ("b-mode",)
    assert any(word in found.facts["shear_wave_left_out"] for word in reason.split("|"))
    assert found.valid[:, :, :80].all()


def with_bar(frames, colors=jet):
    """A bar left of the picture, lowest color at the bottom, with a tick across it."""
    bar = np.rint(colors(np.linspace(1, 0, 60)))[:, None].repeat(6, axis=1)
    margin = np.zeros((*frames.shape[:2], 12, 3), np.uint8)
    margin[:, 2:62, 3:9] = bar
    margin[:, 30, 3:5] = 255
    return np.concatenate((margin, frames), axis=2)


def purple(share):
    return 255 * np.stack((share, 0.1 + 0.3 * share**2, 1 - 0.4 * share), axis=-1)


BAR = (3, 2, 8, 61)
BESIDE_BAR = (region(12, 0, 91, 63), region(92, 0, 171, 63))


@pytest.mark.parametrize("regions", [BESIDE_BAR, ()])
def test_the_map_is_read_from_the_bar_in_the_image(tmp_path, regions):
    values = speeds()
    frames = with_bar(dual(values, colors=purple), colors=purple)
    source = Source(color=Color(bar=BAR, range=RANGE_M_S, unit="m/s"), dual="left-right")
    if not regions:  # without regions the halves are those of the frame, so the bar needs a twin
        frames = np.insert(frames, [92] * 12, 0, axis=2)
    found = assemble_one(write_frames(tmp_path, frames, regions), [source])
    known = found.channel("shear-wave-valid")[:, :, 12:92] > 0
    assert known[INNER].mean() > 0.99
    assert not found.channel("shear-wave-valid")[:, :, :12].any()
    error = np.abs(found.channel("shear-wave-speed")[:, :, 12:92] - values)[known]
    assert error.max() < 8 / 60


def test_a_declared_map_is_held_against_the_bar_of_every_frame(tmp_path):
    frames = with_bar(dual(speeds()))
    source = Source(color=replace(DECLARED.color, bar=BAR))
    assert len(assemble_one(write_frames(tmp_path, frames, BESIDE_BAR), [source]).channels) == 3
    frames[3] = with_bar(dual(speeds()), colors=purple)[3]
    found = assemble_one(write_frames(tmp_path, frames, BESIDE_BAR), [source])
    assert "not the declared map" in found.facts["shear_wave_left_out"]


@pytest.mark.parametrize("suffix", [".csv", ".png"])
def test_the_map_is_read_from_a_file(tmp_path, suffix):
    colors = np.rint(purple(np.linspace(0, 1, 64)))
    path = tmp_path / f"map{suffix}"
    if suffix == ".csv":
        np.savetxt(path, colors, delimiter=",", header="red, green, blue")
    else:
        Image.fromarray(colors[::-1, None].astype(np.uint8)).save(path)
    values = speeds()
    source = Source(color=Color(map=str(path), range=RANGE_M_S, unit="m/s"))
    frames = dual(values, colors=purple)
    found = assemble_one(write_frames(tmp_path / "study", frames, TWO), [source])
    known = found.channel("shear-wave-valid")[:, :, :80] > 0
    error = np.abs(found.channel("shear-wave-speed")[:, :, :80] - values)[known]
    assert known[INNER].all()
    assert error.max() < 0.1


def test_a_declaration_may_be_for_one_series(tmp_path):
    def described(dataset):
        dataset.SeriesDescription = "SWE right"

    paths = write_frames(tmp_path, dual(speeds()), TWO, change=described)
    for series, count in (("SWE right", 3), ("B-mode", 1)):
        source = replace(DECLARED, match=Match(series=series))
        assert len(assemble_one(paths, [source]).channels) == count


@given(
    anchors=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=3, max_size=6),
    opacity=st.floats(0.3, 1),
    gray=st.integers(0, 255),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_found_place_is_never_far_from_the_painted_one(anchors, opacity, gray, seed):
    """Whatever the map: a color is given its place, or none where the map passes it twice; noise moves it
    by no more than the map's own slowness there."""
    colors = np.stack(
        [
            np.interp(np.linspace(0, len(anchors) - 1, 256), np.arange(len(anchors)), channel)
            for channel in np.array(anchors, float).T
        ],
        axis=1,
    )
    painted_place = np.random.default_rng(seed).integers(0, 256, 200)
    pixels = opacity * colors[painted_place] + (1 - opacity) * gray
    found = Places(colors, opacity).of(np.rint(pixels).astype(np.uint8)).astype(int)
    assert np.abs(found - 1 - painted_place)[found > 0].max(initial=0) <= 16


@pytest.mark.skipif(
    "DICOM_NODE_TEST_DATA" not in os.environ,
    reason="DICOM_NODE_TEST_DATA names no folder of real files",
)
def test_the_map_of_a_real_scanner(tmp_path):
    """110 colors that were read off a scanner's bar, and screenshots whose colors are none of it."""
    folder = Path(os.environ["DICOM_NODE_TEST_DATA"]) / "us_images" / "swe"
    colors = loadmat(folder / "colormap.mat")["map"]
    np.savetxt(tmp_path / "map.csv", colors, delimiter=",")
    source = Source(color=Color(map=str(tmp_path / "map.csv"), range=RANGE_M_S, unit="m/s"))

    def scanner(share):
        return 255 * colors[np.rint(np.asarray(share) * (len(colors) - 1)).astype(int)]

    values = np.broadcast_to(np.linspace(0.1, 7.8, 64)[:, None], (8, 64, 80))
    for quality, most in ((None, 0.08), (75, 0.35)):
        frames = dual(values, colors=scanner)
        found = assemble_one(write_frames(tmp_path / "study", frames, TWO, quality), [source])
        known = found.channel("shear-wave-valid")[:, :, :80] > 0
        assert known[INNER].mean() > 0.99
        speed = found.channel("shear-wave-speed")[:, :, :80]
        assert np.quantile(np.abs(speed - values)[known], 0.999) < most
        along = np.median(np.where(known, speed, np.nan)[INNER], axis=(0, 2))
        assert np.all(np.diff(along) > -most / 10)  # monotone along the bar
    places = Places(255 * colors, 1.0)
    for name in ("sc1.png", "sc3.png"):
        with Image.open(folder / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert not places.of(pixels).any()
