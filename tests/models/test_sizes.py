"""The layers' measurements on true labels: what the measuring step alone adds to the error, and its flags."""

from dataclasses import replace

import numpy as np
import pytest

from models import codes
from models.layer import concepts
from models.layer.labels import DEEP_FASCIA, DEEP_FAT, DERMIS, MUSCLE, SUPERFICIAL_FASCIA
from models.layer.sizes import (
    has_shear_wave,
    measure,
    shear_flags,
    size_flags,
    size_measurements,
)
from models.phantom import PhantomRequest, Protocol, person_seed, synthesize, varied_request
from models.scan import Geometry, Scan

PEOPLE = 10
SWEEP = PhantomRequest((8, 170, 100), (0.7, 0.227, 0.263), shear_wave=True)


@pytest.fixture(scope="module")
def phantom():
    return synthesize(11, SWEEP)


@pytest.fixture(scope="module")
def errors_mm():
    """Measured less true thickness of people as they vary, (person, layer)."""
    rows = []
    for number in range(PEOPLE):
        seed = person_seed("validation", 7, number)
        person = synthesize(seed, replace(varied_request(seed, Protocol()), convex=False))
        found = measure(person.scan, person.labelmap).mean_thickness_mm()
        rows.append([found[n - 1] - person.thickness_mm.get(n, np.nan) for n in range(1, 7)])
    return np.array(rows)


def test_true_labels_give_the_true_thickness(errors_mm):
    assert np.isfinite(errors_mm[:, :5]).mean() > 0.9
    error = np.nanmean(abs(errors_mm), 0)
    assert error[SUPERFICIAL_FASCIA - 1] <= 0.02
    assert error[DEEP_FASCIA - 1] <= 0.02
    assert error[:5].max() <= 0.04
    assert abs(np.nanmean(errors_mm, 0))[1:5].max() <= 0.02


def edited(phantom, gone, into, share):
    """The phantom's labels with some layers given to another in the first columns of each slice."""
    labels = phantom.labelmap.copy()
    part = labels[:, :, : round(share * labels.shape[2])]
    part[np.isin(part, gone)] = into
    return labels


@pytest.mark.parametrize(
    ("gone", "into", "kept"),
    [
        ((3, 4), 2, (1, 2, 3, 4, 6)),  # the fat is one: neither thickness can be told there
        ((2, 3), 4, (1, 2, 4, 5, 6)),
        ((3, 4), 5, (1, 3, 5, 6)),  # the membranes are one
    ],
)
def test_merged_layers_do_not_bias_the_others(phantom, gone, into, kept):
    whole = measure(phantom.scan, phantom.labelmap).mean_thickness_mm()
    share = 0.3
    half = phantom.scan.shape[2] * share
    right = phantom.labelmap.copy()
    right[:, :, : round(half)] = 0
    rest = measure(phantom.scan, right).mean_thickness_mm()  # of the columns that stay as they were
    found = measure(phantom.scan, edited(phantom, gone, into, share)).mean_thickness_mm()
    for layer in kept:
        lowest, highest = sorted((whole[layer - 1], rest[layer - 1]))
        assert lowest - 0.02 <= found[layer - 1] <= highest + 0.02


def test_a_gap_of_a_membrane_leaves_the_fat_whole(phantom):
    labels = phantom.labelmap.copy()
    part = labels[:, :, :40]
    middle = np.cumsum(part == SUPERFICIAL_FASCIA, 1) * 2
    upper = middle <= (part == SUPERFICIAL_FASCIA).sum(1, keepdims=True)
    part[(part == SUPERFICIAL_FASCIA) & upper] = 2
    part[part == SUPERFICIAL_FASCIA] = DEEP_FAT
    sizes = measure(phantom.scan, labels)
    before, after = measure(phantom.scan, phantom.labelmap), sizes
    membrane, lost = before.mean_thickness_mm()[2], after.mean_thickness_mm()[2]
    gained = after.mean_thickness_mm() - before.mean_thickness_mm()
    assert lost == pytest.approx(membrane, abs=0.05)
    assert gained[[1, 3]] == pytest.approx(0.4 * membrane / 2, abs=0.06)
    assert gained[[0, 4, 5]] == pytest.approx(0, abs=1e-6)
    flags = {flag.code: flag.sentence for flag in size_flags(phantom.scan, sizes, 0.0)}
    assert "superficial fascial membrane (60%)" in flags[concepts.PARTIAL]
    assert "superficial fascial membrane" in flags[concepts.THIN_COVERAGE]
    assert "fat" not in flags[concepts.THIN_COVERAGE]
    shares = {
        m.segment: m.value
        for m in size_measurements(phantom.scan, sizes)
        if m.quantity == concepts.COVERAGE
    }
    assert shares[SUPERFICIAL_FASCIA] == pytest.approx(60, abs=1)


