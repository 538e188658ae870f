"""Weights and their cards: what is broken is named, with its file and its key."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import models.layer
from models.analysis import WeightsError
from models.layer.network import SegmentationNetwork
from models.layer.pain import PainNetwork
from models.layer.place import FILE as GATE
from models.layer.place import load_rule
from models.layer.weights import (
    CARD,
    FILE,
    Classifier,
    Segmenter,
    Weights,
    load_weights,
    save_weights,
)
from models.steps.classify import Levels

SHEAR_WAVE = ("b-mode", "shear-wave-speed", "shear-wave-valid")
SHIPPED = Path(models.layer.__file__).parent


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_weights(
        tmp_path,
        Weights(
            "0",
            "Never trained.",
            Segmenter(SegmentationNetwork(1, (8, 16, 16)), (0.3, 0.3)),
            Classifier(PainNetwork(("b-mode",), 2, 3), (0.4, 0.4)),
            Classifier(PainNetwork(SHEAR_WAVE, 2, 3), (0.4, 0.4)),
        ),
    )
    return tmp_path


def edit(path, pattern, text):
    """Change one line of a file."""
    before = path.read_text(encoding="utf-8")
    after, count = re.subn(pattern, text, before, count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(after, encoding="utf-8")


def refused(folder, *words):
    with pytest.raises(WeightsError) as caught:
        load_weights(folder)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("key", ["file", "sha256", "version", "statement"])
def test_a_key_that_is_missing_is_named(folder, key):
    edit(folder / CARD, rf"^{key} = .*\n", "")
    refused(folder, str(folder / CARD), key, "missing")


@pytest.mark.parametrize("table", ["segment", "pain_b", "pain_bswe"])
def test_a_table_that_is_missing_is_named(folder, table):
    edit(folder / CARD, rf"^\[{table}\]$", f"[{table}x]")
    refused(folder, str(folder / CARD), table, "missing")


BROKEN = {
    "segment.spacing_mm": ("spacing_mm = .*", "spacing_mm = [0.3]"),
    "segment.neighbors": ("neighbors = 1", "neighbors = -1"),
    "segment.channels": ("channels = .*", "channels = [8]"),
    "pain_b.temperature": ("temperature = .*", 'temperature = "hot"'),
    "pain_b.texture_maps": ("texture_maps = .*", "texture_maps = true"),
    "pain_b.members": ("members = .*", "members = 0"),
    "pain_b.channels": (r'channels = \["b-mode"\]', 'channels = "b-mode"'),
}


@pytest.mark.parametrize("key", BROKEN)
def test_a_value_that_cannot_be_is_named(folder, key):
    edit(folder / CARD, *BROKEN[key])
    refused(folder, str(folder / CARD), f"{key} is ", "not ")


def test_a_card_that_is_no_toml_is_named(folder):
    (folder / CARD).write_text("= = =", encoding="utf-8")
    refused(folder, str(folder / CARD), "cannot be read")


MISFIT = {
    "segment.unet": ("channels = .*", "channels = [8, 16, 32]"),
    "pain_b.appearance_readout": ("texture_maps = .*", "texture_maps = 3"),
    "pain_b.bias": ("members = .*", "members = 4"),
}


@pytest.mark.parametrize("key", MISFIT)
def test_tensors_that_do_not_fit_the_card_are_named(folder, key):
    edit(folder / CARD, *MISFIT[key])
    refused(folder, str(folder / FILE), str(folder / CARD), key, "shape")


def test_a_file_that_holds_no_tensors_is_named(folder):
    (folder / FILE).write_bytes(b"something else")
    digest = hashlib.sha256(b"something else").hexdigest()
    edit(folder / CARD, "^sha256 = .*", f'sha256 = "{digest}"')
    refused(folder, str(folder / FILE), "no safetensors")


def test_what_was_saved_is_what_is_loaded(folder):
    first = load_weights(folder)
    second_folder = folder / "again"
    second_folder.mkdir()
    save_weights(second_folder, first)
    assert (second_folder / FILE).read_bytes() == (folder / FILE).read_bytes()
    assert (second_folder / CARD).read_bytes() == (folder / CARD).read_bytes()


def test_levels_are_in_the_card_only_where_there_are_some(folder):
    before = (folder / CARD).read_text(encoding="utf-8")
    assert "levels" not in before
    first = load_weights(folder)
    assert first.pain_b.levels is None
    levels = Levels(("keiner", "mäßig", "stark"), (0.0, 1.25))
    save_weights(folder, replace(first, pain_b=replace(first.pain_b, levels=levels)))
    second = load_weights(folder)
    assert (second.pain_b.levels, second.pain_bswe.levels) == (levels, None)
    save_weights(folder, replace(second, pain_b=replace(second.pain_b, levels=None)))
    assert (folder / CARD).read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('levels = ["a", "b", "c"]', "thresholds is missing"),
        ("thresholds = [0.0, 1.0]", "levels is missing"),
        ('levels = ["a", "b", "c"]\nthresholds = [0.0]', "thresholds is [0.0], not one threshold"),
        ('levels = ["a", "b", "c"]\nthresholds = [1.0, 2.0]', "the first 0"),
        ('levels = ["a", "b", "c"]\nthresholds = [0.0, "1"]', "not a list of numbers"),
    ],
)
def test_levels_that_cannot_be_are_named(folder, lines, key):
    edit(folder / CARD, r'^channels = \["b-mode"\]$', f'channels = ["b-mode"]\n{lines}')
    refused(folder, str(folder / CARD), "pain_b.", key)


@pytest.mark.parametrize(
    "key", ["kinds.real.most_points", "kinds.real.norms.sure.cost", "kinds.simulated.norms.lying"]
)
def test_a_broken_gate_is_named(tmp_path, key):
    text = (SHIPPED / GATE).read_text(encoding="utf-8")
    table, _, name = key.rpartition(".")
    if name == "lying":
        text = text.replace(f"[{key}]", f"[{key}x]")
    else:
        head, rest = text.split(f"[{table}]\n")
        text = f"{head}[{table}]\n" + rest.replace(f"{name} = ", f'{name} = "" #', 1)
    (tmp_path / GATE).write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match=f"{GATE}: {key} is "):
        load_rule(tmp_path)
