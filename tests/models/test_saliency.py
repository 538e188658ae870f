"""Maps of the evidence and what they say of each layer, where the right answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.steps.attribute import explain
from models.steps.attribute.saliency import gradient_map, layer_saliency, normalize
from tests.models.linear_network import LinearNetwork, labelmap_of, make_case, question


def _labels(seed=0):
    return np.random.default_rng(seed).integers(0, 7, (3, 20, 20)).astype(np.uint8)


def test_a_flat_map_says_the_same_of_every_layer():
    found = layer_saliency(np.full((3, 20, 20), 0.3, np.float32), _labels(), 6)
    np.testing.assert_allclose(found.mean, 0.3, rtol=1e-6)
    np.testing.assert_allclose(found.enrichment, 1, rtol=1e-6)
    assert found.above == pytest.approx(found.null) == pytest.approx(0.3)
    assert normalize(np.full((3, 20, 20), 0.3, np.float32), _labels() > 0) is None
    assert layer_saliency(np.zeros((3, 20, 20), np.float32), _labels(), 6) is None


@given(st.integers(0, 60), st.floats(0, 1))
def test_padding_enriches_no_layer(rows, outside):
    """Evidence stays inside the layers: however much there is outside, alike layers have the null value."""
    labels = np.pad(_labels(), ((0, 0), (0, rows), (0, 0)))
    values = np.where(labels > 0, 0.3, outside).astype(np.float32)
    np.testing.assert_allclose(layer_saliency(values, labels, 6).enrichment, 1, rtol=1e-5)


@pytest.mark.parametrize("layer", range(1, 7))
def test_a_map_of_one_layer_points_at_it(layer):
    labels = _labels()
    found = layer_saliency((labels == layer).astype(np.float32), labels, 6)
    assert found.mean[layer - 1] == 1
    assert np.delete(found.mean, layer - 1).max() == 0
    inside = (labels > 0).sum()
    assert found.enrichment[layer - 1] == pytest.approx(inside / (labels == layer).sum())
    assert found.share[layer] == 1


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(1, 6), max_size=3))
def test_shares_add_up_and_permuted_labels_permute_the_result(seed, missing):
    random = np.random.default_rng(seed)
    labels = _labels(seed)
    labels[np.isin(labels, list(missing))] = 0
    values = random.random(labels.shape).astype(np.float32)
    order = np.concatenate([[0], 1 + random.permutation(6)]).astype(np.uint8)  # old -> new label
    first, second = (layer_saliency(values, item, 6) for item in (labels, order[labels]))
    assert first.share.sum() == pytest.approx(1)
    for name in ("mean", "enrichment"):
        before, after = getattr(first, name), getattr(second, name)
        np.testing.assert_allclose(before, after[order[1:].astype(int) - 1])
        assert set(np.flatnonzero(np.isnan(before)) + 1) == missing
    scaled = layer_saliency(values * 10, labels, 6)
    np.testing.assert_allclose(scaled.enrichment, first.enrichment, rtol=1e-5)
    np.testing.assert_allclose(scaled.share, first.share, rtol=1e-5)


def test_normalized_maps_lie_between_0_and_1_and_forget_their_scale():
    values = np.random.default_rng(0).gamma(1, 1, (3, 20, 20)).astype(np.float32)
    first, second = (normalize(values * scale, _labels() > 0) for scale in (1, 10))
    assert first.min() >= 0
    assert first.max() == 1
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_the_map_shows_evidence_for_the_predicted_class_only():
    network, case = LinearNetwork(), make_case()
    network.weight[:] = 0
    network.weight[:, 4, 0] = 0.1  # a bright deep fascia speaks for pain
    case.image[:, 0][case.labels == 5] = 220 + torch.arange(200.0).repeat(3)
    found = explain(question(network, case)).maps
    labels = labelmap_of(case)
    assert found.outside == 0
    assert found.saliency[labels == 5].min() > 0
    assert found.saliency[labels != 5].max() == 0
    against = explain(replace(question(network, case), logit=-1.0)).maps
    assert against.saliency is None  # all that there is speaks for pain


def test_the_gradient_is_that_of_the_logit():
    network, case = LinearNetwork(), make_case()
    found = gradient_map(network, case)
    weight, inside = network.weight.mean(0), case.labels[0] > 0
    sd = [float(case.image[0, n][inside].std(correction=0)) for n in (0, 1)]
    for layer in range(6):
        count = int((case.labels == layer + 1).sum())
        expected = (abs(weight[layer, 0]) * sd[0] + abs(weight[layer, 2]) * sd[1]) / count
        mask = labelmap_of(case) == layer + 1
        np.testing.assert_allclose(found[mask], float(expected), rtol=1e-4)
    assert found[labelmap_of(case) == 0].max() == 0
