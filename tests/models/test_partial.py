"""Partial annotation: masks between annotated slices, and the experiment in miniature."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.training.between import Generator, interpolate, pair_of, signed_distances
from models.training.partial import (
    WAYS,
    PartialPlan,
    Sweep,
    interpolated,
    labeled,
    people,
    write_partial,
)

SPACING_MM = (0.3, 0.4)
MINIATURE = PartialPlan(
    seeds=(1, 2),
    every=(2, 3),
    train_people=2,
    test_people=2,
    split="validation",
    shape=(7, 128, 64),
    channels=(8, 16),
    steps=5,
    batch=2,
    generator_steps=3,
)


def wedge(slices: int) -> np.ndarray:
    """Three layers whose borders sink evenly from slice to slice."""
    rows = np.indices((slices, 60, 8))[1]
    sink = np.arange(slices)[:, None, None]
    return np.digitize(rows - sink, [10, 25, 40]).astype(np.uint8)


@pytest.mark.parametrize("every", [2, 4, 8])
def test_what_changes_evenly_is_interpolated_without_fault(every: int) -> None:
    truth = wedge(17)
    found = interpolate(np.where(np.arange(17)[:, None, None] % every, 0, truth).astype(np.uint8),
                        range(0, 17, every), SPACING_MM)  # fmt: skip
    assert (found != truth).mean() < 0.01


labelmaps = arrays.arrays(np.uint8, (3, 6, 5), elements=st.integers(0, 6))


@settings(max_examples=40)
@given(labels=labelmaps, other=labelmaps)
def test_annotated_slices_stay_and_others_are_never_read(
    labels: np.ndarray, other: np.ndarray
) -> None:
    found = interpolate(labels, (0, 2), SPACING_MM)
    np.testing.assert_array_equal(found[[0, 2]], labels[[0, 2]])
    changed = labels.copy()
    changed[1] = other[1]
    np.testing.assert_array_equal(interpolate(changed, (0, 2), SPACING_MM), found)
    mirrored = interpolate(labels[:, ::-1, ::-1], (0, 2), SPACING_MM)[:, ::-1, ::-1]
    ties = np.sort(sum(signed_distances(labels[at], SPACING_MM) for at in (0, 2)), axis=0)
    clear = ties[-1] - ties[-2] > 1e-5
    np.testing.assert_array_equal(mirrored[1][clear], found[1][clear])


def test_distances_are_in_millimeters_and_positive_inside() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[3:6] = 4
    distances = signed_distances(labels, SPACING_MM)
    np.testing.assert_allclose(distances[4, 4], 2 * 0.3, rtol=1e-6)
    np.testing.assert_allclose(distances[4, 0], -3 * 0.3, rtol=1e-6)
    assert (distances[1] < -3).all(), "a class that is not there is far away"


def test_the_generator_does_not_care_which_neighbor_is_first() -> None:
    torch.manual_seed(0)
    generator = Generator(4).eval()
    gray = np.arange(2 * 60 * 8).reshape(2, 60, 8).astype(np.uint8)
    pairs = pair_of(gray, wedge(2))
    one, other = pairs[:1], pairs[1:]
    for here, there in zip(generator(one, other), generator(other, one), strict=True):
        torch.testing.assert_close(here, there)


def test_no_way_learns_from_masks_that_nobody_drew() -> None:
    sweeps = people("validation", 7, 2, MINIATURE)
    hidden = [
        Sweep(item.gray, np.where(np.arange(7)[:, None, None] % 3, 6, item.labels).astype(np.uint8))
        for item in sweeps
    ]
    for way in WAYS.values():
        pools = []
        for some in (sweeps, hidden):
            torch.manual_seed(0)
            pools.append(way(some, 3, MINIATURE))
        np.testing.assert_array_equal(pools[0].labels, pools[1].labels)
    assert len(labeled(sweeps, 3, MINIATURE).gray) == 6
    assert len(interpolated(sweeps, 3, MINIATURE).gray) == 14


def test_the_experiment_writes_its_table(tmp_path: Path) -> None:
    markdown = write_partial(tmp_path, MINIATURE)
    assert (tmp_path / "partial.md").read_text(encoding="utf-8") == markdown
    written = json.loads((tmp_path / "partial.json").read_text(encoding="utf-8"))
    assert written["plan"]["split"] == "validation"
    assert set(written["dice"]) == {"1/1", "1/2", "1/3"}
    assert set(written["dice"]["1/3"]) == {"labeled", "generated", "interpolated"}
    found = written["dice"]["1/2"]["interpolated"]
    assert np.shape(found["unseen"]) == np.shape(found["made"]) == (2, 6)
    assert np.mean(found["made"]) > 0.9, "0.8 mm from an annotated slice on either side"
    assert "Simulation only" in markdown
    assert "| 1/3 | interpolated |" in markdown
    assert (tmp_path / "partial.png").read_bytes().startswith(b"\x89PNG")
