"""Ordered levels of pain: one logit, thresholds in order, probabilities better than the levels' shares."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from models.evaluation import rules
from models.layer.pain import PainNetwork
from models.layer.weights import Classifier
from models.steps.classify import Levels
from models.training.ordinal import Graded, assess, fit_levels, quadratic_kappa
from models.training.pain import fit_heads, fit_readouts, set_references, temperature_of
from tests.models.test_pain import PART, people

NAMES = ("none", "mild", "moderate", "severe")
CUTS = (-2.5, 0.0, 2.5)
SLOPE = 2.5


def graded(split):
    """People of a planted rule, whose level is the latent with logistic noise, cut at CUTS."""
    features, _ = people("mixed", split)
    count = len(features.pain)
    factors = [
        {name: float(value[person]) for name, value in features.factors.items()}
        for person in range(count)
    ]
    latent, _ = rules.labels("mixed", factors, range(count))
    noisy = SLOPE * latent + np.random.default_rng(len(split)).logistic(size=count)
    level = (noisy[:, None] >= CUTS).sum(1)
    return Graded(replace(features, pain=torch.tensor(level > 0).float()), level)


@cache
def fitted():
    """Train and held-out people, the binary classifier, and the same with levels."""
    train, check = graded("train"), graded("validation")
    torch.manual_seed(0)
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        network = PainNetwork(("b-mode", "shear-wave-speed", "shear-wave-valid"), 2)
        network.requires_grad_(False)
        set_references(network, train.features)
        fit_readouts(network, train.features)
        fit_heads(network, train.features, check.features, PART)
        networks.append(network)
    binary, other = (
        Classifier(network, (0.3, 0.4), temperature_of(network, check.features))
        for network in networks
    )
    return train, check, binary, fit_levels(other, train, check, NAMES, PART.penalties)


def test_planted_thresholds_come_back_in_order():
    _, _, _, made = fitted()
    found = np.array(made.levels.thresholds)
    assert found[0] == 0
    assert (np.diff(found) > 0.5).all()
    # What is learned is less steep than what was planted; how the thresholds share their range is not.
    planted = np.array(CUTS) - CUTS[0]
    np.testing.assert_allclose(found / found[-1], planted / planted[-1], atol=0.1)
    assert 0.7 < found[-1] / planted[-1] < 1.2


def test_held_out_levels_are_told_better_than_by_their_shares():
    train, check, binary, made = fitted()
    quality = assess(made, train, check)
    assert quality.skill > 0.1
    assert quality.kappa > 0.3
    assert min(quality.areas) > 0.7
    np.testing.assert_allclose(quality.said, quality.seen, atol=0.05)
    level = np.random.default_rng(0).permutation(check.level)
    assert assess(made, train, Graded(check.features, level)).skill < 0.05
    # Four people of five have some pain: how much teaches the heads what yes and no did not.
    before = assess(replace(binary, levels=made.levels), train, check)
    assert np.mean(quality.areas) > np.mean(before.areas)
    assert quality.score < before.score - 0.002


def test_without_a_penalty_to_choose_the_binary_heads_stay_and_thresholds_alone_are_fitted():
    train, check, binary, _ = fitted()
    network = PainNetwork(binary.network.channels, binary.network.texture_maps)
    network.requires_grad_(False).load_state_dict(binary.network.state_dict())
    made = fit_levels(replace(binary, network=network), train, check, NAMES, ())
    assert torch.equal(network.weight, binary.network.weight)
    assert assess(made, train, check).skill > 0.1


def test_the_members_stay_an_ensemble_and_the_columns_those_of_the_binary_heads():
    _, check, binary, made = fitted()
    logits = made.network.logits(check.features.pooled, check.features.measured)
    assert float(logits.std(0).mean()) > 0.02
    unused = (binary.network.weight == 0).all(0)
    assert unused.any()
    assert not made.network.weight[:, unused].any()
    for name, item in binary.network.named_buffers():
        assert torch.equal(made.network.get_buffer(name), item)


@given(
    logit=st.floats(-40, 40),
    gaps=st.lists(st.floats(0.01, 5), min_size=1, max_size=9),
    temperature=st.floats(0.2, 5),
)
def test_probabilities_sum_to_1_and_pain_is_all_but_the_first(logit, gaps, temperature):
    cuts = (0.0, *np.cumsum(gaps).tolist())
    levels = Levels(tuple(map(str, range(len(cuts) + 1))), cuts)
    told = levels.probabilities(logit, temperature)
    assert told.shape == (len(cuts) + 1,)
    assert told.sum() == pytest.approx(1)
    assert (told >= 0).all()
    assert 1 - told[0] == pytest.approx(expit(logit / temperature), abs=1e-9)
    more = levels.probabilities([logit, logit + 1], temperature)
    assert (more[1].cumsum() <= more[0].cumsum() + 1e-12).all(), "more evidence, no lower level"


@pytest.mark.parametrize("cuts", [(0.0, 1.0), (0.5, 1.0, 2.0), (0.0, 2.0, 1.0), (0.0, 1.0, 1.0)])
def test_thresholds_that_are_none_are_refused(cuts):
    with pytest.raises(ValueError, match="the first 0 and each above"):
        Levels(NAMES, cuts)


def test_kappa_is_that_of_the_table():
    told, true = np.array([0, 1, 2, 2, 3, 1]), np.array([0, 1, 1, 2, 3, 0])
    table = np.zeros((4, 4))
    np.add.at(table, (told, true), 1 / 6)
    weight = np.square(np.subtract.outer(range(4), range(4)))
    chance = np.outer(table.sum(1), table.sum(0))
    expected = 1 - (weight * table).sum() / (weight * chance).sum()
    assert quadratic_kappa(told, true) == pytest.approx(expected)
    assert quadratic_kappa(true, true) == 1
    assert np.isnan(quadratic_kappa(np.ones(3, int), np.ones(3, int)))
