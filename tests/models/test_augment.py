"""Training samples: gray levels and shares of the layers change together, and stay what they are."""

import numpy as np
import pytest
import torch

from models.training.augment import Draw, batch_of
from models.training.data import Sweep
from models.training.descent import Descent

CROP = (96, 40)


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """Layers 1 to 6 as flat bands, each of one gray level of its own."""
    band = np.repeat(np.arange(1, 7), 20)
    labels = np.broadcast_to(np.repeat(band, 2)[None, :, None], (5, 240, 60)).astype(np.uint8)
    gray = np.broadcast_to(band[None, :, None] * 30, (5, 120, 60)).astype(np.uint8)
    return Sweep(gray, labels)


@pytest.fixture(scope="module")
def batch(sweep: Sweep) -> tuple[torch.Tensor, torch.Tensor]:
    return batch_of([sweep], 64, CROP, 2, Draw(3))


def test_a_sample_is_five_slices_of_gray_levels_and_the_shares_of_seven_classes(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    image, share = batch
    assert image.shape == (64, 5, *CROP)
    assert share.shape == (64, 7, *CROP)
    assert image.min() >= 0
    assert image.max() <= 255
    assert share.min() >= -1e-5
    torch.testing.assert_close(share.sum(1), torch.ones(64, *CROP), atol=1e-4, rtol=0)


def test_some_samples_wave_and_no_border_crosses_another(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Flat bands are flat in most samples; where they wave, layers still follow each other downward."""
    label = batch[1].argmax(1)
    inside = (label > 0).all(2).all(1)
    border = (label >= 3).int().argmax(1).float()
    waved = (border.amax(1) - border.amin(1) > 3)[inside]
    assert 0.1 < waved.float().mean() < 0.6
    assert bool((label[inside].diff(dim=1) >= 0).all())


def test_gray_levels_follow_the_labels_where_both_wave(sweep: Sweep) -> None:
    """Over the pixels of any sample, the share of a layer explains most of what is seen."""
    image, share = batch_of([sweep], 64, CROP, 2, Draw(4))
    explained = []
    for seen, parts in zip(image[:, 2].flatten(1), share.flatten(2), strict=True):
        fit = torch.linalg.lstsq(parts.T, seen[:, None], driver="gelsd").solution
        rest = seen - (parts.T @ fit)[:, 0]
        explained.append(1 - float(rest.var() / seen.var().clamp(min=1.0)))
    assert np.median(explained) > 0.9


def test_descent_reaches_the_minimum_and_goes_on_from_its_state() -> None:
    """A convolution that must become the identity; cut off half way, it ends on the same weights."""

    def fit(steps: range, network: torch.nn.Module, descent: Descent) -> float:
        loss = torch.tensor(0.0)
        for step in steps:
            image = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(step))
            loss = (network(image) - image).square().mean()
            descent.step(loss)
        return float(loss.detach())

    def begin() -> tuple[torch.nn.Module, Descent]:
        torch.manual_seed(1)
        network = torch.nn.Conv2d(8, 8, 3, padding=1)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network, Descent(network, 0.02, 0.0, 200)

    whole, descent = begin()
    assert fit(range(200), whole, descent) < 0.01
    half, descent = begin()
    fit(range(100), half, descent)
    rest, resumed = begin()
    rest.load_state_dict(half.state_dict())
    resumed.load_state_dict(descent.state_dict())
    fit(range(100, 200), rest, resumed)
    assert torch.equal(rest.weight, whole.weight)  # type: ignore[arg-type]
