"""Attribution where the right answer is known: games, maps, and a network that is linear by design."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.layer.pain import PainNetwork
from models.layer.reasons import untrained
from models.steps.attribute import Question, explain
from models.steps.attribute.borders import growth, moved_borders
from models.steps.attribute.game import (
    MOST_GAP,
    ablation,
    additive_terms,
    coalitions,
    contributions,
    open_game,
    owen,
    shapley,
)
from models.steps.attribute.saliency import gradient_map, layer_saliency, normalize
from models.steps.attribute.trust import (
    Grounds,
    judge,
    rank_correlation,
    spread,
    stands_apart,
)
from tests.models.linear_network import BANDS, BOTH, LinearNetwork, labelmap_of, make_case


def game_of(network, case):
    return open_game(network, network.pool(case.image, case.labels), case.measured)


def question(network, case):
    logit = float(network(case.image, case.labels, case.measured)[0])
    return Question(network, case, labelmap_of(case), logit, lambda seed: LinearNetwork(seed + 100))


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


GOOD = Grounds(
    coverage=1.0,
    outside=0.0,
    like_untrained=(0.1, 0.0),
    agreement=0.95,
    same_sign=True,
    gap=1e-7,
    change=1.3,
    apart=True,
)
BAD = {
    "coverage": 0.7,
    "outside": 0.3,
    "like_untrained": (0.8, 0.0),
    "agreement": 0.5,
    "same_sign": False,
    "gap": 0.1,
    "change": -0.1,
    "apart": False,
}


def test_layers_are_ranked_where_nothing_speaks_against_it():
    assert judge(GOOD).ranked
    assert judge(replace(GOOD, change=-1.0)).ranked


@pytest.mark.parametrize("name", BAD)
def test_each_reason_alone_forbids_a_ranking(name):
    assert {field.name for field in fields(Grounds)} == set(BAD)
    found = judge(replace(GOOD, **{name: BAD[name]}))
    assert not found.ranked
    assert len(found.reasons) == 1


def test_what_is_not_known_forbids_a_ranking_too():
    unknown = float("nan")
    for name in ("coverage", "agreement", "gap", "change"):
        assert len(judge(replace(GOOD, **{name: unknown})).reasons) == 1
    assert judge(replace(GOOD, outside=None)).reasons == ("the saliency map has no contrast",)
    for pair in ((unknown, 0.0), (0.0, 0.8)):
        assert len(judge(replace(GOOD, like_untrained=pair)).reasons) == 1


def test_rank_correlation_is_spearmans():
    one = np.array([0.1, 5.0, 3.0, 2.0])
    assert rank_correlation(one, one**3) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert np.isnan(rank_correlation(one, np.ones(4)))
    assert np.isnan(rank_correlation(one, np.array([1, 2, np.nan, np.nan])))


def test_intervals_that_overlap_do_not_stand_apart():
    totals = np.array([0.2, -2.0, 1.0])
    calm = totals + 0.01 * np.random.default_rng(0).normal(size=(15, 3))
    assert stands_apart(calm, totals)
    loud = totals + np.random.default_rng(0).normal(size=(15, 3))
    assert not stands_apart(loud, totals)
    found = spread(calm)
    np.testing.assert_array_equal(found.first, (0, 1, 0))
    np.testing.assert_array_equal(found.same_sign, 1)
    assert (spread(loud).same_sign < 1).any()


def test_a_clear_driver_is_ranked_first_and_deleting_it_undoes_the_decision():
    network, case = LinearNetwork(), make_case()
    network.weight[:] *= 0.02
    network.weight[:, 4, 0] = 0.1
    case.image[:, 0][case.labels == 5] += 30
    found = explain(question(network, case))
    assert found.contributions.totals.argmax() == 4
    assert found.methods.deletion == pytest.approx(-found.contributions.totals[4], abs=1e-5)
    assert found.spread.first[4] == 1
    assert found.methods.agreement == pytest.approx(1)
    assert found.verdict.reasons == ()


def test_untrained_networks_are_mostly_not_ranked_and_agree_with_nobody():
    """A network that has learned nothing is one of those that it is compared with."""
    like, ranked = [], []
    for seed in range(8):
        found = explain(question(LinearNetwork(seed), make_case(seed)))
        like.append((found.null.like_contributions, found.null.like_saliency))
        ranked.append(found.verdict.ranked)
    assert np.max(like) < 0.7
    assert abs(np.mean(like)) < 0.5
    assert np.mean(ranked) <= 0.25


def pain_network(seed):
    """As before training, with a reference that is near the case and differs by direction of the probe."""
    torch.manual_seed(seed)
    network = PainNetwork(BOTH, 4)
    network.reference_across.normal_(0, 0.5)
    network.weight.data[:, network.parts["pairs"]].normal_(0, 0.02)
    return network.eval().requires_grad_(False)


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


def test_an_untrained_pain_network_is_not_ranked_more_often_than_by_chance():
    ranked = []
    for seed in range(6):
        network, case = pain_network(seed), make_case(seed, slices=4)
        logit = float(network(case.image, case.labels, case.measured)[0])
        asked = Question(
            network, case, labelmap_of(case), logit, lambda s, n=network: untrained(n, s)
        )
        found = explain(asked)
        ranked.append(found.verdict.ranked)
        assert abs(found.null.like_contributions) < 0.9
    assert sum(ranked) <= 1


def test_untrained_networks_keep_the_features_and_repeat():
    network = pain_network(0)
    first, second = untrained(network, 1), untrained(network, 1)
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, network.weight)
    assert torch.equal(first.texture[0].weight, network.texture[0].weight)
    assert torch.equal(first.reference_across, network.reference_across)
