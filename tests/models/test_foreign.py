"""The second simulator: repeatable, layers in order, true to its labels, and layers look different."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.evaluation.foreign import Foreign, foreign_phantom
from models.evaluation.transfer import transfer
from models.layer.sizes import measure
from models.steps.segment import in_order

SHAPE = (4, 160, 80)
SEEDS = range(4)
WEIGHTS = Path(__file__).parents[2] / "models" / "layer"


@pytest.fixture(scope="module")
def volumes() -> list[Foreign]:
    return [foreign_phantom(seed, SHAPE) for seed in SEEDS]


def test_same_seed_same_volume_other_seed_another(volumes: list[Foreign]) -> None:
    again = foreign_phantom(0, SHAPE)
    assert np.array_equal(again.scan.voxels, volumes[0].scan.voxels)
    assert np.array_equal(again.labelmap, volumes[0].labelmap)
    assert again.thickness_mm == volumes[0].thickness_mm
    assert not np.array_equal(volumes[1].labelmap, volumes[0].labelmap)


def test_gray_levels_are_whole_and_the_padding_is_black(volumes: list[Foreign]) -> None:
    for volume in volumes:
        gray = volume.scan.channel("b-mode")
        assert np.array_equal(gray, np.clip(np.round(gray), 0, 255))
        assert not gray[~volume.scan.valid].any()
        assert not volume.labelmap[~volume.scan.valid].any()
        assert volume.scan.spacing_mm == pytest.approx((0.4, 0.2, 0.25))


def test_layers_are_there_and_in_order(volumes: list[Foreign]) -> None:
    for volume in volumes:
        assert set(np.unique(volume.labelmap)) - {0} == set(range(1, 7))
        ordered = in_order(torch.tensor(volume.labelmap), torch.tensor(volume.scan.valid))
        assert ordered.all()


def test_truth_agrees_with_what_is_measured_on_its_labels(volumes: list[Foreign]) -> None:
    for volume in volumes:
        found = measure(volume.scan, volume.labelmap).mean_thickness_mm()
        for layer, true_mm in volume.thickness_mm.items():
            assert found[layer - 1] == pytest.approx(true_mm, abs=0.06 + 0.01 * true_mm)


def test_a_muscle_that_the_image_cuts_has_no_thickness(volumes: list[Foreign]) -> None:
    cut = [(v.labelmap[:, -1] == 6).mean() > 0.6 for v in volumes]
    assert any(cut)
    assert not any(6 in v.thickness_mm for v, is_cut in zip(volumes, cut, strict=True) if is_cut)


def test_layers_look_as_tissue_does(volumes: list[Foreign]) -> None:
    means = np.mean(
        [[v.scan.voxels[0][v.labelmap == n].mean() for n in range(1, 7)] for v in volumes], 0
    )
    dermis, superficial_fat, membrane, deep_fat, fascia, muscle = means
    assert min(dermis, membrane, fascia) > muscle + 20
    assert muscle > min(superficial_fat, deep_fat)


def test_the_shipped_network_carries_over_in_part() -> None:
    found = transfer(WEIGHTS, range(1))
    assert 0.7 < found["Dice, mean of layers"][0] < 1
    assert found["Dice, Muscle"][0] > 0.9
    assert found["Thickness error mm, Deep fat"][0] < 1
