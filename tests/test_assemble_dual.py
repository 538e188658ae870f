"""Two pictures in one frame: the B-mode is analyzed, its twin gives the speed, on the grid of the frame."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_node.errors import UnsupportedPixels
from dicom_node.report import write_objects
from dicom_node.settings import Source
from dicom_node.study import Outcome
from models.findings import Segmentation
from tests.assemble_pictures import (
    BOX,
    DECLARED,
    INNER,
    echo,
    in_color,
    painted,
    region,
    speeds,
    write_frames,
)
from tests.assemble_studies import assemble, assemble_one
from tests.plain_analysis import Plain
from tests.report_phantom import SEGMENTS

ROWS, COLUMNS = 64, 80
LEFT, RIGHT = region(0, 0, 79, 63), region(80, 0, 159, 63)
ORDERS = {
    "left-right": (2, False),
    "right-left": (2, True),
    "top-bottom": (1, False),
    "bottom-top": (1, True),
}


def pictures(dual="left-right", seed=4):
    """B-mode and its twin in that order; where the B-mode is as a slice of (slice, row, column)."""
    axis, reverse = ORDERS[dual]
    pair = [in_color(echo()), painted(echo(), speeds(seed))]
    frames = np.concatenate(pair[::-1] if reverse else pair, axis=axis)
    size = (ROWS, COLUMNS)[axis - 1]
    place = [slice(None)] * 3
    place[axis] = slice(size, None) if reverse else slice(0, size)
    return frames, tuple(place)


def check(found, place):
    """B-mode of one picture, speed of the other, and nothing at the other's place."""
    mask = np.zeros(found.shape, np.bool_)
    mask[place] = True
    np.testing.assert_array_equal(found.valid, mask)
    np.testing.assert_array_equal(found.channel("b-mode")[place], echo())
    known = found.channel("shear-wave-valid") > 0
    assert not known[~mask].any()
    assert known[place][INNER].mean() > 0.99
    error = np.abs(found.channel("shear-wave-speed")[place] - speeds())[known[place]]
    assert error.max() < 0.03
    assert found.facts["dual"] == "B-mode beside shear wave"


@pytest.mark.parametrize("dual", ORDERS)
def test_halves_are_declared(tmp_path, dual):
    frames, place = pictures(dual)
    found = assemble_one(write_frames(tmp_path, frames), [replace(DECLARED, dual=dual)])
    check(found, place)


@pytest.mark.parametrize("dual", ORDERS)
def test_two_equal_tissue_regions_are_told_apart_by_their_color(tmp_path, dual):
    frames, place = pictures(dual)
    both = np.zeros(frames.shape[:3], np.bool_)
    both[place] = True
    regions = [box(mask) for mask in (~both, both)]
    check(assemble_one(write_frames(tmp_path, frames, regions), [DECLARED]), place)


def box(mask):
    rows, columns = np.flatnonzero(mask[0].any(1)), np.flatnonzero(mask[0].any(0))
    ends = (columns[0], rows[0], columns[-1], rows[-1])
    return region(*(int(end) for end in ends))


