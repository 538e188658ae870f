"""The pain classifier: what it must not see, what its terms add up to, and that it learns a planted rule."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation import rules
from models.evaluation.baseline import PENALTIES, fit_logistic, fit_validated
from models.evaluation.metrics import auc
from models.layer.pain import ACROSS, PainNetwork
from models.layer.pooling import GRAY, SPEED, TEXTURE
from models.phantom.factors import reference
from models.training.config import PainConfig
from models.training.pain import (
    Features,
    fit_heads,
    fit_readouts,
    set_references,
    temperature_of,
)

BOTH = ("b-mode", "shear-wave-speed", "shear-wave-valid")
BANDS = ((2, 6), (6, 11), (11, 13), (13, 20), (20, 23), (23, 30))
PART = PainConfig(200, 100, 4, (0.3, 0.4), 2, (0.01, 0.1), 10.0)
PEOPLE = 400


def network(channels=BOTH, seed=0):
    """A network with every part at work, fitted or not."""
    torch.manual_seed(seed)
    net = PainNetwork(channels, 4).eval().requires_grad_(False)
    net.weight.normal_(0, 0.3)
    net.weight[:, net.parts["pairs"]] *= 0.1
    net.bias.normal_()
    net.appearance_readout.normal_(0, 0.3)
    net.speed_readout.normal_(0, 0.5)
    net.speed_thickness.normal_(0, 0.2)
    net.reference_across.normal_(0, 0.3)
    net.reference_pooled[:, TEXTURE:].uniform_(0.1, 0.5)
    return net


def sweep(channels=BOTH, seed=0, layers=range(1, 7), across=1.0):
    """Image, labels and measurements of one sweep of flat layers."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(1, 10, 32, 20, dtype=torch.uint8)
    for layer in layers:
        top, bottom = BANDS[layer - 1]
        labels[:, :, top:bottom] = layer
    base = torch.tensor([20.0, 150, 70, 160, 80, 180, 100])[labels.long()]
    image = (base + 20 * torch.randn(base.shape, generator=generator))[:, None]
    if channels == BOTH:
        speed = 1 + 3 * torch.rand(image.shape, generator=generator)
        valid = (torch.rand(image.shape, generator=generator) > 0.2).float()
        image = torch.cat([image, speed * valid, valid], 1)
    measured = torch.tensor([[2.2, 3.0, 0.9, 6.0, 1.9, float("nan"), across]])
    return image, labels, measured


