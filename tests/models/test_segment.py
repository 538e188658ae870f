"""From the source grid to the network's and back, and the order of layers in a column."""

from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models.layer
from models.evaluation.person import find_layers
from models.layer.network import SegmentationNetwork
from models.layer.weights import load_weights
from models.phantom import PhantomRequest, synthesize
from models.steps.grid import bounding_box, grid_shape, resample, resample_labels
from models.steps.segment import SliceWise, Volume, in_order, most_probable, segment

STEP = 30  # gray levels between labels, for the network that reads labels off the gray level


def reads_gray(stack):
    """A network that knows its layers by their gray level: scores of the middle slice."""
    middle = stack[:, stack.shape[1] // 2, None]
    labels = torch.arange(7, device=stack.device).view(1, 7, 1, 1)
    return -(((middle - STEP * labels) / 8) ** 2)


def layered(shape, spacing_mm):
    """Labels 0 to 6 to 0 between slanted planes, in mm, so that every spacing shows the same body."""
    depth = (np.arange(shape[1]) + 0.5)[:, None] * spacing_mm[0]
    lateral = (np.arange(shape[2]) + 0.5)[None] * spacing_mm[1]
    surfaces = np.array([2, 4, 7, 8.5, 12, 14, 20]) + 0.0
    depth = depth - 0.08 * lateral
    image = (depth[..., None] >= surfaces).sum(-1)
    image = np.where(image == 7, 0, image)
    return np.repeat(image[None].astype(np.uint8), shape[0], 0)


@given(
    row=st.floats(0.08, 0.35), column=st.floats(0.08, 0.4), wanted=st.sampled_from([0.15, 0.2, 0.3])
)
@settings(max_examples=12, deadline=None)
def test_labels_come_back_in_place_for_any_spacing(row, column, wanted):
    shape = (3, round(24 / row), round(15 / column))
    labelmap = layered(shape, (row, column))
    volume = Volume((labelmap * STEP).astype(np.float32), np.ones(shape, bool), (row, column))
    found = segment(volume, SliceWise(reads_gray, 0, (wanted, wanted)))
    assert found.labelmap.shape == shape
    assert found.labelmap.dtype == np.uint8
    for label in range(1, 7):
        mask, truth = found.labelmap == label, labelmap == label
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        rows = np.arange(shape[1])[None, :, None]
        shift = (rows * mask).sum() / mask.sum() - (rows * truth).sum() / truth.sum()
        # A step between two grays passes through those in between: interfaces move, but to neither side.
        assert dice > 0.8, (label, dice)
        assert abs(shift) * row < max(wanted, row), (label, shift)


@given(row=st.floats(0.05, 0.4), edge=st.sampled_from([2.0, 11.0, 21.0]))
@settings(max_examples=15, deadline=None)
def test_an_edge_between_pixels_of_the_network_stays_where_it_is(row, edge):
    """Probability one half lies at a depth in mm; the labels must change there, on any source grid."""
    shape, wanted = (2, round(24 / row), 40), 0.3

    def knows_depth(stack):
        height = shape[1] * row
        depth = (torch.arange(stack.shape[2]) + 0.5) * height / stack.shape[2]
        scores = torch.full((stack.shape[0], 7, *stack.shape[2:]), -99.0)
        scores[:, 1] = 0
        scores[:, 2] = ((depth - edge) / wanted)[:, None]
        return scores

    volume = Volume(np.zeros(shape, np.float32), np.ones(shape, bool), (row, 0.2))
    labelmap = segment(volume, SliceWise(knows_depth, 0, (wanted, wanted))).labelmap
    first = (labelmap[0, :, 20] == 2).argmax() * row
    assert first == pytest.approx(edge, abs=row / 2 + 0.03)


def test_a_layer_below_its_least_dice_is_taken_for_absent_and_its_place_goes_to_the_next():
    shape = (2, 60, 20)
    volume = Volume(np.zeros(shape, np.float32), np.ones(shape, bool), (0.2, 0.2))
    row = torch.arange(60)[:, None]

    def knows(stack):
        """Layer 1, then layer 2 with a share of .6 against layer 3, then layer 3."""
        probability = torch.zeros(stack.shape[0], 7, 60, 20) + 1e-6
        probability[:, 1] += (row < 20).float()
        probability[:, 2] += 0.6 * ((row >= 20) & (row < 30))
        probability[:, 3] += torch.where(row < 30, 0.4 * (row >= 20), 1.0)
        return probability.log()

    def labels_of(*least_dice: float) -> list[int]:
        found = segment(volume, SliceWise(knows, 0, (0.2, 0.2), least_dice))
        assert all(
            (found.labelmap == label).any() != np.isnan(found.confidence[label - 1])
            for label in (1, 2, 3)
        )
        return found.labelmap[0, :, 10].tolist()

    as_believed = [1] * 20 + [2] * 10 + [3] * 30
    assert labels_of() == labels_of(0.9, 0.5, 0.9) == as_believed
    assert labels_of(0.9, 0.8, 0.8) == [1] * 20 + [3] * 40


def test_outside_the_valid_region_there_is_no_tissue():
    labelmap = layered((4, 120, 75), (0.2, 0.2))
    valid = np.zeros(labelmap.shape, bool)
    valid[1:, 5:, 20:60] = True
    gray = np.where(valid, labelmap * STEP, 255).astype(np.float32)
    found = segment(Volume(gray, valid, (0.2, 0.2)), SliceWise(reads_gray, 1, (0.2, 0.2)))
    np.testing.assert_array_equal(found.labelmap, np.where(valid, labelmap, 0))
    assert found.reordered == 0


def test_the_neighbors_of_a_slice_are_its_channels():
    gray = np.zeros((5, 32, 32), np.float32)
    gray += np.arange(5, dtype=np.float32)[:, None, None]
    seen = []

    def watch(stack):
        seen.append(stack[:, :, 0, 0])
        return torch.zeros(stack.shape[0], 7, *stack.shape[2:])

    segment(Volume(gray, np.ones(gray.shape, bool), (0.2, 0.2)), SliceWise(watch, 2, (0.2, 0.2)))
    expected = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4], [2, 3, 4, 4, 4]]
    np.testing.assert_array_equal(torch.cat(seen).numpy(), expected)


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=25, deadline=None)
def test_labels_are_the_most_probable_that_keep_the_order(seed, masked):
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand((1, 7, 5, 3), generator=generator).softmax(1)
    inside = torch.ones((1, 5, 3), dtype=torch.bool)
    if masked:
        inside = torch.rand((1, 5, 3), generator=generator) > 0.3
    labels, _ = most_probable(probability, inside)
    assert in_order(labels, inside).all()
    assert (labels[~inside] == 0).all()
    for column in range(3):
        log = probability[0, :, :, column].log()
        rows = torch.nonzero(inside[0, :, column])[:, 0]
        best = max(
            sum(float(log[state % 7, row]) for state, row in zip(states, rows, strict=True))
            for states in combinations_with_replacement(range(8), len(rows))
        )
        got = sum(float(log[int(labels[0, row, column]), row]) for row in rows)
        assert got == pytest.approx(best, abs=1e-4)


