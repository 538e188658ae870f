"""Attribution where the right answer is known: games, maps and a network that is additive by design."""

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.layer.network import PainNetwork
from models.steps.attribute import (
    appearance_shapley,
    coalitions,
    gradient_map,
    layer_saliency,
    moment_reference,
    normalize,
    shapley,
)
from models.steps.classify import Case, classify

BOTH = ("b-mode", "shear-wave-speed", "shear-wave-valid")
BANDS = ((2, 6), (6, 11), (11, 13), (13, 20), (20, 23), (23, 30))


def network(channels=("b-mode",), seed=0):
    torch.manual_seed(seed)
    result = PainNetwork(channels, 4)
    with torch.no_grad():
        for name in ("brightness_weight", "contrast_weight", "thickness_weight"):
            getattr(result, name).normal_()
        result.texture_weight.normal_(0, 0.3)
        if result.speed_weight is not None:
            result.speed_weight.normal_(0, 2)
    return result.eval().requires_grad_(False)


def case(channels=("b-mode",), seed=0, layers=range(1, 7), slices=10):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(1, slices, 32, 20, dtype=torch.uint8)
    for layer in layers:
        top, bottom = BANDS[layer - 1]
        labels[:, :, top:bottom] = layer
    base = torch.tensor([20.0, 150, 70, 160, 80, 180, 100])[labels.long()]
    image = (base + 20 * torch.randn(base.shape, generator=generator))[:, None]
    if channels == BOTH:
        speed = 1 + 3 * torch.rand(image.shape, generator=generator)
        valid = (torch.rand(image.shape, generator=generator) > 0.2).float()
        image = torch.cat([image, speed * valid, valid], 1)
    thickness = torch.tensor([[2.2, 3.0, 0.9, 6.0, 1.9, float("nan")]])
    whole = (slice(0, slices), slice(0, 32), slice(0, 20))
    return Case(image.contiguous(), labels, thickness, whole, channels)


@given(arrays(float, 64, elements=st.floats(-100, 100)))
def test_shapley_values_add_up(worth):
    assert shapley(worth).sum() == pytest.approx(worth[-1] - worth[0], abs=1e-9)


@given(arrays(float, 6, elements=st.floats(-10, 10)), st.permutations(range(6)))
def test_shapley_values_of_a_sum_are_its_terms_in_any_order(terms, order):
    worth = 3.0 + coalitions(6) @ terms
    np.testing.assert_allclose(shapley(worth), terms, atol=1e-9)
    permuted = 3.0 + coalitions(6)[:, list(order)] @ terms
    np.testing.assert_allclose(shapley(permuted)[list(order)], terms, atol=1e-9)


def test_an_interaction_is_shared_and_a_dummy_gets_nothing():
    members = coalitions(3)
    np.testing.assert_allclose(shapley((members[:, 0] & members[:, 2]) * 1.0), [0.5, 0, 0.5])
    with pytest.raises(ValueError, match="power of two"):
        shapley(np.zeros(6))


@pytest.mark.parametrize("channels", [("b-mode",), BOTH])
def test_two_passes_give_what_64_images_give(channels):
    net, scan = network(channels), case(channels)
    reference = moment_reference(net, scan)
    worth = []
    for members in coalitions(6):
        image = scan.image.clone()
        for number in np.flatnonzero(~members):
            mask = (scan.labels == number + 1)[:, None].expand_as(image)
            image[mask] = reference[mask]
        worth.append(float(net(image, scan.labels, scan.thickness_mm)))
    found = appearance_shapley(net, scan)
    np.testing.assert_allclose(found.values, shapley(np.array(worth)), atol=2e-5)
    assert found.logit == pytest.approx(worth[-1], abs=1e-5)
    assert found.reference_logit == pytest.approx(worth[0], abs=1e-5)
    assert abs(found.values).max() > 0.01


def test_captum_finds_the_same_values():
    net, scan = network(), case(layers=(1, 2, 5, 6), slices=3)
    ids = torch.tensor([0, 1, 2, 0, 0, 3, 4])[scan.labels.long()][
        :, None
    ]  # captum wants them to run on
    found = ShapleyValues(net).attribute(
        scan.image,
        baselines=moment_reference(net, scan),
        feature_mask=ids,
        additional_forward_args=(scan.labels, scan.thickness_mm),
        perturbations_per_eval=16,
    )
    ours = appearance_shapley(net, scan).values
    for number, layer in enumerate((1, 2, 5, 6), 1):
        theirs = float(found[ids == number][0])
        assert ours[layer - 1] == pytest.approx(theirs, abs=2e-5)
    assert ours[2] == ours[3] == 0  # layers that are not there


def test_the_reference_has_the_moments_of_the_cohort_at_this_gain():
    net, scan = network(BOTH), case(BOTH)
    pooled = net.pool(moment_reference(net, scan), scan.labels)[0]
    np.testing.assert_allclose(pooled[:, 3], net.reference_speed, rtol=1e-4)
    off = pooled[:, 1] - net.reference_gray_mean
    np.testing.assert_allclose(off, np.full(6, off.mean()), atol=1e-2)
    np.testing.assert_allclose(pooled[:, 2], net.reference_gray_sd, rtol=1e-3)


