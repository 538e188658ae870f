"""Thickness, calipers and volumes on bodies whose truth is known by construction."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.steps.measure import (
    THICKNESS,
    Ground,
    caliper,
    caliper_slice,
    columns_of,
    disordered,
    echo_of,
    eroded,
    heights_mm,
    inner_voxels,
    laplace_mm,
    probe_rows,
    speed_of,
    statistics,
    surface_distance_mm,
    tilt_corrected_mm,
    visible_depth_mm,
    volume_mm3,
)

SHAPE = (24, 220, 90)
SPACING = (0.3, 0.1, 0.2)


def tilted(thickness, lateral=0.0, elevational=0.0, spacing=SPACING, shape=SHAPE, deeper=0.0):
    """A plate of label 3 between labels 2 and 4, tilted by two angles in degrees; thickness across it.

    ``deeper`` moves it by a part of a row.
    """
    along_slices, along_columns = np.tan(np.radians([elevational, lateral]))
    x = (np.arange(shape[0]) - (shape[0] - 1) / 2) * spacing[0]
    y = (np.arange(shape[2]) - (shape[2] - 1) / 2) * spacing[2]
    middle = (
        (shape[1] / 2 + deeper) * spacing[1] + x[:, None] * along_slices + y[None] * along_columns
    )
    half = thickness / 2 * np.sqrt(1 + along_slices**2 + along_columns**2)
    depth = (np.arange(shape[1]) * spacing[1])[None, :, None]
    labelmap = np.full(shape, 2, np.uint8)
    labelmap[depth >= (middle - half)[:, None]] = 3
    labelmap[depth >= (middle + half)[:, None]] = 4
    return labelmap


def ground(labelmap, spacing=SPACING):
    return Ground(labelmap, np.ones(labelmap.shape, bool), spacing)


@given(
    thickness=st.sampled_from([1.0, 2.0, 4.0]),
    lateral=st.floats(-30, 30),
    elevational=st.floats(-20, 20),
)
@example(thickness=1.0, lateral=0.0, elevational=18.0)
@settings(max_examples=25, deadline=None)
def test_thickness_is_true_on_tilted_plates(thickness, lateral, elevational):
    """On the average of eight places between two rows: where a slice or column is a row deeper than the
    one before, all of them round a height to the same side."""
    slopes = np.tan(np.radians([lateral, elevational]))
    secant = np.sqrt(1 + (slopes**2).sum())
    corrected, heights = [], []
    for deeper in np.arange(8) / 8:
        place = ground(tilted(thickness, lateral, elevational, deeper=deeper))
        columns = columns_of(place, 3)
        assert columns.complete.all()
        corrected.append(np.nanmean(tilt_corrected_mm(place, columns)))
        heights.append(heights_mm(place, columns).mean())
    assert np.mean(corrected) == pytest.approx(thickness, abs=0.02)
    assert np.mean(heights) == pytest.approx(thickness * secant, abs=0.02)


@given(
    thickness=st.sampled_from([1.0, 2.0, 4.0]),
    lateral=st.floats(-30, 30),
    elevational=st.floats(-15, 15),
)
@settings(max_examples=6, deadline=None)
def test_the_other_definitions_agree_on_tilted_plates(thickness, lateral, elevational):
    place = ground(tilted(thickness, lateral, elevational))
    columns = columns_of(place, 3)
    found = {name: np.nanmean(how(place, columns)) / thickness for name, how in THICKNESS.items()}
    assert 0.97 <= found["T3"] <= 1.005
    assert found["T4"] == pytest.approx(1, abs=0.02 if elevational else 0.015)
    assert found["T6"] == pytest.approx(1, abs=0.02 / thickness)


def test_field_lines_start_half_a_voxel_outside():
    place = ground(tilted(1.0))
    assert laplace_mm(place, columns_of(place, 3)) == pytest.approx(1.0, abs=1e-3)
    assert surface_distance_mm(place, columns_of(place, 3)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("method", ["T3", "T4"])
def test_without_frame_spacing_surfaces_are_compared_within_the_image(method):
    place = ground(tilted(3.0, 20, 25), (None, 0.1, 0.2))
    found = np.nanmedian(THICKNESS[method](place, columns_of(place, 3)))
    lateral, elevational = np.tan(np.radians([20, 25]))
    in_plane = 3.0 * np.sqrt(1 + lateral**2 + elevational**2) / np.sqrt(1 + lateral**2)
    assert found == pytest.approx(in_plane, rel=0.03)
    assert found > 3.15


def test_without_frame_spacing_only_the_tilt_within_the_image_is_corrected():
    labelmap = tilted(3.0, 20, 25)
    place = ground(labelmap, (None, 0.1, 0.2))
    found = np.nanmean(tilt_corrected_mm(place, columns_of(place, 3)))
    lateral, elevational = np.tan(np.radians([20, 25]))
    secant = np.sqrt(1 + lateral**2 + elevational**2)
    assert found == pytest.approx(3.0 * secant / np.sqrt(1 + lateral**2), abs=0.03)
    assert found > 3.1


@given(lateral=st.floats(-25, 25), elevational=st.floats(-25, 25))
@settings(max_examples=10, deadline=None)
def test_swapping_the_axes_with_their_spacing_changes_nothing(lateral, elevational):
    labelmap = tilted(2.0, lateral, elevational, (0.3, 0.1, 0.2), (40, 220, 40))
    swapped = np.ascontiguousarray(labelmap.transpose(2, 1, 0))
    here, there = ground(labelmap), ground(swapped, (0.2, 0.1, 0.3))
    first = tilt_corrected_mm(here, columns_of(here, 3))
    second = tilt_corrected_mm(there, columns_of(there, 3))
    np.testing.assert_allclose(first, second.T, atol=1e-9)


@given(angle=st.floats(-30, 30), shear=st.floats(-1, 1))
@settings(max_examples=15, deadline=None)
def test_mean_height_times_area_is_the_volume(angle, shear):
    labelmap = tilted(2.0, angle)
    affine = np.diag([*SPACING, 1.0])
    affine[0, 1] = shear  # oblique frames: the determinant, not the product of lengths, is right
    place = ground(labelmap)
    columns = columns_of(place, 3)
    area = columns.present.sum() * SPACING[0] * SPACING[2]
    volume = volume_mm3(labelmap == 3, affine)
    assert volume == pytest.approx(heights_mm(place, columns).mean() * area, rel=1e-9)


def test_the_wavy_layer_is_thinner_than_its_columns():
    """1 mm amplitude, 15 mm period: 0.960 of the height in the limit of a thin layer."""
    y = np.arange(300) * 0.1
    middle = 11 + np.sin(2 * np.pi * y / 15)
    depth = (np.arange(220) * 0.1)[:, None]
    image = np.where(depth < middle - 0.5, 2, np.where(depth < middle + 0.5, 3, 4))
    labelmap = np.repeat(image[None].astype(np.uint8), 12, 0)
    place = ground(labelmap, (0.3, 0.1, 0.1))
    found = statistics(tilt_corrected_mm(place, columns_of(place, 3)), np.ones((12, 300), bool))
    assert found.mean == pytest.approx(0.960, abs=0.01)


def test_only_complete_columns_count():
    labelmap = tilted(2.0)
    labelmap[:, :, :10][labelmap[:, :, :10] == 4] = 1  # a wrong neighbor below
    labelmap[:, 105, 10:20] = 4  # two runs
    labelmap[:, :110, 20:30] = 3  # from the very first row
    valid = np.ones(labelmap.shape, bool)
    valid[:, 115:, 30:40] = False  # its lower end is where the image ends
    labelmap[:, 115:, 30:40] = 0
    place = Ground(labelmap, valid, SPACING)
    columns = columns_of(place, 3)
    assert not columns.complete[:, :40].any()
    assert columns.complete[:, 40:].all()
    found = statistics(tilt_corrected_mm(place, columns), columns.present)
    assert found.coverage == pytest.approx(50 / 90)
    assert found.mean == pytest.approx(2.0, abs=0.02)


def test_neighbors_are_the_nearest_layers_that_the_scan_has():
    labelmap = tilted(2.0)
    labelmap[labelmap == 4] = 6
    assert columns_of(ground(labelmap), 3).complete.all()
    labelmap[:, -20:] = 0
    assert columns_of(ground(labelmap), 6).complete.all()


def stack(*runs, columns=20, slices=3):
    """Columns of layers from the first row down: (label, rows) each."""
    column = np.concatenate([np.full(rows, label, np.uint8) for label, rows in runs])
    return np.repeat(np.repeat(column[None, :, None], columns, 2), slices, 0)


FAT_AND_MEMBRANE = ((2, 4), (3, 5))
LAYERS = ((0, 2), (1, 8), (2, 10), (3, 4), (4, 12), (5, 6), (6, 20), (0, 4))


@pytest.mark.parametrize(
    ("gone", "into", "whole"),
    [
        ({3}, 4, {1, 2, 4, 5, 6}),  # the membrane has a gap, its neighbors meet
        ({4}, 5, {1, 2, 3, 5, 6}),  # no fat between the membranes
        ({5}, 6, {1, 2, 3, 4, 6}),
        ({2}, 1, {1, 3, 4, 5, 6}),
        ({3, 4}, 2, {1, 6}),  # all fat is called superficial: its thickness would be that of both
        ({2, 3}, 4, {1, 5, 6}),  # or deep
        ({3, 4}, 5, {1, 6}),  # the membranes and what lies between are called one
        ({1}, 2, {3, 4, 5, 6}),  # the skin cannot be missing in a column
        ({6}, 0, {1, 2, 3, 4}),  # nor the muscle, if the scan has one
    ],
)
def test_which_neighbors_a_column_may_lack(gone, into, whole):
    labelmap = stack(*LAYERS)
    edited = labelmap[:, :, 5:15]
    edited[np.isin(edited, list(gone))] = into
    place = Ground(labelmap, np.ones(labelmap.shape, bool), SPACING, 1, FAT_AND_MEMBRANE)
    complete = {n: columns_of(place, n).complete for n in range(1, 7)}
    assert all(complete[n][:, :5].all() and complete[n][:, 15:].all() for n in complete)
    assert {n for n in complete if complete[n][:, 5:15].all()} == whole
    assert all(not complete[n][:, 5:15].any() for n in set(complete) - whole)


def test_a_layer_elsewhere_in_the_column_is_no_gap():
    labelmap = stack(*LAYERS)
    swapped = stack((0, 2), (1, 8), (2, 10), (4, 12), (3, 4), (5, 6), (6, 20), (0, 4))
    labelmap[:, :, 5:15] = swapped[:, :, 5:15]
    place = Ground(labelmap, np.ones(labelmap.shape, bool), SPACING, 1, FAT_AND_MEMBRANE)
    for layer in (2, 3, 4, 5):
        assert not columns_of(place, layer).complete[:, 5:15].any()
        assert columns_of(place, layer).complete[:, :5].all()


def test_a_layer_that_is_nowhere_is_no_gap():
    labelmap = stack(*LAYERS)
    labelmap[labelmap == 3] = 2
    labelmap[labelmap == 4] = 2
    place = Ground(labelmap, np.ones(labelmap.shape, bool), SPACING, 1, FAT_AND_MEMBRANE)
    assert all(columns_of(place, n).complete.all() for n in (1, 2, 5, 6))


@pytest.mark.parametrize(("skin", "measured"), [(1, True), (0, False), (2, False)])
def test_the_skin_may_begin_in_the_first_row(skin, measured):
    labelmap = stack(*LAYERS[1:])
    place = Ground(labelmap, np.ones(labelmap.shape, bool), SPACING, skin)
    columns = columns_of(place, 1)
    assert (columns.complete.all(), columns.at_probe.all()) == (measured, measured)
    if measured:
        assert heights_mm(place, columns) == pytest.approx(8 * SPACING[1])
    labelmap[labelmap == 1] = 2  # without its skin, the fat is cut off by the image
    cropped = Ground(labelmap, place.valid, SPACING, skin)
    assert columns_of(cropped, 2).complete.any() == (skin == 2)
    assert columns_of(cropped, 3).complete.all()


def test_the_probe_is_where_the_upper_border_is_flat_enough():
    columns = np.arange(80)
    edges = {
        "trapezoid": np.maximum(0, 6 * (12 - np.minimum(columns, 79 - columns))),
        "curved": np.rint(0.008 * (columns - 39.5) ** 2).astype(int),
        "text": np.where((columns > 60) & (columns < 70), 15, 2),
    }
    under = {
        "trapezoid": (columns >= 12) & (columns <= 67),
        "curved": columns >= 0,
        "text": columns <= 60,
    }
    for name, first in edges.items():
        valid = np.repeat((np.arange(90)[:, None] >= first)[None], 2, 0)
        found = probe_rows(Ground(np.zeros(valid.shape, np.uint8), valid, (0.3, 0.2, 0.2)))
        np.testing.assert_array_equal(found, np.where(under[name], first, -1)[None].repeat(2, 0))


def test_a_column_out_of_order_is_told():
    labelmap = stack(*LAYERS)
    assert not disordered(ground(labelmap)).any()
    labelmap[1, 45, 7] = 2  # fat below the deep membrane
    assert np.argwhere(disordered(ground(labelmap))).tolist() == [[1, 7]]


def test_an_absent_layer_has_no_numbers():
    place = ground(tilted(2.0))
    columns = columns_of(place, 5)
    assert not columns.present.any()
    assert statistics(tilt_corrected_mm(place, columns), columns.present) is None
    assert caliper_slice([]) is None
    assert caliper(columns, tilt_corrected_mm(place, columns), 1.0, 0, SHAPE[1]) is None


def test_a_cut_off_layer_shows_its_visible_depth():
    place = ground(tilted(2.0))
    columns = columns_of(place, 4)
    assert columns.cut.all()
    assert not columns.complete.any()
    depth = visible_depth_mm(place, columns)
    assert depth.mean() == pytest.approx(10.0, abs=0.1)
    line = caliper(columns, depth, float(depth.mean()), 3, SHAPE[1])
    assert line[1][1] == SHAPE[1] - 1  # half a pixel inside the image


@given(st.floats(-25, 25), st.integers(0, 23))
@settings(max_examples=15, deadline=None)
def test_a_caliper_runs_from_interface_to_interface_in_one_column(angle, prefer):
    labelmap = tilted(2.5, angle)
    place = ground(labelmap)
    columns = columns_of(place, 3)
    plane = tilt_corrected_mm(place, columns)
    (slice0, top, column0), (slice1, bottom, column1) = caliper(
        columns, plane, float(np.nanmean(plane)), prefer, SHAPE[1]
    )
    assert (slice0, column0) == (slice1, column1) == (prefer, column0)
    run = labelmap[int(slice0), :, int(column0)]
    assert set(run[int(top + 0.5) : int(bottom + 0.5)]) == {3}
    assert run[int(top - 0.5)] == 2
    assert run[int(bottom + 0.5)] == 4
    assert bottom - top == np.count_nonzero(run == 3)


def test_calipers_share_the_slice_that_shows_most():
    first, second = np.ones((9, 5)), np.full((9, 5), np.nan)
    second[6] = 1
    assert caliper_slice([first, second]) == 6
    assert caliper_slice([first]) == 4


def test_erosion_takes_one_row_and_two_columns():
    mask = np.zeros((3, 9, 9), bool)
    mask[1, 2:7, 1:8] = True
    inner = np.zeros_like(mask)
    inner[1, 3:6, 3:6] = True
    np.testing.assert_array_equal(eroded(mask), inner)


def test_a_thin_layer_keeps_its_middle_rows():
    mask = np.zeros((2, 20, 30), bool)
    mask[0, 4:6, 5:25] = True  # two rows: nothing would be left of them
    mask[1, 4:12, 5:25] = True
    inner, thin = inner_voxels(mask)
    assert thin == pytest.approx(0.5)
    assert np.argwhere(inner[0].any(1)).ravel().tolist() == [4]
    assert np.argwhere(inner[1].any(1)).ravel().tolist() == list(range(5, 11))
    assert np.argwhere(inner.any((0, 1))).ravel().tolist() == list(range(7, 23))
    assert not inner[~mask].any()


def test_gray_levels_are_described():
    gray = np.arange(256, dtype=np.float32)[None, :, None]
    found = echo_of(gray, np.ones(gray.shape, bool))
    assert (found.mean, found.median) == (127.5, 127.5)
    assert (found.p10, found.p90) == pytest.approx((25.5, 229.5))
    assert found.variation == pytest.approx(100 * gray.std() / 127.5)
    assert found.saturated == found.floor == pytest.approx(1 / 256)
    assert echo_of(gray, np.zeros(gray.shape, bool)) is None


def test_speeds_outside_what_tissue_has_are_left_out():
    speed = np.array([0.2, 1, 2, 3, 4, 5, 11, 2], np.float32)[None, :, None]
    valid = np.ones(speed.shape, bool)
    valid[0, -1] = False
    found = speed_of(speed, valid, np.ones(speed.shape, bool))
    assert (found.count, found.median, found.mean, found.iqr) == (5, 3, 3, 2)
    assert found.valid_share == pytest.approx(5 / 8)
    assert found.spread == pytest.approx(2 / 3)
    assert speed_of(speed, ~valid, np.zeros(speed.shape, bool)) is None
