"""A site's own data: the table, the split by subject, a fit that survives a kill, weights a node can use."""

import csv
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dicom_node.analyze import load_analyses
from dicom_node.errors import SettingsError, WeightsMismatch
from dicom_node.examples import write_examples
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Analyze, OtherWeights
from models.layer.weights import load_weights
from models.phantom import Phantom, PhantomRequest, synthesize
from models.phantom.truth import to_image
from models.training.config import ConfigError, TrainingError
from models.training.config import load as load_config
from models.training.dataset import open_dataset, read_example, sweeps_of
from models.training.progress import CHECKPOINT, Keeper, ResumeError
from models.training.shipped import SHIPPED
from models.training.site import train_site
from models.training.subjects import DatasetError, Words, held_out, read_table, read_words

CONFIG = """
seed = 3
cohort = 0
threads = 1
processes = 1
[segment]
volumes = 4
slices = 2
spacing_mm = [0.6, 0.9]
neighbors = 1
channels = [8, 16, 32]
steps = 40
batch = 4
crop = [64, 32]
wide = 0.0
learning_rate = 0.01
weight_decay = 0.0001
dice_share = 0.5
[pain]
volumes = 6
validation_volumes = 5
slices = 2
spacing_mm = [0.5, 0.8]
texture_maps = 2
penalties = [0.1]
texture_penalty = 10.0
[site]
start = "scratch"
validation_share = 0.3
steps = 40
learning_rate = 0.01
checkpoint_steps = 10
validation_steps = 10
patience = 9
pain_subjects = 30
"""
REQUEST = PhantomRequest((4, 80, 48), (0.8, 0.5, 0.7), shear_wave=True)
SUBJECTS = ("ann", "ann", "ben", "cleo", "dora")


