"""Thickness, calipers and volumes on bodies whose truth is known by construction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.steps.measure import (
    Ground,
    caliper,
    caliper_slice,
    columns_of,
    eroded,
    heights_mm,
    statistics,
    tilt_corrected_mm,
    visible_depth_mm,
    volume_mm3,
)

SHAPE = (24, 220, 90)
SPACING = (0.3, 0.1, 0.2)


def tilted(thickness, lateral=0.0, elevational=0.0, spacing=SPACING, shape=SHAPE):
    """A plate of label 3 between labels 2 and 4, tilted by two angles in degrees; thickness across it."""
    along_slices, along_columns = np.tan(np.radians([elevational, lateral]))
    x = (np.arange(shape[0]) - (shape[0] - 1) / 2) * spacing[0]
    y = (np.arange(shape[2]) - (shape[2] - 1) / 2) * spacing[2]
    middle = shape[1] * spacing[1] / 2 + x[:, None] * along_slices + y[None] * along_columns
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
@settings(max_examples=25, deadline=None)
def test_thickness_is_true_on_tilted_plates(thickness, lateral, elevational):
    place = ground(tilted(thickness, lateral, elevational))
    columns = columns_of(place, 3)
    slopes = np.tan(np.radians([lateral, elevational]))
    secant = np.sqrt(1 + (slopes**2).sum())
    assert columns.complete.all()
    assert np.nanmean(tilt_corrected_mm(place, columns)) == pytest.approx(thickness, abs=0.02)
    assert heights_mm(place, columns).mean() == pytest.approx(thickness * secant, abs=0.03)


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
