"""Calibration: what a calibrated classifier shows, what a wrong one shows, and who counts as one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from models.evaluation.calibration import (
    Said,
    if_people_are_whole,
    once,
    own_table,
    recalibrate,
    recalibration,
)
from models.evaluation.metrics import calibration_error_if_calibrated, expected_calibration_error

PEOPLE = 360


def told(people=PEOPLE, slope=1.0, intercept=0.0, seed=0):
    """Probabilities whose true logit is intercept + slope times the told one, and labels drawn from it."""
    generator = np.random.default_rng(seed)
    score = generator.normal(0, 1.2, people)
    pain = generator.random(people) < expit(intercept + slope * score)
    return once("B-mode", expit(score), pain)


def test_a_calibrated_classifier_lies_inside_what_it_would_show():
    inside = 0
    for seed in range(40):
        said = told(seed=seed)
        middle, low, high = calibration_error_if_calibrated(said.probability)
        assert 0.03 < middle < 0.07  # of 360 people in ten bins, far above zero
        inside += low <= expected_calibration_error(said.probability, said.pain) <= high
    assert 34 <= inside <= 40


def test_one_that_is_too_sure_lies_outside_and_its_slope_says_so():
    said = told(20_000, slope=0.5, intercept=0.3)
    error = expected_calibration_error(said.probability, said.pain)
    assert error > calibration_error_if_calibrated(said.probability)[2]
    assert error > if_people_are_whole(said)[2]
    slope, intercept = recalibration(told(2000, slope=0.5, intercept=0.3))
    assert slope[1] < 0.5 < slope[2] < 1
    assert 0 < intercept[1] < 0.3 < intercept[2]


def test_bins_weigh_by_how_many_they_hold():
    # .05 told to four of whom one has pain (gap .2), .95 told to one without (gap .95).
    probability, pain = [0.05] * 4 + [0.95], [1, 0, 0, 0, 0]
    assert expected_calibration_error(probability, pain) == pytest.approx((4 * 0.2 + 0.95) / 5)


def test_people_who_are_asked_often_are_not_many_people():
    plain = told()
    often = Said(
        "B-mode",
        np.tile(plain.probability, 9),
        np.tile(plain.pain, 9),
        np.tile(plain.person, 9),
    )
    assert if_people_are_whole(often) == pytest.approx(if_people_are_whole(plain))
    assert (
        calibration_error_if_calibrated(often.probability)[0] < 0.5 * if_people_are_whole(often)[0]
    )
    np.testing.assert_allclose(recalibration(often), recalibration(plain), atol=1e-5)


def test_both_answers_agree_where_nobody_is_asked_twice():
    said = told(3000)
    alone = calibration_error_if_calibrated(said.probability)
    assert if_people_are_whole(said) == pytest.approx(alone, rel=0.15)


@given(st.floats(0.3, 3), st.floats(-1, 1), st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_recalibrating_twice_changes_nothing_more(slope, intercept, seed):
    said = told(slope=slope, intercept=intercept, seed=seed)
    score, ones = logit(said.probability), np.ones(PEOPLE)
    found = recalibrate(score, said.pain, ones)
    again = recalibrate(found[1] + found[0] * score, said.pain, ones)
    assert again == pytest.approx((1, 0), abs=1e-6)
    twice = recalibrate(np.tile(score, 2), np.tile(said.pain, 2), np.ones(2 * PEOPLE))
    assert twice == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("pain", [[True] * 4, [False, False, True, True]])
def test_where_there_is_no_line_there_is_no_number(pain):
    said = once("B-mode", np.array([0.1, 0.2, 0.8, 0.9]), np.array(pain))
    (row,) = own_table([said]).describe()["rows"]
    assert row["Predictions"] == 4
    assert row["Slope"] is None
    assert row["Intercept"] is None
    assert row["Slope 95 %"] == row["Intercept 95 %"] == "-"