def test_column_height_times_area_is_the_volume(phantom):
    scan = phantom.scan
    sizes = measure(scan, phantom.labelmap)
    area_mm2 = scan.spacing_mm[0] * scan.spacing_mm[2]
    for size in sizes.layers:
        columns = int(size.columns.complete.sum())
        whole = (phantom.labelmap == size.layer) & size.columns.complete[:, None]
        volume = np.count_nonzero(whole) * np.prod(scan.spacing_mm)
        assert sizes.column_height_mm(size.layer) * columns * area_mm2 == pytest.approx(volume)


@pytest.mark.parametrize("method", ["T1", "T2", "T3", "T4", "T6"])
def test_the_definition_of_thickness_is_chosen_in_one_place(phantom, method):
    sizes = measure(phantom.scan, phantom.labelmap, method)
    default = measure(phantom.scan, phantom.labelmap).mean_thickness_mm()
    assert sizes.mean_thickness_mm()[1:5] == pytest.approx(default[1:5], rel=0.05)
    named = {
        m.method
        for m in size_measurements(phantom.scan, sizes)
        if m.quantity == codes.THICKNESS and m.line is None
    }
    assert named == {concepts.THICKNESS[method]}


def test_each_layer_has_its_signal(phantom):
    scan, labels = phantom.scan, phantom.labelmap
    numbers = {}
    for item in size_measurements(scan, measure(scan, labels)):
        numbers.setdefault((item.quantity, item.derivation), {})[item.segment] = item
    gray = {n: item.value for n, item in numbers[codes.ECHOGENICITY, codes.MEAN].items()}
    assert set(gray) == set(range(1, 7))
    ratio = numbers[concepts.ECHO_TO_MUSCLE, None]
    assert {n: item.value for n, item in ratio.items()} == pytest.approx(
        {n: gray[n] / gray[MUSCLE] for n in range(1, 6)}
    )
    assert set(numbers[concepts.ECHO_TO_FAT, None]) == {1, 3, 4, 5, 6}
    sd = numbers[codes.ECHOGENICITY, codes.STANDARD_DEVIATION]
    variation = numbers[concepts.ECHOVARIATION, None]
    for layer in gray:
        assert variation[layer].value == pytest.approx(100 * sd[layer].value / gray[layer])
        low, middle, high = (
            numbers[codes.ECHOGENICITY, how][layer].value
            for how in (codes.PERCENTILE_10, codes.MEDIAN, codes.PERCENTILE_90)
        )
        assert low < middle < high
    speed = numbers[codes.SHEAR_WAVE_SPEED, codes.MEDIAN]
    thin = {n for n, item in speed.items() if item.method == concepts.BELOW_RESOLUTION}
    assert {DERMIS, SUPERFICIAL_FASCIA, DEEP_FASCIA} <= thin
    modulus = numbers[concepts.SHEAR_MODULUS, codes.MEDIAN]
    assert set(modulus) == set(speed) - thin
    for layer, item in modulus.items():
        assert item.value == pytest.approx((speed[layer].value / 100) ** 2)
        young = numbers[codes.ELASTICITY, codes.MEDIAN][layer]
        assert young.value == pytest.approx(3 * item.value)
        assert young.method == concepts.ISOTROPIC


