"""The simulator: the same seed gives the same volume, streams are independent, and its truth is true."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layer.sizes import measure
from models.phantom import PhantomRequest, synthesize, write_truth
from models.phantom.factors import draw_factors

SMALL = PhantomRequest(shape=(6, 96, 48), spacing_mm=(0.8, 0.3, 0.5))
WITH_SHEAR = PhantomRequest(SMALL.shape, SMALL.spacing_mm, shear_wave=True)


def test_same_seed_same_volume_other_seed_other_volume() -> None:
    one, again, other = (synthesize(seed, WITH_SHEAR) for seed in (5, 5, 6))
    assert np.array_equal(one.scan.voxels, again.scan.voxels)
    assert (one.pain, one.factors, one.thickness_mm) == (
        again.pain,
        again.factors,
        again.thickness_mm,
    )
    assert not np.array_equal(one.scan.voxels, other.scan.voxels)


def test_channels_do_not_change_each_other() -> None:
    without, with_shear = synthesize(7, SMALL), synthesize(7, WITH_SHEAR)
    assert np.array_equal(without.scan.channel("b-mode"), with_shear.scan.channel("b-mode"))


def test_streams_are_independent() -> None:
    """One factor set by hand leaves all others, the labels and the speckle as they were."""
    fixed = PhantomRequest(SMALL.shape, SMALL.spacing_mm, fixed={"deep_fascial_membrane.gray": 140})
    one, changed = synthesize(7, SMALL), synthesize(7, fixed)
    differing = {key for key in one.factors if one.factors[key] != changed.factors[key]}
    assert differing == {"deep_fascial_membrane.gray"}
    assert np.array_equal(one.labelmap, changed.labelmap)
    difference = one.scan.channel("b-mode") != changed.scan.channel("b-mode")
    assert difference[one.labelmap == 5].mean() > 0.5
    assert difference[one.labelmap == 1].mean() < 0.05


def test_no_two_factors_move_together() -> None:
    drawn = [draw_factors(seed, {"anatomy.body_mass_fat": 0.0}) for seed in range(400)]
    names = [name for name, value in drawn[0].items() if value != drawn[1][name]]
    correlation = np.corrcoef([[factors[name] for factors in drawn] for name in names])
    np.fill_diagonal(correlation, 0)
    assert len(names) > 40
    assert abs(correlation).max() < 0.25  # five standard errors of independent factors


def test_neighboring_seeds_share_no_stream() -> None:
    """A prototype's seed and seed + 77 shared noise; speckle of any two seeds must be uncorrelated."""
    fixed = {
        "machine.smoothing": 0.0,
        "machine.compounding": 0.0,
        "probe.pad_share": 0.0,
        "muscle.fiber_db": 0.0,
        "muscle.infiltration_db": 0.0,
        "muscle.thickness_mm": 40.0,
    }
    request = PhantomRequest(SMALL.shape, SMALL.spacing_mm, fixed=fixed)
    muscles = [synthesize(seed, request).scan.channel("b-mode")[:, 70:78] for seed in (1, 2, 78)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        correlation = np.corrcoef(muscles[first].ravel(), muscles[second].ravel())[0, 1]
        assert abs(correlation) < 0.15


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**40))
def test_layers_lie_in_order_and_gray_levels_are_stored_values(seed: int) -> None:
    phantom = synthesize(seed, SMALL)
    labels = phantom.labelmap.astype(int)
    below = np.where(labels == 0, 0, labels)
    seen = np.maximum.accumulate(below, axis=1)
    tissue = labels > 0
    assert (labels[tissue] == seen[tissue]).all()
    assert not labels[~phantom.scan.valid].any()
    gray = phantom.scan.channel("b-mode")
    assert gray.min() >= 0
    assert gray.max() <= 255
    assert np.array_equal(gray, np.rint(gray))
    assert not gray[~phantom.scan.valid].any()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**40))
def test_true_thickness_agrees_with_the_label_map(seed: int) -> None:
    """T2 (tilt-corrected column thickness) of the labels, on a fine grid and under a strong tilt."""
    fixed = {
        "probe.pad_share": 0.0,
        "anatomy.gel_mm": 1.5,  # without gel the skin is cut by the image's edge
        "anatomy.tilt_lateral_deg": 15.0,
        "deep_fat.thickness_mm": 14.0,
        "deep_fascial_membrane.thickness_mm": 2.0,
    }
    phantom = synthesize(seed, PhantomRequest((6, 450, 60), (1.0, 0.1, 0.5), fixed=fixed))
    found_mm = measure(phantom.scan, phantom.labelmap).mean_thickness_mm()
    for layer in range(1, 6):
        true_mm = phantom.thickness_mm[layer]
        assert found_mm[layer - 1] == pytest.approx(true_mm, abs=0.05)


