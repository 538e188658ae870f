"""The statistics of cohort on planted cohorts: a driver is found, none is invented, equal means equal."""

import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest

from dicom_node.cohort import statistics
from dicom_node.cohort.command import Order, cohort
from dicom_node.cohort.comparisons import GROUPS, MUSCLE_PAIR
from dicom_node.cohort.statistics import Random, TooFew
from dicom_node.cohort.table import Tables, tabulate
from dicom_node.cohort.words import gate_of, in_short, verdict
from tests.cohort_rows import NO_MUSCLE_THICKNESS, Plan, make_cohorts, store

FEW_DRAWS = Random(seed=0, draws=100)
NO_DRAWS = Random(seed=0, draws=2)
"""Where only p values are looked at, which no bootstrap enters."""

COHORTS = 200


def tables_of(plan: Plan, margin: float = 0.05) -> Tables:
    return tabulate(make_cohorts(plan), FEW_DRAWS, margin, {})


@pytest.mark.parametrize("driver", [1, 2, 3, 4, 5, 6])
def test_a_planted_driver_is_first_and_above_every_other_layer(driver: int) -> None:
    tables = tables_of(Plan(driver=driver, pain=0.7))
    assert len(tables.rankings) == 4
    for ranking in tables.rankings:
        assert ranking.first == driver, ranking.column
        assert ranking.stands_out, ranking.column
        assert ranking.how_often > 0.95
        assert ranking.permuted
        assert ranking.permuted.p_value < 0.05
    enrichment = [c for c in tables.claims if c.column.startswith("enrichment")]
    assert [item.layers for item in enrichment] == [(driver,)]


def test_with_nothing_planted_nothing_is_claimed() -> None:
    """Family-wise over everything that is asked: layers, muscle, enrichment, untrained networks, groups.

    Measured: 23 of 600 such cohorts claim something. 200 may show a few more than 5 % by chance.
    """
    claiming = 0
    for seed in range(COHORTS):
        cohorts = make_cohorts(Plan(persons=16, scans=2, seed=seed))
        tables = tabulate(cohorts, NO_DRAWS, 0.05, {})
        assert len(tables.comparisons) > 30
        claiming += bool(tables.claims)
        assert not any(r.pairs for r in tables.rankings) or tables.claims
    assert binomtest(claiming, COHORTS, 0.05, alternative="greater").pvalue > 0.01


def test_the_group_in_which_something_was_planted_is_found_and_no_other_layer() -> None:
    tables = tables_of(Plan(persons=40, thicker=1.5))
    claimed = [(item.column, item.layers) for item in tables.claims if item.kind == GROUPS]
    assert claimed == [("thickness|T2-3D", (5,))]
    chance = next(s for s in tables.separations if s.what == "pain probability")
    assert chance.interval
    assert chance.interval.low < 0.5 < chance.interval.high


def test_the_probability_separates_groups_only_when_it_was_planted() -> None:
    separation = tables_of(Plan(persons=40, pain=1.0)).separations[0]
    assert separation.auc
    assert separation.auc > 0.9
    assert separation.interval
    assert separation.interval.low > 0.8


def test_equal_is_said_only_of_what_is_equal() -> None:
    """At the margin itself, two one-sided tests say equal in 5 % of cohorts; far inside it, always."""
    random = np.random.default_rng(1)
    said = {
        gap: np.mean(
            [statistics.equivalence(random.normal(gap, 0.03, 20), 0.05) < 0.05 for _ in range(400)]
        )
        for gap in (0.0, 0.05, -0.05, 0.1)
    }
    assert said[0.0] > 0.99
    assert 0.02 < said[0.05] < 0.08
    assert 0.02 < said[-0.05] < 0.08
    assert said[0.1] == 0.0
    # Noise is not equality: nothing differs here either, but nobody can say that it is equal.
    noisy = random.normal(0, 0.3, 8)
    noisy -= noisy.mean()
    assert statistics.signed_rank(noisy) > 0.05
    assert statistics.equivalence(noisy, 0.05) > 0.05


def test_non_muscle_and_muscle_differ_or_are_equal_as_planted() -> None:
    alike, apart = tables_of(Plan(persons=60)), tables_of(Plan(persons=60, driver=6))
    assert all(item.equal for item in alike.equalities)
    assert not any(item.equal for item in apart.equalities)
    assert len(alike.equalities) == 2
    assert not [c for c in alike.claims if c.kind == MUSCLE_PAIR]
    differences = [c for c in apart.claims if c.kind == MUSCLE_PAIR]
    assert len(differences) == 2
    assert all(c.effect and c.effect < -0.1 for c in differences)


def test_few_persons_are_refused_with_a_sentence_and_no_p() -> None:
    tables = tables_of(Plan(persons=4, scans=50, driver=5))
    assert tables.comparisons
    for item in tables.comparisons:
        assert item.p is None
        assert item.adjusted is None
        assert "at least 5 are needed" in item.note
    assert all(cell.interval is None for cell in tables.cells)
    assert all(cell.scans == 200 for cell in tables.cells)
    assert all(item.p is None and item.note for item in tables.equalities)
    assert all(item.permuted is None for item in tables.rankings)
    # A group of four is too few, however many the other has.
    with pytest.raises(TooFew, match="4 persons"):
        statistics.rank_sum(np.arange(4.0), np.arange(50.0))