def test_a_scattering_speed_is_told(phantom):
    scan = phantom.scan
    sizes = measure(scan, phantom.labelmap)
    loud = scan.voxels.copy()
    place = scan.channels.index("shear-wave-speed")
    loud[place] = np.where(np.arange(scan.shape[2]) % 2, 1.0, 3.0)
    (told,) = [
        flag
        for flag in shear_flags(replace(scan, voxels=loud), sizes)
        if flag.code == concepts.SHEAR_UNSTEADY
    ]
    assert "muscle" in told.sentence
    assert "dermis" not in told.sentence  # below the resolution anyhow
    steady = scan.voxels.copy()
    steady[place] = 2.0
    codes_told = [flag.code for flag in shear_flags(replace(scan, voxels=steady), sizes)]
    assert codes_told == [concepts.SHEAR_THIN]
    assert has_shear_wave(scan)


def layers(*rows, label=1, columns=40):
    """A scan of flat layers from the first row down, and its labels; 0.2 mm rows."""
    column = np.repeat(np.arange(label, label + len(rows)), rows)
    labels = np.repeat(np.repeat(column[None, :, None], columns, 2), 4, 0).astype(np.uint8)
    return _scan(labels), labels


def _scan(labels):
    return Scan(
        np.zeros((1, *labels.shape), np.float32),
        ("b-mode",),
        ("1",),
        np.ones(labels.shape, np.bool_),
        np.diag([0.5, 0.2, 0.2, 1]),
        Geometry("measured", "measured", "measured"),
    )


def told(scan, labels):
    return {flag.code: flag.sentence for flag in size_flags(scan, measure(scan, labels), 0.0)}


def test_skin_without_gel_is_measured_and_told():
    scan, labels = layers(10, 20, 5, 30, 8, 60)
    labels[:, -10:] = 0  # bone: the muscle is whole
    found = measure(scan, labels).mean_thickness_mm()
    assert found == pytest.approx([2, 4, 1, 6, 1.6, 10], abs=1e-5)
    flags = told(scan, labels)
    assert set(flags) == {concepts.SKIN_AT_PROBE}
    assert "first image row" in flags[concepts.SKIN_AT_PROBE]


def test_fat_that_begins_in_the_first_row_is_not_measured():
    scan, labels = layers(20, 5, 30, 8, 60, label=2)
    found = measure(scan, labels).mean_thickness_mm()
    assert np.isnan(found[[0, 1, 5]]).all()
    flags = told(scan, labels)
    assert "dermis" in flags[concepts.MISSING]
    assert "superficial fat" in flags[concepts.TOO_FEW]
    assert concepts.SKIN_AT_PROBE not in flags


def test_a_muscle_cut_off_in_a_few_columns_is_told():
    scan, labels = layers(10, 20, 5, 30, 8, 60)
    labels[:, -10:, 4:] = 0
    assert measure(scan, labels).mean_thickness_mm()[5] == pytest.approx(10)
    assert "10%" in told(scan, labels)[concepts.PARTLY_TRUNCATED]
    labels[:, -10:, 4:12] = 6
    assert np.isnan(measure(scan, labels).mean_thickness_mm()[5])
    assert concepts.TRUNCATED in told(scan, labels)


def test_sizes_that_cannot_be_are_told():
    scan, labels = layers(30, 20, 5, 30, 8, 40)
    assert "dermis" in told(scan, labels)[concepts.IMPLAUSIBLE]  # 6 mm of skin
    scan, labels = layers(10, 20, 5, 30, 8, 60)
    labels[:, 40:45, :4] = 2  # superficial fat within the deep
    assert "10%" in told(scan, labels)[concepts.ORDER_LEFT]
    scan, labels = layers(10, 20, 5, 30, 8, 60)
    labels[:, 50:65, :20] = 5  # a thick deep membrane, seen whole only where it is thin
    labels[:, 66, :20] = 6
    assert "deep fascial membrane" in told(scan, labels)[concepts.NOT_TYPICAL]


def test_layers_cannot_be_thicker_than_the_image_is_deep():
    scan, labels = layers(60, 40, columns=60)
    # Thick skin at the left; thick fat at the right, where text hides where the skin begins.
    labels[:, :, 30:] = 0
    labels[:, 10:25, 30:], labels[:, 25:95, 30:] = 1, 2
    valid = scan.valid.copy()
    valid[:, :10, 30:] = False
    assert "26.0 mm" in told(replace(scan, valid=valid), labels)[concepts.TOO_DEEP]