def test_muscle_thickness_only_where_the_field_shows_it_all() -> None:
    spacing, shape = (0.8, 0.3, 0.5), (6, 200, 48)
    shown = synthesize(3, PhantomRequest(shape, spacing, fixed={"muscle.thickness_mm": 15}))
    cut = synthesize(3, PhantomRequest((6, 96, 48), spacing, fixed={"muscle.thickness_mm": 45}))
    assert shown.thickness_mm[6] == pytest.approx(15, rel=0.4)
    assert 6 not in cut.thickness_mm


def test_a_planted_thickness_is_there() -> None:
    thin, thick = (
        synthesize(
            11,
            PhantomRequest(
                (6, 128, 48), (0.8, 0.25, 0.5), fixed={"deep_fascial_membrane.thickness_mm": mm}
            ),
        )
        for mm in (0.8, 2.4)
    )
    assert thick.thickness_mm[5] / thin.thickness_mm[5] == pytest.approx(3, rel=0.02)
    assert thick.pain_probability > thin.pain_probability


def test_label_follows_the_planted_latent_and_its_sign() -> None:
    tiny = (1, 80, 4), (0.5, 0.3, 0.5)
    for sign in (1.0, -1.0):
        request = PhantomRequest(*tiny, effects={"dermis.gray": sign})
        phantoms = [synthesize(seed, request) for seed in range(150)]
        gray = [phantom.factors["dermis.gray"] for phantom in phantoms]
        pain = [phantom.pain for phantom in phantoms]
        assert np.corrcoef(gray, pain)[0, 1] * sign > 0.4
        assert 0.3 < np.mean(pain) < 0.7


@pytest.mark.parametrize("transverse", [0.0, 1.0])
def test_affine_and_nifti_round_trip(tmp_path: Path, transverse: float) -> None:
    request = PhantomRequest(
        SMALL.shape, SMALL.spacing_mm, fixed={"probe.transverse": transverse, "probe.left": 1.0}
    )
    phantom = synthesize(8, request)
    affine = phantom.scan.affine
    assert phantom.scan.spacing_mm == pytest.approx(SMALL.spacing_mm)
    left, caudal = [0.5, 0, 0], [0, 0, -0.5]
    assert affine[:3, 1] == pytest.approx([0, -0.3, 0])  # deeper is more anterior
    assert affine[:3, 2] == pytest.approx(left if transverse else caudal)
    assert np.cross(affine[:3, 2], affine[:3, 1]) @ affine[:3, 0] > 0  # as DICOM's frame normal
    image_path, text_path = write_truth(phantom, tmp_path)
    image = sitk.ReadImage(str(image_path))
    assert np.array_equal(sitk.GetArrayFromImage(image), phantom.labelmap)
    index = (47, 95, 5)  # column, row, slice: the far corner
    there = image.TransformIndexToPhysicalPoint(index)
    assert there == pytest.approx((affine @ [5, 95, 47, 1])[:3], abs=1e-3)
    truth = json.loads(text_path.read_text(encoding="utf-8"))
    assert truth["thickness_mm"]["dermis"] == pytest.approx(phantom.thickness_mm[1])
    assert truth["pain"] is phantom.pain


def test_shear_wave_is_valid_only_where_it_can_be() -> None:
    request = PhantomRequest((6, 96, 48), (0.8, 0.3, 0.5), shear_wave=True)
    phantom = synthesize(9, request)
    speed, valid = (phantom.scan.channel(f"shear-wave-{name}") for name in ("speed", "valid"))
    assert set(np.unique(valid)) == {0, 1}
    inside = valid == 1
    assert not speed[~inside].any()
    assert speed[inside].min() >= 0.5
    assert speed[inside].max() <= 10
    assert (phantom.labelmap[inside] > 0).all()
    assert 0.3 < inside[phantom.labelmap == 4].mean() < 1
    fat = np.median(speed[inside & (phantom.labelmap == 4)])
    assert fat == pytest.approx(phantom.factors["deep_fat.shear_m_s"], rel=0.2)


def test_requests_that_cannot_be_met_say_why() -> None:
    with pytest.raises(ValueError, match="too shallow"):
        synthesize(1, PhantomRequest((4, 20, 20), (0.5, 0.2, 0.2)))
    with pytest.raises(KeyError, match="no such factor"):
        synthesize(1, PhantomRequest(SMALL.shape, SMALL.spacing_mm, fixed={"dermis.grey": 1}))
    with pytest.raises(ValueError, match="not a normal factor"):
        synthesize(1, PhantomRequest(SMALL.shape, SMALL.spacing_mm, effects={"machine.gain_db": 1}))
    with pytest.raises(ValueError, match="absent"):
        PhantomRequest(absent=(6,))
    with pytest.raises(ValueError, match="membranes 3 and 5"):
        PhantomRequest(broken=(4,))
    with pytest.raises(ValueError, match="too low for a curved probe"):
        synthesize(1, PhantomRequest((2, 20, 400), (0.5, 0.2, 0.3), convex=True))
