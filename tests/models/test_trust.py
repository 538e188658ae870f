"""Whether a ranking of the layers may be told: verdicts, intervals, and networks that learned nothing."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from models.layer.reasons import untrained
from models.steps.attribute import Question, explain
from models.steps.attribute.trust import (
    Grounds,
    judge,
    rank_correlation,
    spread,
    stands_apart,
)
from tests.models.linear_network import (
    LinearNetwork,
    labelmap_of,
    make_case,
    pain_network,
    question,
)

GOOD = Grounds(
    coverage=1.0,
    outside=0.0,
    untrained=0.2,
    agreement=0.95,
    same_sign=True,
    gap=1e-7,
    change=1.3,
    apart=True,
)
BAD = {
    "coverage": 0.7,
    "outside": 0.3,
    "untrained": 0.6,
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
    for name in ("coverage", "untrained", "agreement", "gap", "change"):
        assert len(judge(replace(GOOD, **{name: unknown})).reasons) == 1
    assert judge(replace(GOOD, outside=None)).reasons == ("the saliency map has no contrast",)


def test_rank_correlation_is_spearmans():
    one = np.array([0.1, 5.0, 3.0, 2.0])
    assert rank_correlation(one, one**3) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert np.isnan(rank_correlation(one, np.ones(4)))
    assert np.isnan(rank_correlation(one, np.array([1, 2, np.nan, np.nan])))


def test_a_layer_that_is_not_ahead_in_most_heads_does_not_stand_apart():
    totals = np.array([0.2, -2.0, 1.0])
    calm = totals + 0.01 * np.random.default_rng(0).normal(size=(3, 5, 3))
    assert stands_apart(calm, totals)
    loud = totals + np.random.default_rng(0).normal(size=(3, 5, 3))
    assert not stands_apart(loud, totals)
    one_border = calm.copy()
    one_border[1, :, 1] *= 0.4
    assert not stands_apart(one_border, totals)
    assert not stands_apart(calm[:, :1], totals)
    _spread_of(calm.reshape(15, 3), loud.reshape(15, 3))


def test_layers_that_rise_and_fall_together_are_compared_within_an_alternative():
    """Heads that differ in how sure they are: intervals overlap, and the first is ahead in every one."""
    totals = np.array([0.5, -1.3, 1.0])
    together = np.array([0.5, 0.8, 1.0, 1.2, 1.5])[None, :, None] * totals
    lower, upper = np.percentile(abs(together[0]), (2.5, 97.5), axis=0)
    assert lower[1] < upper[2]
    assert stands_apart(together, totals)


def test_heads_of_noise_name_a_layer_in_few_scans():
    """Members of an ensemble scatter around weights that are noise as well, and as wide."""
    random = np.random.default_rng(0)
    named = []
    for _ in range(400):
        center = random.normal(size=6)
        members = center + random.normal(size=(1, 5, 6))
        named.append(stands_apart(members, members.mean((0, 1))))
    assert np.mean(named) < 0.05


def _spread_of(calm, loud):
    found = spread(calm)
    np.testing.assert_array_equal(found.first, (0, 1, 0))
    np.testing.assert_array_equal(found.same_sign, 1)
    assert (spread(loud).same_sign < 1).any()


def test_a_clear_driver_is_ranked_first_and_deleting_it_undoes_the_decision():
    network, case = LinearNetwork(), make_case()
    network.weight[:] *= 0.02
    network.weight[:, 4, 0] = 0.1
    case.image[:, 0][case.labels == 5] += 20
    found = explain(question(network, case))
    assert found.contributions.totals.argmax() == 4
    assert found.methods.deletion == pytest.approx(-found.contributions.totals[4], abs=1e-5)
    assert found.spread.first[4] == 1
    assert found.methods.agreement == pytest.approx(1)
    assert found.verdict.reasons == ()
    case.image[:, 0][case.labels == 5] += 60  # so odd that any network puts it first
    (reason,) = explain(question(network, case)).verdict.reasons
    assert "untrained networks put the same layer first" in reason


def test_untrained_networks_are_mostly_not_ranked_and_agree_with_nobody():
    """A network that has learned nothing is one of those that it is compared with."""
    like, ranked = [], []
    for seed in range(8):
        found = explain(question(LinearNetwork(seed), make_case(seed)))
        like.append((found.null.like_contributions, found.null.like_saliency))
        ranked.append(found.verdict.ranked)
    assert abs(np.mean(like)) < 0.5
    assert np.mean(ranked) <= 0.25


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
