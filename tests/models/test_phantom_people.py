"""People and probes of the simulator: missing layers, curved probes, sound speed, depth, wide ranges."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.layer.sizes import measure
from models.phantom import (
    Phantom,
    PhantomRequest,
    Protocol,
    person_seed,
    synthesize,
    varied_request,
)
from models.phantom.factors import FOLLOW_BODY_MASS, draw_factors

SMALL = PhantomRequest(shape=(6, 120, 60), spacing_mm=(0.8, 0.25, 0.5))
FLAT = {
    "anatomy.fat_variation": 0.0,
    "anatomy.membrane_variation": 0.0,
    "anatomy.ripple_mm": 0.0,
    "anatomy.tilt_lateral_deg": 0.0,
    "anatomy.tilt_elevation_deg": 0.0,
    "anatomy.gel_mm": 1.0,
    "probe.pad_share": 0.0,
    "probe.flatten": 0.0,
}


def fix(request: PhantomRequest, values: dict[str, float]) -> PhantomRequest:
    return replace(request, fixed={**request.fixed, **values})


def gray(phantom: Phantom) -> np.ndarray:
    return phantom.scan.channel("b-mode")


# Formats


def ray_thickness_mm(phantom: Phantom, radius_mm: float, layer: int, angle: float) -> float:
    """Thickness along one beam through the middle slice, from the labels of the image alone."""
    _, row_mm, column_mm = phantom.scan.spacing_mm
    labels = phantom.labelmap[phantom.labelmap.shape[0] // 2]
    rows, columns = labels.shape
    half = half_angle(phantom, radius_mm)
    depth = np.arange(0, rows * row_mm, 0.01)
    row = ((radius_mm + depth) * np.cos(angle) - radius_mm * np.cos(half)) / row_mm - 0.5
    column = (radius_mm + depth) * np.sin(angle) / column_mm + (columns - 1) / 2
    row, column = np.rint(row).astype(int), np.rint(column).astype(int)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return float((labels[row[inside], column[inside]] == layer).sum() * 0.01)


def half_angle(phantom: Phantom, radius_mm: float) -> float:
    """From the sector mask: the row where the arc's middle begins lies r (1 - cos) under the first."""
    valid = phantom.scan.valid[0]
    middle = valid[:, valid.shape[1] // 2]
    return float(np.arccos(1 - middle.argmax() * phantom.scan.spacing_mm[1] / radius_mm))


def test_a_fan_shows_the_true_thickness_along_its_beams() -> None:
    fixed = {**FLAT, "probe.radius_mm": 50.0, "deep_fascial_membrane.thickness_mm": 2.5}
    request = PhantomRequest((4, 600, 900), (0.8, 0.1, 0.1), fixed=fixed, convex=True)
    phantom = synthesize(3, request)
    half = half_angle(phantom, 50.0)
    assert 0.3 < half < 0.7
    # The sides of the sector run along its outermost beams.
    down_mm = 50.0 * np.cos(half) + 200.5 * 0.1
    assert phantom.scan.valid[0, 200].sum() * 0.1 == pytest.approx(
        2 * down_mm * np.tan(half), abs=0.3
    )
    for layer in range(1, 6):
        for angle in np.linspace(-0.8 * half, 0.8 * half, 5):
            seen_mm = ray_thickness_mm(phantom, 50.0, layer, angle)
            assert seen_mm == pytest.approx(phantom.thickness_mm[layer], abs=0.15)


def test_a_fan_is_a_sector_with_the_probe_at_the_top() -> None:
    request = PhantomRequest((4, 160, 240), (0.8, 0.4, 0.4), shear_wave=True, convex=True)
    phantom = synthesize(5, request)
    valid = phantom.scan.valid
    assert (valid == valid[0]).all()
    assert valid.shape == request.shape
    assert not valid[0, 0, 120]  # the face of the probe is lowest in the middle
    assert not valid[0, -1, [0, -1]].any()  # and the deepest arc highest at the sides
    assert valid[0, 100, 120]
    per_row = valid[0].sum(axis=1)
    assert per_row[90] > per_row[40] > per_row[20]
    assert not gray(phantom)[~valid].any()
    assert not phantom.labelmap[~valid].any()
    assert not phantom.scan.channel("shear-wave-valid")[~valid].any()
    assert set(np.unique(phantom.scan.channel("shear-wave-valid"))) == {0, 1}
    assert phantom.scan.facts["transducer"] == "convex"
    assert float(phantom.scan.facts["frequency_mhz"]) <= 7
    labels = phantom.labelmap[2, :, 120]
    assert (np.diff(labels[labels > 0].astype(int)) >= 0).all()


def test_deep_layers_stay_flatter_under_a_curved_probe() -> None:
    request = PhantomRequest((2, 300, 400), (0.8, 0.2, 0.2), fixed=FLAT, convex=True)
    bent, flat = (
        synthesize(3, fix(request, {"probe.flatten": share})).labelmap[1] == 5
        for share in (0.0, 0.4)
    )
    drop = [mask[:, 200].argmax() - mask[:, 100].argmax() for mask in (bent, flat)]
    assert drop[0] > drop[1] > 0  # an arc sags in the middle, a flatter one less


# What people lack


@pytest.mark.parametrize("layer", [1, 2, 3, 4, 5])
def test_an_absent_layer_has_no_voxels_and_no_thickness(layer: int) -> None:
    phantom = synthesize(4, replace(SMALL, absent=(layer,)))
    others = set(range(1, 7)) - {layer}
    assert set(np.unique(phantom.labelmap)) - {0} == others
    assert layer not in phantom.thickness_mm
    assert set(phantom.thickness_mm) >= others - {6}
    if layer == 4:  # both membranes lie on each other
        labels = phantom.labelmap.astype(int)
        assert ((labels[:, :-1] == 3) & (labels[:, 1:] == 5)).any()


@pytest.mark.parametrize("layer", [3, 5])
def test_a_broken_membrane_has_a_gap_where_its_neighbors_meet(layer: int) -> None:
    request = fix(SMALL, {**FLAT, "anatomy.gap_mm": 8.0, "interface.missing_share": 0.0})
    whole, broken = (synthesize(6, replace(request, broken=gap)) for gap in ((), (layer,)))
    there, left = ((phantom.labelmap == layer).any(axis=1) for phantom in (whole, broken))
    gap = there & ~left
    assert there.all()
    assert gap.any()
    assert left.mean() > 0.5
    lateral_mm = gap.sum(axis=1).max() * 0.5
    assert 5 <= lateral_mm <= 8
    labels = broken.labelmap.transpose(0, 2, 1)[gap].astype(int)
    meets = (labels[:, :-1] == layer - 1) & (labels[:, 1:] == layer + 1)
    assert (meets.sum(axis=1) == 1).all()
    outside = ~np.pad(gap, 2, mode="edge")[2:-2, 2:-2]
    for other in range(1, 7):  # nothing else moves, beside the gap's own edge
        same = (whole.labelmap == other) == (broken.labelmap == other)
        assert same.transpose(0, 2, 1)[outside].mean() > 0.99
    assert broken.thickness_mm[layer] == pytest.approx(whole.thickness_mm[layer], rel=0.08)
    hidden = (whole.labelmap == layer) & gap[:, None, :]
    assert gray(broken)[hidden].mean() < gray(whole)[hidden].mean() - 20


def test_merged_layers_have_deep_fat_over_a_part_only() -> None:
    fixed = {**FLAT, "anatomy.merged_share": 0.4, "anatomy.merged_place": 0.0}
    request = fix(SMALL, {**fixed, "anatomy.merged_ramp_mm": 8.0, "deep_fat.thickness_mm": 6.0})
    whole, merged = (synthesize(6, replace(request, merged=lacks)) for lacks in (False, True))
    fat = (merged.labelmap == 4).any(axis=1)
    assert fat.mean() == pytest.approx(0.55, abs=0.08)
    labels = merged.labelmap.transpose(0, 2, 1)[~fat].astype(int)
    assert ((labels[:, :-1] == 3) & (labels[:, 1:] == 5)).any(axis=1).all()
    found_mm = measure(merged.scan, merged.labelmap).mean_thickness_mm()
    assert found_mm[3] == pytest.approx(merged.thickness_mm[4], rel=0.05)
    assert merged.thickness_mm[4] < whole.thickness_mm[4]
    for layer in (1, 2, 3):
        assert np.array_equal(merged.labelmap == layer, whole.labelmap == layer)


def test_varied_people_split_over_formats_and_lacks() -> None:
    requests = [
        varied_request(person_seed("validation", 5, number), Protocol()) for number in range(600)
    ]
    count: Counter[str] = Counter()
    for request in requests:
        count.update(["convex"] if request.convex else [])
        count.update(f"absent {layer}" for layer in request.absent)
        count.update(f"broken {layer}" for layer in request.broken)
        count.update(["merged"] if request.merged else [])
    shares = {name: number / len(requests) for name, number in count.items()}
    expected = {"convex": 0.15, "absent 1": 0.015, "absent 2": 0.01, "absent 3": 0.04}
    expected |= {"absent 4": 0.02, "absent 5": 0.01, "merged": 0.04}
    expected |= {"broken 3": 0.04, "broken 5": 0.04}
    assert shares == pytest.approx(expected, abs=0.03)
    assert PhantomRequest().absent == PhantomRequest().broken == ()


def test_a_quarter_is_taken_across_the_fibers() -> None:
    drawn = [draw_factors(person_seed("validation", 6, n), {}) for n in range(300)]
    share = np.mean([factors["probe.transverse"] >= 0.5 for factors in drawn])
    assert share == pytest.approx(0.25, abs=0.08)


# What the image shows of the anatomy


def test_a_slow_layer_looks_thicker() -> None:
    """The scanner assumes 1540 m/s: fat at 1450 looks 6 % thicker than it is, muscle thinner."""
    request = fix(SMALL, {**FLAT, "anatomy.pressure": 0.0})
    phantom = synthesize(2, request)
    for layer, name, speed in ((1, "dermis", 1624), (2, "superficial_fat", 1450)):
        shown = phantom.thickness_mm[layer] / phantom.factors[f"{name}.thickness_mm"]
        assert shown == pytest.approx(1540 / speed, rel=1e-3)
    slow = synthesize(2, fix(request, {"superficial_fat.sound_m_s": 1232.0}))
    assert slow.thickness_mm[2] / phantom.thickness_mm[2] == pytest.approx(1450 / 1232, rel=1e-3)
    assert slow.thickness_mm[1] == phantom.thickness_mm[1]
    assert slow.pain_latent == phantom.pain_latent


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**40))
def test_no_layer_of_a_varied_person_is_squeezed(seed: int) -> None:
    """A field twice as deep shows the same layers: the planted thickness is the one in the image."""
    protocol = Protocol(slices=2, row_mm=(0.3, 0.4), column_mm=(0.6, 0.8))
    request = varied_request(seed, protocol, {"deep_fat.thickness_mm": 18.0})
    assume(not request.convex)
    slices, rows, columns = request.shape
    deep = replace(request, shape=(slices, 2 * rows, columns))
    fixed = {"probe.pad_share": 0.0, "anatomy.gel_mm": 0.0}
    one, other = synthesize(seed, fix(request, fixed)), synthesize(seed, fix(deep, fixed))
    for layer in set(range(1, 6)) & set(one.thickness_mm):
        assert one.thickness_mm[layer] == pytest.approx(other.thickness_mm[layer], rel=0.01)


