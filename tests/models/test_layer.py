"""The layer analysis through its front door: a simulated sweep in, findings out, or a reasoned refusal."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models import codes
from models.analysis import Refusal, load
from models.findings import Findings
from models.layer import LayerAnalysis, WeightsError, analysis, concepts
from models.layer.labels import MUSCLE, SEGMENTS
from models.layer.network import SegmentationNetwork
from models.layer.pain import PainNetwork
from models.layer.sizes import measure, size_flags, size_measurements
from models.layer.weights import (
    CARD,
    FILE,
    Classifier,
    Segmenter,
    Weights,
    load_weights,
    save_weights,
)
from models.phantom import PhantomRequest, synthesize
from models.scan import Geometry, Scan

SHEAR_WAVE = ("b-mode", "shear-wave-speed", "shear-wave-valid")
# A sweep of 8 slices of 36 x 24 mm, on pixels that are nobody's grid.
ODD = PhantomRequest((8, 159, 91), (0.7, 0.227, 0.263), shear_wave=True)


@pytest.fixture(scope="module")
def phantom():
    return synthesize(11, ODD)


@pytest.fixture(scope="module")
def shipped():
    analysis.prepare("cpu", 1)
    return analysis


@pytest.fixture(scope="module")
def findings(shipped, phantom):
    return shipped.run(phantom.scan)


@pytest.fixture
def folder(tmp_path):
    """Weights that know nothing, for what does not depend on them."""
    torch.manual_seed(0)
    save_weights(
        tmp_path,
        Weights(
            "0",
            "Never trained.",
            Segmenter(SegmentationNetwork(1, (8, 16, 16)), (0.3, 0.3)),
            Classifier(PainNetwork(), (0.4, 0.4)),
            Classifier(PainNetwork(SHEAR_WAVE), (0.4, 0.4)),
        ),
    )
    return tmp_path


def numbers(findings, quantity, method=None, derivation=None):
    """Value by segment of one kind of measurement."""
    return {
        item.segment: item.value
        for item in findings.measurements
        if (item.quantity, item.method, item.derivation) == (quantity, method, derivation)
    }


def test_it_is_an_analysis_that_takes_ultrasound(phantom):
    found = load("models.layer:analysis")
    assert found.name == "layer"
    assert found.accepts(phantom.scan)
    assert not found.accepts(replace(phantom.scan, modality="MR"))


def test_layers_come_back_on_the_source_grid(findings, phantom):
    labelmap = findings.segmentation.labelmap
    assert labelmap.shape == phantom.scan.shape
    assert findings.segmentation.segments == SEGMENTS
    dice = {}
    for segment in SEGMENTS:
        found, truth = labelmap == segment.number, phantom.labelmap == segment.number
        dice[segment.label] = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert min(dice.values()) > 0.6, dice
    assert np.mean(list(dice.values())) > 0.8, dice
    assert not labelmap[~phantom.scan.valid].any()


def test_thickness_is_that_of_the_phantom(findings, phantom):
    found = numbers(findings, codes.THICKNESS, concepts.TILT_3D, codes.MEAN)
    for layer in range(1, MUSCLE):
        assert found[layer] == pytest.approx(phantom.thickness_mm[layer], abs=0.5, rel=0.15)


def test_every_layer_has_one_caliper_whose_length_is_its_value(findings, phantom):
    row_mm = phantom.scan.spacing_mm[1]
    drawn = [item for item in findings.measurements if item.line]
    assert [item.segment for item in drawn] == [1, 2, 3, 4, 5, 6]
    for item in drawn:
        (slice0, top, column0), (slice1, bottom, column1) = item.line
        assert (slice0, column0) == (slice1, column1)
        assert item.value == pytest.approx((bottom - top) * row_mm)
        assert 0 <= top < bottom <= phantom.scan.shape[1] - 1
        assert findings.segmentation.labelmap[
            int(slice0), int((top + bottom) / 2), int(column0)
        ] == (item.segment)


def test_volumes_echoes_and_speeds_are_those_of_the_labels(findings, phantom):
    labelmap, scan = findings.segmentation.labelmap, phantom.scan
    voxel_mm3 = np.prod(scan.spacing_mm)
    volumes = {
        item.segment: item.value for item in findings.measurements if item.quantity == codes.VOLUME
    }
    for layer in range(1, 7):
        count = np.count_nonzero(labelmap == layer)
        assert volumes[layer] == pytest.approx(count * voxel_mm3 / 1000)
    muscle = labelmap == MUSCLE
    speeds = numbers(findings, codes.SHEAR_WAVE_SPEED, concepts.VALID_VOXELS, codes.MEAN)
    valid = muscle & (scan.channel("shear-wave-valid") > 0)
    speed_m_s = scan.channel("shear-wave-speed")[valid].mean()
    assert speeds[MUSCLE] == pytest.approx(100 * speed_m_s, rel=1e-4)
    echo = numbers(findings, codes.ECHOGENICITY, concepts.INNER_VOXELS, codes.MEAN)
    assert echo[MUSCLE] == pytest.approx(scan.channel("b-mode")[muscle].mean(), abs=5)


def test_the_reasons_add_up_and_fit_the_map(findings):
    (decision,) = findings.classifications
    assert sum(probability for _, probability in decision.outcomes) == pytest.approx(1)
    # Viewers show "name: probability"; a name that is itself a likelihood would contradict a low one.
    assert not [name for name, _ in decision.outcomes if "likely" in name.meaning]
    (attribution,) = findings.attributions
    saliency, labelmap = attribution.map, findings.segmentation.labelmap
    assert saliency.shape == labelmap.shape
    assert 0 <= saliency.min() < saliency.max() <= 1
    assert not saliency[labelmap == 0].any()
    means = numbers(findings, codes.SALIENCY, concepts.EVIDENCE, codes.MEAN)
    assert set(means) == set(range(1, 7))
    for layer, value in means.items():
        assert value == pytest.approx(saliency[labelmap == layer].mean(), abs=1e-4)
    null = numbers(findings, codes.SALIENCY, concepts.EVIDENCE_NULL, codes.MEAN)
    assert null[None] == pytest.approx(saliency[labelmap > 0].mean(), abs=1e-4)
    assert set(numbers(findings, codes.SALIENCY, concepts.UNTRAINED, concepts.NULL)) == set(means)


def test_each_layer_has_its_parts_total_and_interval_in_log_odds(findings):
    (decision,) = findings.classifications
    totals = numbers(findings, concepts.CONTRIBUTION, concepts.SHAPLEY)
    (reference,) = numbers(findings, concepts.REFERENCE_LOGIT, concepts.SHAPLEY).values()
    assert sum(totals.values()) == pytest.approx(decision.logit - reference, abs=1e-3)
    parts = {
        name: numbers(findings, concepts.CONTRIBUTION, how)
        for name, how in concepts.SHAPLEY_PARTS.items()
    }
    ends = [
        numbers(findings, concepts.CONTRIBUTION, concepts.SHAPLEY, end)
        for end in (concepts.LOWER, concepts.UPPER)
    ]
    for layer, total in totals.items():
        assert total == pytest.approx(sum(part.get(layer, 0) for part in parts.values()), abs=1e-6)
        assert ends[0][layer] <= total <= ends[1][layer]
    assert MUSCLE not in parts["thickness"]
    assert set(parts["shear wave"]) == set(totals) == set(range(1, 7))
    shares = numbers(findings, concepts.RANKS_FIRST, concepts.ALTERNATIVES)
    assert sum(shares.values()) == pytest.approx(100)
    # Either the layer that contributes most is told, or why it cannot be.
    told = numbers(findings, concepts.RANK, concepts.SHAPLEY)
    refused = [flag for flag in findings.flags if flag.code == concepts.NOT_RANKED]
    assert len(told) + len(refused) == 1
    if told:
        assert totals[next(iter(told))] in (max(totals.values()), min(totals.values()))


def test_the_run_can_be_repeated_from_its_manifest(findings):
    assert len(findings.run.weights_sha256) == 64
    assert {"torch", "monai", "captum", "SimpleITK"} <= set(findings.run.libraries)
    assert findings.run.settings["channels"] == ", ".join(SHEAR_WAVE)
    assert findings.flags[0].code == concepts.SIMULATED


def test_the_same_scan_gives_the_same_bytes(findings, shipped, phantom):
    again = shipped.run(phantom.scan)
    first, second = _bytes(findings), _bytes(again)
    assert first == second


def _bytes(findings: Findings):
    text = findings.describe()
    text["run"].pop("seconds")
    maps = [item.map.tobytes() for item in findings.attributions]
    return text, findings.segmentation.labelmap.tobytes(), maps


def test_without_shear_wave_the_b_mode_network_decides(shipped, phantom):
    scan = phantom.scan
    plain = replace(scan, voxels=scan.voxels[:1].copy(), channels=("b-mode",), units=("1",))
    found = shipped.run(plain)
    assert found.run.settings["channels"] == "b-mode"
    assert not numbers(found, codes.SHEAR_WAVE_SPEED, concepts.VALID_VOXELS, codes.MEAN)
    assert concepts.SHEAR_THIN not in {flag.code for flag in found.flags}


def test_without_frame_spacing_there_is_no_volume_and_the_tilt_is_in_plane(shipped, phantom):
    loose = replace(phantom.scan, geometry=Geometry("declared", "assumed", "unknown"))
    found = shipped.run(loose)
    assert not any(item.quantity == codes.VOLUME for item in found.measurements)
    assert not numbers(found, codes.THICKNESS, concepts.TILT_3D, codes.MEAN)
    assert numbers(found, codes.THICKNESS, concepts.TILT_IN_PLANE, codes.MEAN)
    assert {concepts.FRAME_STEP, concepts.DECLARED} <= {flag.code for flag in found.flags}


def test_a_muscle_cut_off_by_the_image_has_a_visible_depth_only(shipped, phantom):
    scan = phantom.scan
    rows = np.flatnonzero((phantom.labelmap == MUSCLE).any((0, 2)))
    end = int(rows[0]) + 40
    short = replace(scan, voxels=scan.voxels[:, :, :end].copy(), valid=scan.valid[:, :end].copy())
    found = shipped.run(short)
    depth = numbers(found, concepts.VISIBLE_DEPTH, concepts.ALONG_COLUMNS, codes.MEAN)
    assert depth[MUSCLE] < 40 * scan.spacing_mm[1]
    assert MUSCLE not in numbers(found, codes.THICKNESS, concepts.TILT_3D, codes.MEAN)
    assert concepts.TRUNCATED in {flag.code for flag in found.flags}


def _scan(gray, geometry=None, step_mm=0.2):
    valid = np.ones(gray.shape, bool)
    affine = np.diag([0.5, step_mm, step_mm, 1.0])
    known = geometry or Geometry("measured", "measured", "measured")
    return Scan(gray[None].astype(np.float32), ("b-mode",), ("1",), valid, affine, known)


NOISE = np.random.default_rng(0).uniform(0, 255, (4, 64, 64))
REFUSED = {
    "pixel spacing, so nothing": _scan(NOISE, Geometry("assumed", "measured", "measured")),
    "There is 1 image": _scan(NOISE[:1]),
    "not that of a lumbar ultrasound": _scan(NOISE, step_mm=5.0),
    "no contrast": _scan(np.zeros((4, 64, 64))),
    "only 1024 pixels": _scan(NOISE[:, :16, :16]),
    "gray levels run": _scan(NOISE * 200),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_measured_is_refused_with_a_reason(folder, sentence):
    with pytest.raises(Refusal, match=sentence) as refused:
        LayerAnalysis(folder).run(REFUSED[sentence])
    kinds = {"pixel spacing, so nothing": "no-geometry", "There is 1 image": "incomplete"}
    assert refused.value.kind == kinds.get(sentence, "unsuitable")


def test_images_without_layers_are_refused(folder):
    weights = load_weights(folder)
    for tensor in weights.segment.network.parameters():
        tensor.zero_()  # all classes alike: outside
    save_weights(folder, weights)
    with pytest.raises(Refusal, match="No tissue layer"):
        LayerAnalysis(folder).run(_scan(NOISE))


def test_untrained_weights_run_too(folder):
    found = LayerAnalysis(folder).run(_scan(NOISE))
    assert found.segmentation.labelmap.any()
    assert found.flags[0].sentence == "Never trained."


def test_changed_weights_are_refused(folder):
    data = bytearray((folder / FILE).read_bytes())
    data[-1] ^= 1
    (folder / FILE).write_bytes(data)
    with pytest.raises(WeightsError, match="sha256"):
        LayerAnalysis(folder).run(_scan(NOISE))


@pytest.mark.parametrize("name", [CARD, FILE])
def test_missing_weights_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=name):
        LayerAnalysis(folder).run(_scan(NOISE))


@pytest.mark.parametrize(
    ("fact", "text", "code"),
    [
        ("shear_wave_left_out", "kPa of unknown kind", concepts.SHEAR_LEFT_OUT),
        ("geometry_notes", "two spacings disagree", concepts.GEOMETRY_NOTE),
        ("pixel_notes", "declared as RGB, but are YBR", concepts.PIXEL_NOTE),
        ("lossy", "yes", concepts.LOSSY),
    ],
)
def test_what_was_noticed_on_the_way_is_a_reason_to_distrust(folder, fact, text, code):
    scan = _scan(NOISE)
    layer = LayerAnalysis(folder)
    assert code not in [flag.code for flag in layer.run(scan).flags]
    told = [
        flag for flag in layer.run(replace(scan, facts={fact: text})).flags if flag.code == code
    ]
    assert len(told) == 1
    assert text in told[0].sentence or text == "yes"


def test_a_layer_seen_whole_in_a_few_columns_has_no_thickness():
    labels = np.zeros((4, 60, 50), np.uint8)
    labels[:, :12], labels[:, 12:30], labels[:, 30:34] = 2, 3, 4
    labels[0, 0, 7] = 0  # the fat begins inside the image in one column of 200
    scan = Scan(
        np.zeros((1, *labels.shape), np.float32),
        ("b-mode",),
        ("1",),
        np.ones(labels.shape, np.bool_),
        np.diag([0.5, 0.2, 0.2, 1]),
        Geometry("measured", "measured", "measured"),
    )
    sizes = measure(scan, labels)
    thick = [m.segment for m in size_measurements(scan, sizes) if m.quantity == codes.THICKNESS]
    assert set(thick) == {3, 4}
    (told,) = [flag for flag in size_flags(scan, sizes, 0.0) if flag.code == concepts.TOO_FEW]
    assert "superficial fat" in told.sentence
