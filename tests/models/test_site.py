"""A site's own data: a fit that survives a kill, weights a node can use."""

import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from dicom_node.analyze import load_analyses
from dicom_node.errors import SettingsError, WeightsMismatch
from dicom_node.settings import Analyze, OtherWeights
from models.layer import LayerAnalysis
from models.layer.weights import load_weights
from models.phantom import PhantomRequest, synthesize
from models.phantom.truth import to_image
from models.training.config import ConfigError, TrainingError
from models.training.config import load as load_config
from models.training.progress import CHECKPOINT, Keeper, ResumeError
from models.training.shipped import SHIPPED
from models.training.site import train_site
from tests.models.conftest import CONFIG


def curve(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text(encoding="utf-8").splitlines()


def test_a_fit_leaves_weights_curves_and_a_split_without_leak(
    tmp_path: Path, config: Path, nifti: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    train_site(config, nifti, out)
    said = capsys.readouterr().out
    for words in (
        "5 scans of 4 subjects in all",
        "3 scans of 3 subjects with masks and pain label",
        "1 scans of 1 subjects without pain label: for segmentation only",
        "1 scans of 1 subjects without masks: for pain only",
        "age: 40 to 44",
    ):
        assert words in said
    weights = load_weights(out)
    assert weights.segment.network.channels == (8, 16, 32)
    assert load_config(config).digest in weights.statement
    losses = [float(line.split(",")[1]) for line in curve(out, "segment_loss.csv")[1:]]
    assert len(losses) == 40
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    assert [line.split(",")[0] for line in curve(out, "validation.csv")] == [
        "step", "0", "10", "20", "30", "40",
    ]  # fmt: skip
    assert (out / "place.toml").read_bytes() == (SHIPPED / "place.toml").read_bytes()
    assert (out / "segment_loss.png").read_bytes().startswith(b"\x89PNG")
    with (out / "split.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    split = {(row["subject"], row["masks"]) for row in rows if row["masks"]}
    assert len(split) == 3, "one side for each subject with masks"
    assert {part for _, part in split} == {"learn", "validate"}
    for row in rows:
        assert row["masks"] != "learn" or row["pain"] != "validate"


class Killed(Exception):
    pass


def test_a_fit_that_is_cut_off_ends_in_the_same_bytes(
    tmp_path: Path, config: Path, nifti: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_site(config, nifti, whole)
    after = Keeper.after

    def killed_at_25(keeper: Keeper, step: int, loss: float) -> bool:
        if step == 25:
            raise Killed
        return after(keeper, step, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "after", killed_at_25)
        with pytest.raises(Killed):
            train_site(config, nifti, cut)
    assert (cut / CHECKPOINT).exists()
    assert not (cut / "weights.toml").exists()
    train_site(config, nifti, cut)
    for name in ("weights.toml", "segment_loss.csv", "validation.csv"):
        assert curve(cut, name) == curve(whole, name)


@pytest.mark.parametrize("what", ["configuration", "data"])
def test_another_configuration_or_other_data_are_refused(
    tmp_path: Path, config: Path, nifti: Path, what: str
) -> None:
    config.write_text(CONFIG.replace("steps = 40", "steps = 10"), encoding="utf-8")
    train_site(config, nifti, tmp_path / "out")
    train_site(config, nifti, tmp_path / "out")  # the same again is fine
    if what == "configuration":
        text = config.read_text(encoding="utf-8").replace("patience = 9", "patience = 8")
        config.write_text(text, encoding="utf-8")
    else:
        table = nifti / "subjects.csv"
        text = table.read_text(encoding="utf-8").replace("cleo,s3,1", "cleo,s3,0")
        table.write_text(text, encoding="utf-8")
    with pytest.raises(ResumeError, match=rf"another {what} \(sha256"):
        train_site(config, nifti, tmp_path / "out")


def test_a_fit_that_gets_no_better_stops_early(tmp_path: Path, config: Path, nifti: Path) -> None:
    text = CONFIG.replace("patience = 9", "patience = 2").replace(
        'start = "scratch"\nvalidation_share = 0.3\nsteps = 40\nlearning_rate = 0.01',
        'start = "scratch"\nvalidation_share = 0.3\nsteps = 400\nlearning_rate = 1e-9',
    )
    config.write_text(text, encoding="utf-8")
    train_site(config, nifti, tmp_path / "out")
    rows = [line.split(",") for line in curve(tmp_path / "out", "validation.csv")[1:]]
    best = max(range(len(rows)), key=lambda number: float(rows[number][1]))
    assert len(rows) == best + 1 + 2
    train_site(config, nifti, tmp_path / "out")  # stopped stays stopped
    assert len(curve(tmp_path / "out", "validation.csv")) == len(rows) + 1


def test_the_shipped_start_needs_the_shipped_grid(
    tmp_path: Path, config: Path, nifti: Path
) -> None:
    config.write_text(CONFIG.replace('"scratch"', '"shipped"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"segment\.spacing_mm"):
        train_site(config, nifti, tmp_path / "out")
    config.write_text(CONFIG.split("[site]", maxsplit=1)[0], encoding="utf-8")
    with pytest.raises(TrainingError, match=r"no part \[site\]"):
        train_site(config, nifti, tmp_path / "out")


def test_a_node_takes_the_weights_that_it_is_told(tmp_path: Path) -> None:
    other = tmp_path / "weights"
    other.mkdir()
    card = (SHIPPED / "weights.toml").read_text(encoding="utf-8")
    (other / "weights.toml").write_text(
        card.replace('version = "', 'version = "site-'), encoding="utf-8"
    )
    name = tomllib.loads(card)["file"]
    (other / name).write_bytes((SHIPPED / name).read_bytes())
    paths = ["models.layer:analysis"]
    (analysis,) = load_analyses(paths, Analyze("cpu", 1, (OtherWeights("layer", other),)))
    found = analysis.run(synthesize(2000, PhantomRequest((3, 160, 96), (0.8, 0.25, 0.4))).scan)
    assert found.run.settings["weights"].startswith("site-")
    with pytest.raises(SettingsError, match="no analysis 'disc'; there is: layer"):
        load_analyses(paths, Analyze("cpu", 1, (OtherWeights("disc", other),)))
    with pytest.raises(SettingsError, match="'plain' takes no other weights"):
        load_analyses(
            ["tests.plain_analysis:analysis"], Analyze("cpu", 1, (OtherWeights("plain", other),))
        )
    (other / name).write_bytes(b"cut")
    with pytest.raises(WeightsMismatch, match="sha256"):
        load_analyses(paths, Analyze("cpu", 1, (OtherWeights("layer", other),)))


def test_validation_dice_is_of_whole_scans() -> None:
    from models.training.data import Sweep
    from models.training.site import dice_per_layer

    class Says(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            middle = image[:, image.shape[1] // 2].long()
            return nn.functional.one_hot(middle, 7).movedim(-1, 1).float()

    gray = np.array([[[0, 1], [2, 2]], [[1, 1], [2, 0]]], np.uint8)
    true = np.array([[[0, 1], [2, 2]], [[1, 2], [2, 2]]], np.uint8)
    dice = dice_per_layer(Says(), [[Sweep(gray, true)], [Sweep(gray, gray)]], 1)
    assert dice[:2] == pytest.approx(((4 / 5 + 1) / 2, (6 / 8 + 1) / 2))
    assert np.isnan(dice[2:]).all()


LEVELS = ("none", "mild", "moderate", "severe")


@pytest.mark.parametrize("levels", [(), LEVELS], ids=["yes or no", "levels"])
def test_pain_labels_fit_the_heads_on_the_layers_that_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], levels: tuple[str, ...]
) -> None:
    shipped = load_weights(SHIPPED)
    segment = shipped.segment
    config = tmp_path / "layer.toml"
    text = CONFIG.replace('"scratch"', '"shipped"').replace(
        "pain_subjects = 30", "pain_subjects = 2"
    )
    for old, new in (
        (
            "spacing_mm = [0.6, 0.9]\nneighbors = 1",
            f"spacing_mm = {list(segment.spacing_mm)}\nneighbors = 2",
        ),
        ("seed = 3", "seed = 2"),  # a split with every level on both sides
        ("validation_share = 0.3", "validation_share = 0.4"),
        ("channels = [8, 16, 32]", f"channels = {list(segment.network.channels)}"),
        (
            "\nsteps = 40\nlearning_rate = 0.01\ncheckpoint",
            "\nsteps = 1\nlearning_rate = 1e-9\ncheckpoint",
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    config.write_text(text, encoding="utf-8")
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["subject,study,pain"]
    if levels:
        (folder / "layers.toml").write_text(f"[pain]\nlevels = {list(levels)}", encoding="utf-8")
    for number in range(12):
        person = synthesize(3000 + number, PhantomRequest((3, 120, 64), (0.8, 0.3, 0.5)))
        gray = person.scan.channel("b-mode").astype(np.uint8)
        sitk.WriteImage(to_image(gray, person.scan.affine), str(folder / f"s{number}.nii"))
        if number < 2:
            image = to_image(person.labelmap, person.scan.affine)
            sitk.WriteImage(image, str(folder / f"s{number}_labels.nii"))
        lines.append(f"p{number},s{number},{levels[number % 4] if levels else number % 2}")
    (folder / "subjects.csv").write_text("\n".join(lines), encoding="utf-8")
    last = person.scan
    train_site(config, folder, tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "Pain from B-mode: heads fitted on" in said
    assert "Pain from B-mode and shear wave: as in the weights it began from; 0 subjects" in said
    made = load_weights(tmp_path / "out")
    assert ("ranked probability score" in said) == bool(levels)
    assert (made.pain_b.levels is not None) == bool(levels)
    if made.pain_b.levels:
        assert "AUC of mild or more" in made.statement
        assert "subjects with pain of level: none 3, mild 3, moderate 3, severe 3" in said
        assert made.pain_b.levels.names == levels
        (decision,) = LayerAnalysis(tmp_path / "out").run(last).classifications
        told = [probability for _, probability in decision.levels]
        assert [code.meaning for code, _ in decision.levels][1] == "Level 1 of 3: mild"
        assert sum(told) == pytest.approx(1)
        assert sum(told[1:]) == pytest.approx(decision.outcomes[0][1])
    assert not torch.equal(made.pain_b.network.weight, shipped.pain_b.network.weight)
    torch.testing.assert_close(
        made.pain_b.network.appearance_readout, shipped.pain_b.network.appearance_readout
    )
    for key, item in shipped.pain_bswe.network.state_dict().items():
        assert torch.equal(made.pain_bswe.network.state_dict()[key], item)