def test_the_operator_knows_what_is_planted() -> None:
    planted = {**FLAT, "deep_fat.thickness_mm": 25.0, "anatomy.pressure": 0.0}
    for number in range(8):
        seed = person_seed("validation", 8, number)
        request = varied_request(seed, Protocol(slices=2), planted)
        phantom = synthesize(seed, replace(request, merged=False))
        if 4 not in request.absent:
            assert phantom.thickness_mm[4] == pytest.approx(25.0 * 1540 / 1450, rel=0.02)


def test_bone_rises_and_falls_and_moves_nothing_above() -> None:
    request = fix(
        replace(SMALL, shape=(2, 240, 60)),
        {**FLAT, "muscle.thickness_mm": 22.0, "anatomy.bone_step_mm": 0.0},
    )
    even = synthesize(2, request)
    stepped = synthesize(2, fix(request, {"anatomy.bone_step_mm": 5.0}))
    spread = [np.ptp((p.labelmap == 6).sum(axis=1)) * 0.25 for p in (even, stepped)]
    assert spread[0] < 1 < 3 < spread[1]
    for layer in range(1, 6):
        assert np.array_equal(even.labelmap == layer, stepped.labelmap == layer)


# What the image shows of the machine: one factor changes the gray levels where it should, nothing else

INTERVENTIONS: dict[str, tuple[float, float]] = {
    "interface.missing_share": (0.0, 1.0),
    "interface.tail_db": (-1.0, 1.0),
    "interface.skin_repeat_db": (60.0, 6.0),
    "interface.offset_mm": (0.0, 0.15),
    "anatomy.septa_shadow_db": (0.0, 6.0),
    "anatomy.mesh": (0.0, 1.0),
    "anatomy.lobule_mm": (2.5, 6.0),
    "machine.compounding": (0.0, 0.9),
}