@pytest.fixture(scope="module")
def people() -> list[Phantom]:
    return [synthesize(2000 + number, REQUEST) for number in range(len(SUBJECTS))]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "layer.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def nifti(tmp_path: Path, people: Sequence[Phantom]) -> Path:
    """Five studies of four subjects; the last has no mask, the first no pain label."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["subject,study,pain,sex,age,bmi"]
    for number, (subject, person) in enumerate(zip(SUBJECTS, people, strict=True)):
        gray = person.scan.channel("b-mode").astype(np.uint8)
        sitk.WriteImage(to_image(gray, person.scan.affine), str(folder / f"s{number}.nii.gz"))
        if number < 4:
            image = to_image(person.labelmap, person.scan.affine)
            sitk.WriteImage(image, str(folder / f"s{number}_labels.nii.gz"))
        speed = to_image(person.scan.channel("shear-wave-speed"), person.scan.affine)
        sitk.WriteImage(speed, str(folder / f"s{number}_speed.nii.gz"))
        lines.append(
            f"{subject},s{number},{'' if number == 0 else number % 2},F,4{number},2{number}.5"
        )
    (folder / "subjects.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


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


def test_dicom_and_nifti_of_the_same_people_teach_the_same(
    tmp_path: Path, nifti: Path, people: Sequence[Phantom]
) -> None:
    dicom = tmp_path / "dicom"
    files = [
        write_study(person.scan, dicom / str(number), Style(form="enhanced", seed=number))
        for number, person in enumerate(people[:2])
    ]
    assert all(files)
    write_examples(dicom, tmp_path / "examples", read_words(nifti).layers)
    index = (tmp_path / "examples" / "examples.json").read_text(encoding="utf-8")
    studies = [line.split('"')[3] for line in index.splitlines() if '"study"' in line]
    text = "subject;study\n" + "".join(f"x{study};{study}\n" for study in studies)
    (dicom / "subjects.csv").write_text(text, encoding="utf-8")
    words = read_words(nifti)
    ours = open_dataset(tmp_path / "examples", dicom, words).examples
    theirs = open_dataset(nifti, nifti, words).examples
    for one, other in zip(ours, theirs, strict=False):
        (here, _), (there, labels) = read_example(one, words), read_example(other, words)
        assert labels is not None
        np.testing.assert_array_equal(here.channel("b-mode"), there.channel("b-mode"))
        np.testing.assert_allclose(here.affine, there.affine, atol=1e-3)
        assert here.channels == there.channels


def test_slices_without_a_mask_are_not_taken_for_empty_ones(people: Sequence[Phantom]) -> None:
    labels = people[0].labelmap.copy()
    labels[1] = 0
    first, second = sweeps_of(people[0].scan, labels, (0.6, 0.9))
    assert (len(first.gray), len(second.gray)) == (1, 2)
    assert all(sweep.labels.any((1, 2)).all() for sweep in (first, second))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "subjects.csv is missing"),
        ("subject,pain\nann,1\n", "no column 'study'"),
        ("subject,study\nann,s0\n", "no row in subjects.csv for 4 of the studies: s1"),
        ("subject,study\nann,s0\nben,s0\n", "line 3: study s0 is there twice"),
        ("subject,study,pain\nann,s0,often\n", "line 2: pain is 'often', not 0 or 1"),
        ("subject,study,age\nann,s0,old\n", "line 2: age is 'old', not a number"),
        ("subject,study\n,s0\n", "line 2: subject is empty"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(nifti: Path, text: str | None, words: str) -> None:
    table = nifti / "subjects.csv"
    table.unlink()
    if text is not None:
        table.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=words):
        open_dataset(nifti, nifti, read_words(nifti))


def test_pain_may_be_a_class_or_a_scale(tmp_path: Path) -> None:
    text = "subject,study,pain\na,1,chronic\nb,2,none\nc,3,6\nd,4,2.5\ne,5,\n"
    (tmp_path / "subjects.csv").write_text(text, encoding="utf-8")
    (tmp_path / "layers.toml").write_text(
        'pain_from = 4\n[pain]\n"Chronic" = 1\n"none" = 0\n', encoding="utf-8"
    )
    rows = read_table(tmp_path, read_words(tmp_path))
    assert [row.pain for row in rows.values()] == [True, False, True, False, None]


@pytest.mark.parametrize(
    "text", ["[layer]\na = 1", "[layers]\na = 7", "[layers]\na = true", "[layers", "pain = 1"]
)
def test_words_that_cannot_be_used_are_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "layers.toml").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"layers\.toml"):
        read_words(tmp_path)


@given(
    names=st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=40),
    added=st.text(min_size=9, max_size=12),
    seed=st.integers(0, 99),
)
def test_the_split_is_of_subjects_and_does_not_move(names: set[str], added: str, seed: int) -> None:
    apart = held_out(names, 0.3, seed)
    assert apart == held_out([*names, *names], 0.3, seed)
    assert 0 < len(apart) < len(names)
    more = held_out(names | {added}, 0.3, seed) - {added}
    assert len(apart) == 1 or apart <= more or len(apart) == len(names) - 1


def test_one_subject_is_not_enough() -> None:
    with pytest.raises(DatasetError, match="to learn from and to validate"):
        held_out(["ann", "ann"], 0.3, 0)


def edit_labels(path: Path, change: object) -> None:
    image = sitk.ReadImage(str(path))
    array = change(sitk.GetArrayFromImage(image))  # type: ignore[operator]
    made = sitk.GetImageFromArray(array)
    if made.GetSize() == image.GetSize():
        made.CopyInformation(image)
    sitk.WriteImage(made, str(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda labels: labels + 100, "value 100 is no layer"),
        (lambda labels: labels[:, ::-1], "dermis lies below the muscle"),
        (lambda labels: labels[1:], "voxels, but s0"),
        (lambda labels: labels * 0, "empty mask"),
    ],
)
def test_a_mask_that_does_not_fit_its_image_is_named(
    nifti: Path, change: object, words: str
) -> None:
    edit_labels(nifti / "s0_labels.nii.gz", change)
    found = open_dataset(nifti, nifti, read_words(nifti)).examples[0]
    with pytest.raises(DatasetError, match=words) as caught:
        read_example(found, read_words(nifti))
    assert "s0_labels.nii.gz" in str(caught.value)


def test_a_site_says_what_its_numbers_mean(nifti: Path) -> None:
    edit_labels(nifti / "s0_labels.nii.gz", lambda labels: np.where(labels == 3, 13, labels))
    words = Words({"#13": 3})
    _, labels = read_example(open_dataset(nifti, nifti, words).examples[0], words)
    assert labels is not None
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, 6}


def test_a_mask_alone_is_an_error(nifti: Path) -> None:
    (nifti / "s1.nii.gz").unlink()
    with pytest.raises(DatasetError, match="has no image s1"):
        open_dataset(nifti, nifti, read_words(nifti))


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


def test_pain_labels_fit_the_heads_on_the_layers_that_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
        ("seed = 3", "seed = 6"),  # a split with both classes on both sides
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
    for number in range(9):
        person = synthesize(3000 + number, PhantomRequest((3, 120, 64), (0.8, 0.3, 0.5)))
        gray = person.scan.channel("b-mode").astype(np.uint8)
        sitk.WriteImage(to_image(gray, person.scan.affine), str(folder / f"s{number}.nii"))
        if number < 2:
            image = to_image(person.labelmap, person.scan.affine)
            sitk.WriteImage(image, str(folder / f"s{number}_labels.nii"))
        lines.append(f"p{number},s{number},{number % 2}")
    (folder / "subjects.csv").write_text("\n".join(lines), encoding="utf-8")
    train_site(config, folder, tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "Pain from B-mode: heads fitted on" in said
    assert "Pain from B-mode and shear wave: as in the weights it began from; 0 subjects" in said
    made = load_weights(tmp_path / "out")
    assert not torch.equal(made.pain_b.network.weight, shipped.pain_b.network.weight)
    torch.testing.assert_close(
        made.pain_b.network.appearance_readout, shipped.pain_b.network.appearance_readout
    )
    for key, item in shipped.pain_bswe.network.state_dict().items():
        assert torch.equal(made.pain_bswe.network.state_dict()[key], item)