def test_many_scans_of_few_persons_give_no_more_certainty() -> None:
    """The interval is that of persons: ten times the scans do not make it ten times narrower."""
    few, many = (tables_of(Plan(persons=12, scans=scans)).cells for scans in (2, 60))
    width = [
        np.mean([c.interval.high - c.interval.low for c in cells if c.interval and c.layer == 1])
        for cells in (few, many)
    ]
    assert width[1] > 0.5 * width[0]


def test_an_absent_layer_is_absent() -> None:
    tables = tables_of(Plan(absent=frozenset({3})))
    assert {cell.layer for cell in tables.cells if cell.layer} == {1, 2, 4, 5, 6}
    layers = [c for c in tables.comparisons if c.kind == "layers differ"]
    assert layers
    assert not any(item.note for item in layers)  # the other five are compared without it


def test_holm_on_a_worked_example() -> None:
    """By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not be below the one before it."""
    found = statistics.holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(arrays(float, st.integers(1, 6), elements=st.floats(0, 1)))
def test_holm_is_the_definition_whatever_the_order(p_values: np.ndarray) -> None:
    adjusted = statistics.holm(p_values)
    count = len(p_values)
    for index in range(count):
        below = [
            (p_values[k], (count - np.sum(p_values < p_values[k])) * p_values[k])
            for k in range(count)
        ]
        worst = max(value for p, value in below if p <= p_values[index])
        assert adjusted[index] == pytest.approx(min(1.0, worst))
    for order in list(permutations(range(count)))[:10]:
        moved = statistics.holm(p_values[list(order)])
        assert moved == pytest.approx(adjusted[list(order)])


@given(st.permutations(range(6)), st.integers(0, 100))
def test_renaming_layers_renames_the_result(order: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(0, 1, (9, 6))
    assert statistics.friedman(values)[1] == pytest.approx(statistics.friedman(values[:, order])[1])


@given(st.floats(0.1, 10), st.integers(0, 100))
def test_an_interval_scales_with_its_numbers(factor: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(1, 1, 12)
    one = statistics.mean_interval(values, FEW_DRAWS, "x")
    other = statistics.mean_interval(values * factor, FEW_DRAWS, "x")
    assert (other.low, other.high) == pytest.approx((one.low * factor, one.high * factor))
    assert one.low <= values.mean() <= one.high


def test_the_bootstrap_interval_covers_the_truth() -> None:
    """About 95 %; percentiles of 25 persons are known to be a little narrow."""
    random = np.random.default_rng(3)
    inside = []
    for seed in range(400):
        found = statistics.mean_interval(random.normal(2, 1, 25), Random(seed, 300), "coverage")
        inside.append(found.low <= 2 <= found.high)
    assert 0.90 <= np.mean(inside) <= 0.97


def test_a_flat_map_has_no_contrast_to_claim() -> None:
    flat = np.full((10, 6), 0.31)
    assert statistics.friedman(flat)[1] == 1.0
    assert statistics.signed_rank(flat[:, 0] - flat[:, 1]) == 1.0
    assert statistics.permute_layers(flat, FEW_DRAWS, "flat").p_value == 1.0
    assert statistics.equivalence(flat[:, 0] - flat[:, 1], 0.05) == 0.0


def test_layers_that_cannot_have_a_number_are_not_waited_for() -> None:
    """The muscle has no part from thickness: the other five are compared, of everybody."""
    cohorts = make_cohorts(Plan(persons=16, driver=5, missing=NO_MUSCLE_THICKNESS))
    tables = tabulate(cohorts, Random(draws=200), 0.05, {})
    (part,) = [item for item in tables.rankings if item.column == "magnitude|SHAPLEY-THICK"]
    gate = gate_of(part, tables)
    assert (gate.persons, gate.what) == (16, "the 5 layers that have one")
    assert part.layers == (1, 2, 3, 4, 5)
    assert (part.first, part.above) == (5, (1, 2, 3, 4))
    assert part.stands_out
    assert "each of the other 4 layers" in verdict(part, gate)
    assert len(tables.cells_of("B-mode", part.column)) == 5


def test_non_muscle_against_muscle_is_read_first_and_totals_before_parts() -> None:
    tables = tabulate(make_cohorts(Plan(persons=8)), Random(draws=50), 0.05, {})
    heads = [head for head, _, _ in in_short(tables, "B-mode")]
    assert "non-muscle" in heads[0]
    assert not any("SHAPLEY-THICK" in head or "SHAPLEY-LOOK" in head for head in heads)
    assert (tables.cells[0].column, tables.cells[0].layer) == ("non-muscle saliency|CAM", 0)
    assert tables.cohorts[0].of("contribution") == [
        f"contribution|{method}" for method in ("SHAPLEY-TOTAL", "SHAPLEY-LOOK", "SHAPLEY-THICK")
    ]


def test_one_person_is_not_called_persons(tmp_path: Path) -> None:
    subjects = store(Plan(persons=1), tmp_path)
    assert cohort([], Order(tmp_path, subjects, random=Random(draws=20))) == 0
    page = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    assert "1 person" in page
    assert not re.search(r"\b1 persons|\b0 persons", page)