@pytest.mark.parametrize("factor", INTERVENTIONS)
def test_an_intervention_changes_one_factor_and_the_image_alone(factor: str) -> None:
    one, other = (synthesize(7, fix(SMALL, {factor: value})) for value in INTERVENTIONS[factor])
    assert {key for key in one.factors if one.factors[key] != other.factors[key]} == {factor}
    assert np.array_equal(one.labelmap, other.labelmap)
    assert one.thickness_mm == other.thickness_mm
    assert (one.pain, one.pain_latent) == (other.pain, other.pain_latent)
    assert not np.array_equal(gray(one), gray(other))
    correlation = np.corrcoef(gray(one).ravel(), gray(other).ravel())[0, 1]
    assert correlation > 0.7  # the same speckle, anatomy and machine


def test_every_factor_can_be_set_without_moving_another() -> None:
    drawn = draw_factors(12, {})
    for factor, value in drawn.items():
        changed = draw_factors(12, {factor: 0.9 * value - 0.01})
        follow = set(FOLLOW_BODY_MASS) if factor.startswith("anatomy.body_mass") else set()
        moved = {key for key in drawn if drawn[key] != changed[key]}
        assert moved - follow == {factor}


def test_a_thicker_deep_fat_moves_nothing_above_it() -> None:
    """Surfaces above, speckle above and all other thicknesses stay; the layers below move down whole."""
    request = replace(SMALL, shape=(4, 240, 60))
    thin, thick = (synthesize(7, fix(request, {"deep_fat.thickness_mm": mm})) for mm in (6.0, 12.0))
    for layer in (1, 2, 3):
        mask = thin.labelmap == layer
        assert np.array_equal(mask, thick.labelmap == layer)
        assert (
            abs(gray(thin)[mask] - gray(thick)[mask]).mean() < 4
        )  # time gain follows the mean loss
        assert thin.thickness_mm[layer] == thick.thickness_mm[layer]
    assert thick.thickness_mm[4] > 1.9 * thin.thickness_mm[4]
    assert thick.thickness_mm[5] == pytest.approx(thin.thickness_mm[5], rel=0.02)  # tilt-corrected


