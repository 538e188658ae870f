"""The regression that networks are compared with: where its gaps are filled from, and what it reads back."""

from pathlib import Path

import numpy as np
import pytest

from models.evaluation import baseline
from models.evaluation.person import Person

PEOPLE = 200


def people(absent_every=7, seed=0):
    """Numbers of people with six layers; the third layer, and one speed, are missing in every seventh."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(PEOPLE):
        pooled = generator.normal(100, 20, (6, 5)).astype(np.float32)
        pooled[:, 0], pooled[:, 3] = 1, generator.uniform(1, 4, 6)
        measured = generator.uniform(1, 5, 7).astype(np.float32)
        if number % absent_every == 0:
            pooled[2] = (0, 150, 25, 2, 0)  # reference values stand where a layer is absent
            pooled[4, 3] = measured[2] = np.nan
        nothing = np.full(6, np.nan, np.float32)
        pain = bool(generator.random() < 0.5)
        found.append(Person(pooled, measured, nothing, nothing, {}, pain, 0.0))
    return found


def fitted(group):
    pain = np.array([person.pain for person in group])
    return baseline.fit_logistic(baseline.plain_features(group, True), pain, 0.1)


def test_what_is_not_known_is_not_a_number():
    features = baseline.plain_features(people(), True)
    assert features.shape == (PEOPLE, 5 + 6 + 6 + 6)
    gaps = np.flatnonzero(np.isnan(features[0]))
    assert gaps.tolist() == [2, 5 + 2, 5 + 6 + 2, 5 + 12 + 2, 5 + 12 + 4]
    assert np.isfinite(features[1]).all()
    assert np.isfinite(baseline.plain_features(people()[1:2], False)).all()


def test_gaps_are_filled_from_the_people_it_was_fitted_on():
    group = people()
    fit = fitted(group)
    features = baseline.plain_features(group, True)
    known = np.nanmean(features, axis=0)
    np.testing.assert_allclose(fit.mean, known)
    one = features[:1]
    assert np.isnan(one).any()
    filled = np.where(np.isnan(one), known, one)
    assert fit.logits(one) == pytest.approx(fit.logits(filled))
    # Nobody else who is tested beside a person says anything of that person.
    beside = np.concatenate([one, features[1:] + 3])
    assert fit.logits(beside)[0] == pytest.approx(fit.logits(one)[0])


def test_a_gap_in_everybody_says_nothing():
    group = people(absent_every=1)
    fit = fitted(group)
    logits = fit.logits(baseline.plain_features(people(), True))
    assert np.isfinite(logits).all()
    assert fit.weight[2] == 0


def test_what_is_stored_fills_the_same_gaps(tmp_path: Path):
    fit, features = fitted(people()), baseline.plain_features(people(seed=1), True)
    baseline.save(tmp_path, fit, fit)
    read = baseline.load(tmp_path)["pain_bswe"]
    np.testing.assert_array_equal(read.logits(features), fit.logits(features))


def test_a_folder_without_one_has_none(tmp_path: Path):
    assert baseline.load(tmp_path) == {}
