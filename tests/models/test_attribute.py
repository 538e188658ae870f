"""Contributions where the right answer is known: games, and a network that is linear by design."""

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.steps.attribute import explain
from models.steps.attribute.borders import growth, moved_borders
from models.steps.attribute.game import (
    MOST_GAP,
    ablation,
    additive_terms,
    coalitions,
    contributions,
    owen,
    shapley,
)
from tests.models.linear_network import (
    BANDS,
    LinearNetwork,
    game_of,
    labelmap_of,
    make_case,
    pain_network,
    question,
)


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


@pytest.mark.parametrize("seed", range(3))
def test_captum_finds_the_same_shapley_values(seed):
    worth, bits = np.random.default_rng(seed).normal(size=32), 2 ** torch.arange(5)

    def game(switches):
        return torch.from_numpy(worth)[(switches > 0.5).long() @ bits]

    theirs = ShapleyValues(game).attribute(
        torch.ones(1, 5, dtype=torch.float64), perturbations_per_eval=8
    )
    np.testing.assert_allclose(shapley(worth), theirs[0], atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_two_levels_add_up_and_a_layer_has_the_value_of_its_own_game(seed):
    """For any game of three layers with two parts each, whatever interacts."""
    table = np.random.default_rng(seed).normal(size=(1, 64))
    bits = 2 ** np.arange(6)

    def worth(playing):
        return table[:, playing.reshape(-1, 6) @ bits]

    found, everybody, nobody = owen(worth, 3, 2)
    assert found.sum() == pytest.approx(float((everybody - nobody)[0]), abs=1e-9)
    assert (everybody[0], nobody[0]) == (table[0, -1], table[0, 0])
    whole = worth(np.repeat(coalitions(3)[:, :, None], 2, axis=2))
    np.testing.assert_allclose(found.sum(2), shapley(whole), atol=1e-9)


def joint_game(game):
    """Shapley values of all 17 parts over 2^17 coalitions, (member, part)."""
    parts = [(layer, part) for layer in range(6) for part in range(3) if (layer, part) != (5, 1)]
    playing = np.zeros((2**17, 6, 3), bool)
    for number, (layer, part) in enumerate(parts):
        playing[:, layer, part] = coalitions(17)[:, number]
    worth = np.concatenate([game.logits(piece) for piece in np.array_split(playing, 8)], axis=1)
    result = np.zeros((len(worth), 6, 3))
    result[:, [p[0] for p in parts], [p[1] for p in parts]] = shapley(worth)
    return result


PAIRS = {
    ((4, 0), (5, 2)): 0.02,  # two layers, two kinds
    ((3, 0), (3, 2)): -0.01,  # two parts of one layer
    ((1, 1), (4, 1)): 0.5,
    ((4, 0), (1, 1)): 0.03,
}


def test_two_levels_are_the_joint_game_of_17_parts_where_pairs_interact():
    network, case = LinearNetwork(members=2), make_case()
    network.pairs = PAIRS
    game = game_of(network, case)
    found = contributions(game)
    np.testing.assert_allclose(found.values, joint_game(game), atol=1e-5)
    assert found.change == pytest.approx(found.totals.sum(), abs=1e-6)


def test_an_additive_network_gets_its_terms_by_every_method():
    network, case = LinearNetwork(), make_case()
    game = game_of(network, case)
    pooled = network.pool(case.image, case.labels)
    expected = network.differences(pooled, case.measured)[0] * network.weight
    found = contributions(game)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert found.logit - found.reference_logit == pytest.approx(expected.sum((1, 2)), abs=1e-5)
    np.testing.assert_allclose(additive_terms(game), found.totals, atol=1e-5)
    np.testing.assert_allclose(ablation(game), found.totals, atol=1e-5)
    # The 64 coalitions of appearance alone, and the 32 of the thickness of five layers.
    for part, players in ((0, 6), (1, 5), (2, 6)):
        playing = np.ones((2**players, 6, 3), bool)
        playing[:, :players, part] = coalitions(players)
        alone = shapley(game.logits(playing))
        np.testing.assert_allclose(alone, found.values[:, :players, part], atol=1e-5)


def test_an_interaction_is_split_equally_and_what_is_at_its_reference_gets_nothing():
    network, case = LinearNetwork(), make_case()
    case.image[:, 1][case.labels == 2] = network.reference_speed[1]
    case.measured[0, 2] = network.reference_thickness_mm[2]
    plain = contributions(game_of(network, case)).parts
    assert abs(plain[1, 2]) < 1e-5
    assert plain[2, 1] == 0
    assert plain[5, 1] == 0
    network.pairs = {((4, 0), (3, 1)): 0.2}
    pooled = network.pool(case.image, case.labels)
    difference = network.differences(pooled, case.measured)[0]
    shared = contributions(game_of(network, case)).parts - plain
    half = 0.1 * float(difference[4, 0] * difference[3, 1])
    assert abs(half) > 0.1
    assert shared[4, 0] == pytest.approx(half, abs=1e-5)
    assert shared[3, 1] == pytest.approx(half, abs=1e-5)
    shared[4, 0] = shared[3, 1] = 0
    assert abs(shared).max() < 1e-5


def test_layers_that_are_not_there_contribute_nothing_and_have_no_saliency():
    network, case = LinearNetwork(), make_case(layers=(1, 2, 4, 6))
    found = explain(question(network, case))
    np.testing.assert_array_equal(found.contributions.parts[[2, 4]], 0)
    assert abs(found.contributions.totals[[0, 1, 3, 5]]).min() > 0
    assert np.isnan(found.maps.summary.mean[[2, 4]]).all()
    assert "columns" not in " ".join(found.verdict.reasons)


def test_contributions_that_do_not_add_up_are_an_error():
    network, case = LinearNetwork(), make_case()
    network.bias[0] = float("nan")
    with pytest.raises(ArithmeticError, match="miss the change"):
        contributions(game_of(network, case))
    assert MOST_GAP <= 1e-6


def test_the_members_of_the_ensemble_and_moved_borders_make_the_interval():
    network, case = LinearNetwork(), make_case()
    found = explain(question(network, case))
    assert (found.spread.lower <= found.contributions.totals).all()
    assert (found.contributions.totals <= found.spread.upper).all()
    assert found.spread.first.sum() == pytest.approx(1)
    one = LinearNetwork()
    one.weight[:] = one.weight.mean(0)
    alone = explain(question(one, case)).spread
    assert (alone.upper - alone.lower > 1e-4).all()  # borders alone
    wide = found.spread.upper - found.spread.lower
    assert wide.mean() > (alone.upper - alone.lower).mean()


def test_moved_borders_keep_a_partition_and_move_one_border_of_a_layer_at_a_time():
    labels = labelmap_of(make_case())
    states = list(moved_borders(labels))
    assert len(states) == 4
    for state in states:
        np.testing.assert_array_equal(state > 0, labels > 0)
        assert (np.diff(state.astype(int), axis=1)[:, 2:27] >= 0).all()  # still in order
    factors = np.stack([growth(labels, state, 6) for state in states])
    rows = np.array([bottom - top for top, bottom in BANDS])
    added = (factors - 1) * rows
    #  below 1, 3, 5: down, up; below 2, 4: down, up
    expected = [
        [1, -1, 1, -1, 1, -1],
        [-1, 1, -1, 1, -1, 1],
        [0, 1, -1, 1, -1, 0],
        [0, -1, 1, -1, 1, 0],
    ]
    np.testing.assert_allclose(added, expected, atol=1e-9)


def test_moved_borders_pass_over_layers_that_are_not_there():
    labels = labelmap_of(make_case(layers=(1, 2, 4, 6)))
    labels[labels == 4] = 0
    labels[:, 11:14] = 4
    factors = np.stack([growth(labels, state, 6) for state in moved_borders(labels)])
    assert np.isnan(factors[:, [2, 4]]).all()
    np.testing.assert_allclose(factors[:, 1] - 1, (-1 / 5, 1 / 5, 1 / 5, -1 / 5))
    np.testing.assert_allclose(factors[:, 3] - 1, (0, 0, -1 / 3, 1 / 3))
    np.testing.assert_allclose(factors[:, 5], 1)


@pytest.mark.parametrize("across", [0.0, 1.0, float("nan")])
def test_at_its_reference_the_pain_network_has_no_terms_whatever_the_probe(across):
    network, case = pain_network(0), make_case(layers=(1, 2, 4, 5, 6))
    case.measured[0, 6] = across
    game = game_of(network, case)
    at_reference = network.terms(game.reference[None], game.measured_reference[None])
    assert abs(at_reference).max() < 1e-5
    found = contributions(game)
    assert abs(found.parts).max() > 0.05
    assert found.totals.sum() == pytest.approx(found.change, abs=1e-6)
    np.testing.assert_array_equal(found.totals[2], 0)


def test_pairs_of_the_pain_network_are_shared_as_in_the_joint_game():
    game = game_of(pain_network(1), make_case(slices=3))
    found = contributions(game).values
    assert abs(found.mean(0).sum(1) - additive_terms(game)).max() > 1e-3  # pairs matter
    np.testing.assert_allclose(found, joint_game(game), atol=2e-4)