def test_interfaces_can_be_missing() -> None:
    request = fix(SMALL, {**FLAT, "interface.fascia_gray": 225.0, "anatomy.septa_db": 0.0})
    with_lines, without = (
        synthesize(7, fix(request, {"interface.missing_share": share})) for share in (0.0, 1.0)
    )
    edge = np.zeros(with_lines.labelmap.shape, bool)
    labels = with_lines.labelmap.astype(int)
    edge[:, 1:] = (labels[:, 1:] == 3) & (labels[:, :-1] == 2)
    assert gray(without)[edge].mean() < gray(with_lines)[edge].mean() - 20


def test_septa_cast_shadows() -> None:
    request = fix(SMALL, {"anatomy.septa_db": 20.0, "machine.gain_db": 0.0})
    clear, shadowed = (
        gray(synthesize(7, fix(request, {"anatomy.septa_shadow_db": loss}))) for loss in (0.0, 8.0)
    )
    muscle = synthesize(7, request).labelmap == 6
    above = synthesize(7, request).labelmap == 1
    change = (shadowed - clear).transpose(0, 2, 1)
    assert np.std(change[muscle.transpose(0, 2, 1)]) > 2  # columns differ: time gain cannot undo it
    assert abs(change[above.transpose(0, 2, 1)]).mean() < 12


