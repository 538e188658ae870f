"""Training and evaluation through their front doors: a miniature run, and the shipped weights."""

import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models.evaluation import main as evaluate
from models.evaluation.metrics import auc, dice, expected_calibration_error
from models.layer.weights import load_weights
from models.phantom import person_seed
from models.phantom.cohort import SPLITS
from models.training import main as train
from models.training.config import ConfigError
from models.training.config import load as load_config

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models" / "layer"
MINIATURE = """
seed = 1
cohort = 0
threads = 1
processes = 1
[segment]
volumes = 4
slices = 2
spacing_mm = [0.5, 0.8]
neighbors = 1
channels = [8, 16, 32]
steps = 40
batch = 4
crop = [80, 40]
learning_rate = 0.01
weight_decay = 0.0001
dice_share = 0.5
wide = 0.3
convex = 0.2
[pain]
volumes = 6
validation_volumes = 5
slices = 2
spacing_mm = [0.5, 0.8]
texture_maps = 2
penalties = [0.1]
texture_penalty = 10.0
"""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Training sets the number of threads of the process; leave it as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "layer.toml"
    config.write_text(MINIATURE, encoding="utf-8")
    train("layer", config, folder)
    return folder


def test_loss_falls(trained: Path) -> None:
    lines = (trained / "segment_loss.csv").read_text(encoding="utf-8").splitlines()[1:]
    losses = [float(line.split(",")[1]) for line in lines]
    assert len(losses) == 40
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


def test_weights_load_and_their_digest_is_right(trained: Path) -> None:
    card = tomllib.loads((trained / "weights.toml").read_text(encoding="utf-8"))
    data = (trained / card["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == card["sha256"]
    assert load_config(trained / "layer.toml").sha256 in card["statement"]
    weights = load_weights(trained)
    reference = weights.pain_bswe.network.reference_thickness_mm
    assert (reference > 0).all()
    assert weights.pain_b.temperature > 0


def test_the_same_configuration_gives_the_same_weights(trained: Path, tmp_path: Path) -> None:
    train("layer", trained / "layer.toml", tmp_path)
    assert (tmp_path / "weights.toml").read_text() == (trained / "weights.toml").read_text()


def test_splits_share_no_person() -> None:
    seeds = [
        person_seed(split, cohort, person)
        for split in SPLITS
        for cohort in (0, 1, 2, 999_999)
        for person in (0, 1, 999_999)
    ]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) > 10**9
    with pytest.raises(ValueError, match="must lie"):
        person_seed("train", 0, 10**6)


def test_shipped_configuration_is_the_one_that_trained_the_shipped_weights() -> None:
    config = load_config(ROOT / "config" / "layer.toml")
    assert config.sha256 in load_weights(SHIPPED).statement


def test_metrics() -> None:
    found, true = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert dice(found, true) == 0.5
    assert np.isnan(dice(~true & true, ~true & true))
    assert auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auc([1, 1], [0, 1]) == 0.5
    assert expected_calibration_error([0.95, 0.95, 0.05, 0.05], [1, 1, 0, 1]) == pytest.approx(0.25)


def test_what_cannot_be_trained_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is: layer"):
        train("knee", tmp_path / "x.toml", tmp_path)
    with pytest.raises(ValueError, match="there is: layer"):
        evaluate("knee")
    config = tmp_path / "layer.toml"
    config.write_text(MINIATURE.replace("threads", "treads"), encoding="utf-8")
    with pytest.raises(ConfigError, match="threads"):
        train("layer", config, tmp_path)