@given(
    top=st.integers(0, 9),
    left=st.integers(0, 9),
    gap=st.integers(0, 9),
    shift=st.integers(-1, 1),
    known=st.sampled_from(["both", "left", "right", "none"]),
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_twins_are_matched_pixel_by_pixel_wherever_they_are(tmp_path, top, left, gap, shift, known):
    """Text and margins around both, regions that are a column too wide, or calibrated in one half only."""
    frames, _ = pictures()
    width = 2 * COLUMNS + 2 * left + gap + gap % 2
    canvas = np.zeros((len(frames), ROWS + 2 * top, width, 3), np.uint8)
    second = width // 2 + left if known != "both" else left + COLUMNS + gap
    canvas[:, top : top + ROWS, left : left + COLUMNS] = frames[:, :, :COLUMNS]
    canvas[:, top : top + ROWS, second : second + COLUMNS] = frames[:, :, COLUMNS:]
    one = region(left, top, left + COLUMNS - 1, top + ROWS - 1)
    last = second + COLUMNS - 1 + (shift if second + COLUMNS + shift <= width else 0)
    two = region(second, top, last if known == "both" else second + COLUMNS - 1, top + ROWS - 1)
    regions = {"both": (one, two), "left": (one,), "right": (two,), "none": ()}[known]
    found = assemble_one(
        write_frames(tmp_path, canvas, regions), [replace(DECLARED, dual="left-right")]
    )
    place = np.s_[
        :, top : top + ROWS, left : left + COLUMNS + min(0, shift if known == "both" else 0)
    ]
    speed, wave = found.channel("shear-wave-speed"), found.channel("shear-wave-valid")
    shown = wave[:, top : top + ROWS, left : left + COLUMNS] > 0
    error = np.abs(speed[:, top : top + ROWS, left : left + COLUMNS] - speeds())[shown]
    assert shown[INNER].mean() > 0.99
    assert error.max() < 0.03
    if known != "none":
        np.testing.assert_array_equal(np.argwhere(found.valid).min(0)[1:], [top, left])
        assert found.valid[place].all()
    assert not found.valid[:, :, width // 2 + 1 :].any()


def test_a_mask_of_the_b_mode_lies_at_its_place_in_the_whole_frame(tmp_path):
    """The SEG has the size of the source, so a viewer lays it over the half that was analyzed."""
    frames, place = pictures("right-left")
    paths = write_frames(tmp_path / "in", frames, (LEFT, RIGHT))
    study = assemble(paths, [DECLARED])
    (acquisition,) = study.acquisitions
    labels = np.zeros(acquisition.scan.shape, np.uint8)
    labels[place][:, 10:30, 20:50] = 1
    findings = replace(
        Plain().run(acquisition.scan), segmentation=Segmentation(SEGMENTS, labels), measurements=()
    )
    (tmp_path / "out").mkdir()
    written = write_objects(study, [Outcome(0, "plain", findings)], tmp_path / "out")
    (seg,) = [item for item in written if item.kind == "segmentation"]
    dataset = dcmread(seg.path)
    assert (dataset.Rows, dataset.Columns) == (ROWS, 2 * COLUMNS)
    stored = dataset.pixel_array.reshape(-1, ROWS, 2 * COLUMNS)
    assert stored.any(0)[10:30, COLUMNS + 20 : COLUMNS + 50].all()
    assert stored.sum() == np.count_nonzero(labels)


@pytest.mark.parametrize(
    ("frames", "regions", "dual", "reason"),
    [
        (lambda: pictures("right-left")[0], (), "left-right", "shows color"),
        (lambda: pictures("right-left")[0], (LEFT, RIGHT), "left-right", "shows color"),
        (lambda: two(echo(), echo()), (LEFT, RIGHT), "", "declare dual"),
        (lambda: two(echo(), echo(9)), (LEFT, RIGHT), "left-right", "same image"),
        (lambda: two(echo(), echo(9)), (), "left-right", "same image"),
        (lambda: two(echo(9), echo(), paint=True), (LEFT, RIGHT), "", "same image"),
        (
            lambda: two(echo(), echo()),
            (LEFT, region(80, 0, 120, 63)),
            "",
            "2 tissue regions",
        ),
        (
            lambda: two(echo(), echo()),
            (LEFT, region(80, 0, 119, 63), region(120, 0, 159, 63)),
            "left-right",
            "3 tissue regions",
        ),
    ],
)
def test_several_pictures_of_which_none_is_certain_are_refused(
    tmp_path, frames, regions, dual, reason
):
    paths = write_frames(tmp_path, frames(), regions)
    with pytest.raises(UnsupportedPixels, match=reason):
        assemble(paths, [replace(DECLARED, dual=dual)])


def two(one, other, paint=False):
    second = painted(other, speeds()) if paint else in_color(other)
    return np.concatenate((in_color(one), second), axis=2)


def test_a_b_mode_beside_itself_needs_no_color(tmp_path):
    """The same source without its color box: the declared half is analyzed alone."""
    paths = write_frames(tmp_path, two(echo(), echo()))
    found = assemble_one(paths, [Source(dual="left-right")])
    assert found.channels == ("b-mode",)
    assert found.valid[:, :, :80].all()
    assert not found.valid[:, :, 80:].any()


def test_a_region_within_another_is_no_second_picture(tmp_path):
    """Some scanners list the color box as one more tissue region."""
    frames = painted(echo(), speeds())
    rows, columns = BOX[1], BOX[2]
    inner = region(columns.start, rows.start, columns.stop - 1, rows.stop - 1)
    found = assemble_one(write_frames(tmp_path, frames, (region(0, 0, 79, 63), inner)))
    assert found.facts["color"] == "overlay"
    assert "dual" not in found.facts