@pytest.mark.parametrize("channels", [("b-mode",), BOTH])
def test_the_terms_by_design_agree_with_the_shapley_values(channels):
    net, scan = network(channels), case(channels)
    own, reference = (
        net.terms(net.pool(image, scan.labels), scan.thickness_mm)[0]
        for image in (scan.image, moment_reference(net, scan))
    )
    expected = (own - reference).sum(1)  # that of thickness is the same in both
    np.testing.assert_allclose(appearance_shapley(net, scan).values, expected, atol=1e-4)


@pytest.mark.parametrize("gain", [-15.0, 25.0])
def test_gain_moves_neither_logit_nor_shapley_values(gain):
    net, scan = network(), case()
    louder = Case(scan.image + gain, scan.labels, scan.thickness_mm, scan.box, scan.channels)
    assert classify(net, louder, 1.0)[0] == pytest.approx(classify(net, scan, 1.0)[0], abs=1e-4)
    here, there = appearance_shapley(net, scan).values, appearance_shapley(net, louder).values
    np.testing.assert_allclose(here, there, atol=1e-4)


def test_terms_add_up_and_depend_on_their_own_layer():
    net, scan = network(BOTH), case(BOTH)
    pooled = net.pool(scan.image, scan.labels)
    terms = net.terms(pooled, scan.thickness_mm)
    logit = net(scan.image, scan.labels, scan.thickness_mm)
    assert float(net.bias + terms.sum()) == pytest.approx(float(logit), abs=1e-5)
    image = scan.image.clone()
    image[:, :, :, 20:23] += 5  # layer 5 alone
    changed = net.pool(image, scan.labels)
    np.testing.assert_array_equal(changed[:, [0, 1, 2, 3, 5]], pooled[:, [0, 1, 2, 3, 5]])
    assert not torch.equal(changed[:, 4], pooled[:, 4])
    thicker = scan.thickness_mm * torch.tensor([1, 1, 1, 1, 1.25, 1])
    moved = (net.terms(pooled, thicker) - terms)[0]
    assert torch.count_nonzero(moved) == 1
    assert moved[4, 1] != 0


def test_the_temperature_softens_the_probability():
    net, scan = network(), case()
    logit, sharp = classify(net, scan, 1.0)
    assert sharp == pytest.approx(1 / (1 + np.exp(-logit)))
    assert classify(net, scan, 2.0)[1] == pytest.approx(1 / (1 + np.exp(-logit / 2)))


def test_the_gradient_is_that_of_the_logit():
    net, scan = network(BOTH), case(BOTH)
    found = gradient_map(net, scan)
    assert found.shape == tuple(scan.labels.shape[1:])
    assert found[scan.labels[0].numpy() == 0].max() == 0
    position = (4, 21, 7)
    inside = scan.labels[0] > 0
    expected = 0.0
    for channel, step in ((0, 20.0), (1, 0.5)):
        ends = []
        for sign in (-1, 1):
            image = scan.image.double().clone()
            image[(0, channel, *position)] += sign * step
            ends.append(float(net.double()(image, scan.labels, scan.thickness_mm.double())))
        sd = float(scan.image[0, channel][inside].std(correction=0))
        expected += abs(ends[1] - ends[0]) / (2 * step) * sd
    net.float()
    assert found[position] == pytest.approx(expected, rel=0.1)


def _labels(seed=0):
    return np.random.default_rng(seed).integers(0, 7, (3, 20, 20)).astype(np.uint8)


def test_a_flat_map_says_the_same_of_every_layer():
    found = layer_saliency(np.full((3, 20, 20), 0.3, np.float32), _labels(), 6)
    np.testing.assert_allclose(found.mean, 0.3, rtol=1e-6)
    np.testing.assert_allclose(found.enrichment, 1, rtol=1e-6)
    assert found.above == pytest.approx(found.null) == pytest.approx(0.3)
    assert normalize(np.full((3, 20, 20), 0.3, np.float32), _labels() > 0) is None
    assert layer_saliency(np.zeros((3, 20, 20), np.float32), _labels(), 6) is None


@pytest.mark.parametrize("layer", range(1, 7))
def test_a_map_of_one_layer_points_at_it(layer):
    labels = _labels()
    found = layer_saliency((labels == layer).astype(np.float32), labels, 6)
    assert found.mean[layer - 1] == 1
    assert np.delete(found.mean, layer - 1).max() == 0
    assert found.enrichment[layer - 1] == pytest.approx(labels.size / (labels == layer).sum())
    assert found.outside == 0


def test_permuted_labels_permute_the_result_and_an_empty_layer_has_none():
    labels = _labels()
    labels[labels == 4] = 0
    values = np.random.default_rng(1).random(labels.shape).astype(np.float32)
    order = np.array([0, 3, 1, 2, 6, 4, 5], np.uint8)  # old label -> new label
    first = layer_saliency(values, labels, 6)
    second = layer_saliency(values, order[labels], 6)
    np.testing.assert_allclose(first.mean, second.mean[order[1:] - 1])
    assert np.isnan(first.mean[3])
    assert np.isnan(first.enrichment[3])


def test_normalized_maps_lie_between_0_and_1_and_forget_their_scale():
    gradient = np.random.default_rng(0).gamma(1, 1, (3, 20, 20)).astype(np.float32)
    first, second = (normalize(gradient * scale, _labels() > 0) for scale in (1, 10))
    assert first.min() >= 0
    assert first.max() == 1
    np.testing.assert_allclose(first, second, rtol=1e-5)