@pytest.mark.parametrize("channels", [BOTH[:1], BOTH])
@given(gain=st.floats(-60, 60), seed=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_the_gain_of_the_machine_does_not_move_the_logit(channels, gain, seed):
    net, (image, labels, measured) = network(channels), sweep(channels, seed)
    louder = image.clone()
    louder[:, 0] += gain
    first, second = (net(one, labels, measured) for one in (image, louder))
    assert float(first) == pytest.approx(float(second), abs=1e-4)


def test_the_order_of_slices_says_nothing():
    net, (image, labels, measured) = network(), sweep()
    labels[:, :3, 19] = 4  # not all slices alike
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    shuffled = net(image[:, :, order], labels[:, order], measured)
    assert float(net(image, labels, measured)) == pytest.approx(float(shuffled), abs=1e-4)


@pytest.mark.parametrize("channels", [BOTH[:1], BOTH])
@pytest.mark.parametrize("layers", [range(1, 7), (1, 2, 5, 6)])
@pytest.mark.parametrize("across", [0.0, 1.0, float("nan")])
def test_terms_and_interactions_add_up_to_the_logit(channels, layers, across):
    net, (image, labels, measured) = network(channels), sweep(channels, 0, layers, across)
    pooled = net.pool(image, labels)
    terms = net.terms(pooled, measured)
    assert terms.shape == (1, 6, len(net.term_names))
    total = net.bias.mean() + terms.sum() + net.interactions(pooled, measured).sum()
    assert float(total) == pytest.approx(float(net(image, labels, measured)), abs=1e-4)
    absent = [layer - 1 for layer in range(1, 7) if layer not in layers]
    assert not terms[0, absent].any()
    members = net.logits(pooled, measured)
    assert members.shape == (5, 1)
    assert float(members.mean()) == pytest.approx(float(total), abs=1e-4)
    assert float(members.std()) > 0.01


@pytest.mark.parametrize("channels", [BOTH[:1], BOTH])
@pytest.mark.parametrize("across", [0.0, float("nan")])
def test_the_evidence_of_the_voxels_is_the_terms_of_their_layer(channels, across):
    net, (image, labels, measured) = network(channels), sweep(channels, 1, (1, 2, 4, 5, 6), across)
    evidence = net.evidence(image, labels, measured)
    assert not evidence[labels == 0].any()
    terms = net.terms(net.pool(image, labels), measured)[0]
    for number in (0, 1, 3, 4, 5):
        expected = terms[number, 0] + (terms[number, 2] if channels == BOTH else 0)
        mean = evidence[labels == number + 1].mean()
        assert float(mean) == pytest.approx(float(expected), abs=1e-4)


def test_nothing_is_added_at_the_reference():
    net, (image, labels, measured) = network(), sweep(across=float("nan"))
    measured[0, :6] = net.reference_thickness_mm
    pooled = net.reference(net.pool(image, labels))
    torch.testing.assert_close(net.terms(pooled, measured), torch.zeros(1, 6, 3))


def test_muscle_is_compared_with_muscle_seen_from_the_same_side():
    net, (image, labels, measured) = network(), sweep()
    pooled = net.pool(image, labels)
    net.reference_across.zero_()
    net.reference_across[5, -1] = np.log(0.58) / net.pooled_scale[5, SPEED]
    slower = pooled.clone()
    slower[:, 5, SPEED] *= 0.58
    along = measured.clone()
    along[0, ACROSS] = 0.0
    across = net.logit(slower, measured)
    assert float(across) == pytest.approx(float(net.logit(pooled, along)), abs=1e-4)
    assert float(across) != pytest.approx(float(net.logit(pooled, measured)), abs=1e-2)


def test_a_layer_without_a_valid_speed_has_no_shear_wave_term():
    net, (image, labels, measured) = network(), sweep()
    image[:, 1:][(labels == 6)[:, None].expand(-1, 2, -1, -1, -1)] = 0
    terms = net.terms(net.pool(image, labels), measured)[0]
    assert terms[5, 2] == 0
    assert terms[4, 2] != 0
    assert net(image, labels, measured).isfinite().all()


def people(rule, split, count=PEOPLE):
    """Features as if each layer told its factors with some noise, and labels of a planted rule."""
    generator = np.random.default_rng(len(split))
    known = reference()
    parts = ("gray", "shear_m_s", "thickness_mm", "infiltration")
    names = [name for name in known if name.split(".")[1] in parts and known[name].sd > 0]
    names += ["muscle.infiltration", "probe.transverse", "anatomy.body_mass"]
    seeds = list(range(count)) if split == "train" else list(range(count, 2 * count))
    factors = [{name: known[name].draw(seed, name) for name in names} for seed in seeds]
    pooled = torch.ones(count, 6, TEXTURE + 4)
    measured = np.full((count, 7), np.nan, np.float32)
    measured[:, ACROSS] = [float(one["probe.transverse"] >= 0.5) for one in factors]
    gain = generator.normal(0, 20, count)
    for number, layer in enumerate(rules.LAYERS):
        gray = np.array([one[f"{layer}.gray"] for one in factors])
        pooled[:, number, GRAY] = torch.tensor(gray + gain + generator.normal(0, 4, count))
        speed = np.array([one[f"{layer}.shear_m_s"] for one in factors])
        slow = 0.58 if number == 5 else 1.0
        pooled[:, number, SPEED] = torch.tensor(
            speed * np.where(measured[:, ACROSS] > 0.5, slow, 1.0)
        )
        if number < 5:
            measured[:, number] = [one[f"{layer}.thickness_mm"] for one in factors]
    pooled[:, :, GRAY + 1] = torch.tensor(generator.uniform(20, 30, (count, 6)))
    pooled[:, :, TEXTURE - 1 :] = torch.tensor(generator.normal(0, 1, (count, 6, 5)))
    latent, pain = rules.labels(rule, factors, seeds)
    told = {name: torch.tensor([one[name] for one in factors]) for name in factors[0]}
    features = Features(pooled, torch.from_numpy(measured), torch.tensor(pain).float(), told)
    return features, auc(latent, pain)


def fitted(rule, channels=BOTH):
    (train, _), (check, ideal) = people(rule, "train"), people(rule, "validation")
    torch.manual_seed(0)
    net = PainNetwork(channels, 2).requires_grad_(False)
    set_references(net, train)
    fit_readouts(net, train)
    fit_heads(net, train, check, PART)
    logit = net.logit(check.pooled, check.measured)
    return net, auc(logit.numpy(), check.pain.numpy()), ideal


@pytest.mark.parametrize(
    "rule", ["deep_fascial_membrane gray", "deep_fascial_membrane thickness", "muscle stiffness"]
)
def test_a_planted_rule_is_learned_and_points_at_its_layer(rule):
    net, found, ideal = fitted(rule)
    assert found > ideal - 0.06
    check, _ = people(rule, "validation")
    spread = net.terms(check.pooled, check.measured).std(0)
    layer, term = np.unravel_index(int(spread.argmax()), spread.shape)
    name = net.term_names[term]
    assert (layer, name) == {
        "deep_fascial_membrane gray": (4, "appearance"),
        "deep_fascial_membrane thickness": (4, "thickness"),
        "muscle stiffness": (5, "shear wave"),
    }[rule]


def test_a_product_of_two_layers_is_learned_only_where_there_is_one():
    net, found, ideal = fitted("interaction of DFM and muscle gray")
    assert net.weight[:, net.parts["pairs"]].any()
    assert found > ideal - 0.25
    plain, _, _ = fitted("deep_fascial_membrane gray")
    assert not plain.weight[:, plain.parts["pairs"]].any()


def test_a_rule_that_is_none_is_not_learned():
    _, found, ideal = fitted("none")
    assert ideal == 0.5
    assert abs(found - 0.5) < 0.1


def test_the_same_people_give_the_same_heads_and_a_sensible_temperature():
    (first, _, _), (second, _, _) = (fitted("mixed") for _ in range(2))
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    check, _ = people("mixed", "validation")
    assert 0.5 < temperature_of(first, check) < 2
    logits = first.logits(check.pooled, check.measured)
    assert float(logits.std(0).mean()) > 0.02  # members differ


def test_the_regression_beside_it_takes_the_penalty_that_suits_other_people():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(300, 40))
    pain = rows[:, 0] + generator.normal(size=300) > 0
    halves = (rows[:150], pain[:150]), (rows[150:], pain[150:])
    chosen = fit_validated(*halves)
    loose = fit_logistic(*halves[0], PENALTIES[0])
    assert auc(chosen.logits(halves[1][0]), halves[1][1]) > auc(
        loose.logits(halves[1][0]), halves[1][1]
    )


def test_one_cohort_serves_every_rule_with_labels_of_its_own():
    factors = [{name: q.draw(seed, name) for name, q in reference().items()} for seed in range(300)]
    drawn = {name: rules.labels(name, factors, range(300)) for name in rules.RULES}
    again = rules.labels("mixed", factors, range(300))
    np.testing.assert_array_equal(drawn["mixed"][1], again[1])
    assert not np.array_equal(drawn["none"][1], drawn["mixed"][1])
    for latent, pain in drawn.values():
        assert 0.4 < pain.mean() < 0.6
        assert latent.std() == 0 or 0.7 < latent.std() < 1.4