def test_columns_in_order_are_left_alone():
    labels = torch.tensor([0, 1, 1, 2, 4, 6, 0]).view(1, 1, 7, 1)
    probability = torch.zeros(1, 7, 7, 1).scatter(1, labels, 1.0)
    inside = torch.ones(1, 7, 1, dtype=torch.bool)
    found, changed = most_probable(probability, inside)
    assert changed == 0
    np.testing.assert_array_equal(found[0, :, 0], labels[0, 0, :, 0])
    odd = probability.clone()
    odd[0, :, 2] = torch.tensor([0.0, 0.4, 0, 0, 0, 0, 0.6])[:, None]  # muscle within the dermis
    repaired, changed = most_probable(odd, inside)
    assert changed == 1
    np.testing.assert_array_equal(repaired, found)


@given(st.integers(16, 90), st.integers(16, 90))
@settings(max_examples=20, deadline=None)
def test_a_ramp_keeps_its_place_on_any_grid(rows, columns):
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32)[None, :, None], (2, 60, 50)).copy()
    found = resample(ramp, (rows, columns))
    expected = (np.arange(rows) + 0.5) * 60 / rows - 0.5
    inner = (expected > 5) & (expected < 54)
    np.testing.assert_allclose(found[:, inner, 0], np.stack([expected[inner]] * 2), atol=0.02)
    sideways = resample(np.ascontiguousarray(ramp.transpose(0, 2, 1)), (columns, rows))
    np.testing.assert_allclose(sideways[:, 0], found[:, :, 0], atol=1e-3)
    labels = resample_labels((ramp > 29.5).astype(np.uint8), (rows, columns))
    sure = abs(expected - 29.5) > 1e-6  # a tie may go either way
    np.testing.assert_array_equal(labels[0, sure, 0], expected[sure] > 29.5)


def test_grid_and_box():
    assert grid_shape((100, 50), (0.1, 0.2), (0.2, 0.2)) == (50, 50)
    assert grid_shape((20, 20), (0.1, 0.1), (0.3, 0.3)) == (16, 16)
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 2, 4:6] = True
    assert bounding_box(mask) == (slice(1, 3), slice(2, 3), slice(4, 6))
    with pytest.raises(ValueError, match="empty"):
        bounding_box(np.zeros((2, 2, 2), bool))


def test_the_network_takes_any_number_of_rows_and_columns():
    torch.manual_seed(0)
    network = SegmentationNetwork(1, (8, 16, 16)).eval()
    with torch.no_grad():
        scores = network(torch.rand(2, 3, 37, 50) * 255)
    assert scores.shape == (2, 7, 37, 50)


@pytest.mark.parametrize("columns", [192, 200])
def test_layers_reach_both_sides_of_the_image(columns: int) -> None:
    """With shipped weights, where the image is as wide as the network's steps, and where it is not."""
    weights = load_weights(Path(models.layer.__file__).parent)
    phantom = synthesize(0, PhantomRequest((3, 192, columns), (0.5, 0.2, 0.2)))
    found = find_layers(phantom.scan, weights).labelmap > 0
    for side in (slice(0, 12), slice(columns - 12, columns)):
        truth = phantom.labelmap[:, :, side] > 0
        assert found[:, :, side][truth].mean() > 0.9