def test_compounding_smooths_speckle_and_keeps_levels() -> None:
    request = fix(SMALL, {"machine.smoothing": 0.0, "muscle.fiber_db": 0.0})
    rough, smooth = (
        synthesize(7, fix(request, {"machine.compounding": share})) for share in (0.0, 0.9)
    )
    muscle = rough.labelmap == 6
    assert gray(smooth)[muscle].std() < 0.8 * gray(rough)[muscle].std()
    assert gray(smooth)[muscle].mean() == pytest.approx(gray(rough)[muscle].mean(), abs=20)


def test_skin_repeats_below_itself() -> None:
    fixed = {**FLAT, "dermis.thickness_mm": 3.0, "interface.missing_share": 0.0}
    request = fix(SMALL, {**fixed, "interface.skin_gray": 235.0, "machine.compounding": 0.0})
    faint, strong = (
        synthesize(7, fix(request, {"interface.skin_repeat_db": loss})) for loss in (60.0, 4.0)
    )
    change = (gray(strong) - gray(faint)).mean(axis=(0, 2))
    depth_mm = (np.arange(len(change)) + 0.5) * 0.25
    dermis_mm = strong.thickness_mm[1]
    near = (abs(depth_mm - 1.0 - 2 * dermis_mm) < 1) | (abs(depth_mm - 2.0) < 1)
    assert change[near].max() > 20
    assert abs(change[depth_mm > 1.0 + 2 * dermis_mm + 2]).max() < 5


# Wide ranges


def test_wide_people_are_drawn_from_their_own_stream() -> None:
    seeds = [person_seed("train", 3, number) for number in range(150)]
    usual = [varied_request(seed, Protocol(slices=2)) for seed in seeds]
    some = [varied_request(seed, Protocol(slices=2, wide=0.3)) for seed in seeds]
    wide = [request.wide for request in some]
    assert not any(request.wide for request in usual)
    assert np.mean(wide) == pytest.approx(0.3, abs=0.12)
    for one, other in zip(usual, some, strict=True):
        if not other.wide:
            assert one == other
        assert (one.absent, one.broken, one.merged) == (other.absent, other.broken, other.merged)


def test_wide_ranges_change_their_own_factors_and_are_deterministic() -> None:
    usual, wide = (draw_factors(9, {}, wide=flag) for flag in (False, True))
    changed = {key for key in usual if usual[key] != wide[key]}
    assert {"superficial_fat.gray", "interface.fascia_gray", "probe.f_number"} <= changed
    assert not changed & {"dermis.thickness_mm", "muscle.shear_m_s", "probe.frequency_mhz"}
    assert draw_factors(9, {"muscle.gray": 100.0}, wide=True)["muscle.gray"] == 100.0
    request = replace(SMALL, wide=True)
    one, again = synthesize(9, request), synthesize(9, request)
    assert np.array_equal(one.scan.voxels, again.scan.voxels)
    assert one.factors == again.factors
    grays = [draw_factors(seed, {}, wide=True) for seed in range(200)]
    brighter = [drawn["superficial_fat.gray"] > drawn["muscle.gray"] for drawn in grays]
    assert 0.1 < np.mean(brighter) < 0.5
