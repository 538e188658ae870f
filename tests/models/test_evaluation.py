"""Evaluation through its front door, in miniature, and the formulas behind its tables."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from models.evaluation import gate
from models.evaluation.examination import Change, Examination, changed, examine_in_full
from models.evaluation.interventions import WHOLE, interventions
from models.evaluation.layer import SUMMARY, Plan, evaluate
from models.evaluation.metrics import auc, auc_draws, dice, mean_interval, ndcg, spearman
from models.evaluation.person import Person
from models.evaluation.segmentation import tables
from models.evaluation.shifts import CHANGES, UNCHANGED
from models.evaluation.text import BESIDE, INSIDE, write
from models.evaluation.transfer import Abroad
from models.evaluation.transfer import table as transfer_table
from models.layer.labels import SEGMENTS
from models.layer.weights import load_weights, save_weights
from models.phantom import PhantomRequest, Protocol, person_seed, synthesize, varied_request
from models.phantom.factors import reference
from models.training.negatives import KINDS

SHIPPED = Path(__file__).parents[2] / "models" / "layer"
SMALL = Protocol(slices=2, shear_wave=True, row_mm=(0.25, 0.28), column_mm=(0.35, 0.4))


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """An evaluation sets the number of threads of the process; leave it as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything at once, on one person per cohort."""
    folder = tmp_path_factory.mktemp("evaluation")
    plan = Plan(SHIPPED, 1, protocol=SMALL, split="validation", cohorts=(90, 91))
    figures = evaluate(plan, folder, Console(quiet=True))
    assert all(len(values) == 2 for values in figures.values())
    return folder


def test_every_part_has_its_table(written: Path) -> None:
    found = json.loads((written / "evaluation.json").read_text(encoding="utf-8"))
    tables = found["tables"]
    assert tables.keys() >= {
        "summary", "dice", "thickness", "absent", "confidence", "order", "shifts", "transfer",
        "decision_b", "decision_b_swe", "learned", "drivers_b", "drivers_b_swe", "interventions",
        "told", "text", "gate", "calibration", "calibration_rules",
    }  # fmt: skip
    assert [row["Columns in order"] for row in tables["order"]["rows"]] == [1.0, 1.0]
    assert len(tables["dice"]["rows"]) == len(SEGMENTS) + 1
    assert [row["Shift"] for row in tables["shifts"]["rows"]] == list(CHANGES)
    assert tables["shifts"]["rows"][0]["Change"] == 0
    assert {row["Rule"] for row in tables["drivers_b"]["rows"]} >= {"none"}
    assert found["weights_sha256"] in (SHIPPED / "weights.toml").read_text(encoding="utf-8")


def test_a_summary_of_other_weights_has_the_same_keys_for_what_it_holds(
    written: Path, tmp_path: Path
) -> None:
    weights = load_weights(SHIPPED)
    weights.pain_b.network.bias.add_(1.0)
    save_weights(tmp_path, weights)
    plan = Plan(tmp_path, 1, protocol=SMALL, split="validation", cohorts=(90,), parts=SUMMARY)
    evaluate(plan, tmp_path / "out", Console(quiet=True))
    full, other = (
        json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        for folder in (written, tmp_path / "out")
    )
    assert other["weights_sha256"] in (tmp_path / "weights.toml").read_text(encoding="utf-8")
    assert other["weights_sha256"] != full["weights_sha256"]
    assert other.keys() == full.keys()
    assert other["figures"].keys() == full["figures"].keys()
    assert other["tables"].keys() == {
        "summary", "dice", "thickness", "absent", "confidence", "order", "ceiling", "transfer", "gate",
        "calibration",
    }  # fmt: skip
    for name, table in other["tables"].items():
        if table["rows"]:
            assert table["rows"][0].keys() == full["tables"][name]["rows"][0].keys()
    assert "have no gate" in other["tables"]["gate"]["note"]
    assert "no regression" in other["tables"]["summary"]["note"]
    assert other["figures"]["AUC, B-mode, logistic regression"] == [None]


def test_made_images_of_no_lower_back_are_refused(written: Path) -> None:
    found = json.loads((written / "evaluation.json").read_text(encoding="utf-8"))
    rows = {row["Scans of"]: row for row in found["tables"]["gate"]["rows"]}
    assert rows["simulated people"]["Lower back"] == "yes"
    assert rows["made: bands"]["Refused share"] == rows["made: membranes"]["Refused share"] == 1
    assert rows["made, all kinds"]["Scans"] == 2


def test_the_pooled_row_names_the_kind_that_is_refused_least() -> None:
    made: dict[str, list[str | None]] = {"noise": ["a", "a", "b"], "blocks": ["a", None, None]}
    rows = gate.table({"people": [None, "a"]}, made, there=True).describe()["rows"]
    assert [row["Refused share"] for row in rows] == pytest.approx([0.5, 1, 1 / 3, 4 / 6])
    assert [row["Most frequent reason"] for row in rows[:2]] == ["a", "a"]
    assert rows[-1]["Most frequent reason"] == "least often: blocks, 0.333"
    nothing = gate.table({"people": [None]}, {}, there=False)
    assert not nothing.rows
    assert "no gate" in nothing.note


def test_every_kind_of_made_image_has_its_turn() -> None:
    made = gate.kinds_of(range(2 * len(KINDS)))
    assert [kind for kind, _ in made] == 2 * list(KINDS)
    assert len({seed for _, seed in made}) == len(made)


def test_text_outside_the_valid_pixels_changes_nothing(written: Path) -> None:
    found = json.loads((written / "evaluation.json").read_text(encoding="utf-8"))
    rows = [row for row in found["tables"]["text"]["rows"] if row["Text"] == BESIDE]
    assert len(rows) == 2
    assert all(row["Test people whose features stay equal"] == 1 for row in rows)


def test_every_figure_is_a_picture_that_the_report_shows(written: Path) -> None:
    text = (written / "evaluation.md").read_text(encoding="utf-8")
    assert "Simulation only" in text
    names = {
        "dice", "thickness", "confidence", "shifts", "auc", "calibration", "drivers", "untrained"
    }  # fmt: skip
    for name in names:
        assert f"({name}.png)" in text
        assert (written / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_shipped_weights_find_the_layers_of_people_never_seen() -> None:
    plan = Plan(SHIPPED, volumes=4, cohorts=(90,), parts=("segmentation",), split="validation")
    figures = evaluate(plan, None, Console(quiet=True))
    assert figures["Dice, mean of layers"][0] >= 0.9
    assert figures["Thickness error mm, Deep fascial membrane"][0] < 0.3


def test_an_invented_layer_counts_as_a_true_dice_of_0() -> None:
    """Of two people the second has no dermis; the network is as sure of it as of the first's."""
    phantoms = [
        synthesize(5, PhantomRequest((2, 60, 40), (1.0, 0.5, 0.8), absent=absent))
        for absent in ((), (1,))
    ]
    numbers = range(1, 7)
    people = []
    for phantom in phantoms:
        found = phantom.labelmap.copy()
        found[:, 0] = 1
        here, there = (np.isin(numbers, labels) for labels in (found, phantom.labelmap))
        overlaps = [dice(found == number, phantom.labelmap == number) for number in numbers]
        person = Person(
            np.ones((6, 5), np.float32),
            np.ones(7, np.float32),
            np.ones(6, np.float32),
            np.array(overlaps, np.float32),
            {},
            phantom.pain,
            phantom.pain_latent,
        )
        said = np.where(here, 0.9, np.nan)
        people.append(Examination(person, said, there, here, 1.0, None))
    assert [bool(item.there[0]) for item in people] == [True, False]
    (table,) = (table for table in tables([people]) if table.name == "confidence")
    row, *_, pooled = table.describe()["rows"]
    assert (row["Scans"], row["Invented"], row["Predicted Dice of these"]) == (2, 1, 0.9)
    honest = people[0].person.dice[0]
    assert row["Predicted less true"] == pytest.approx((0.9 - honest + 0.9) / 2, abs=1e-6)
    assert (pooled["Scans"], pooled["Invented"]) == (12, 1)


def test_a_layer_that_is_not_there_has_no_dice() -> None:
    seeds = (person_seed("validation", 90, number) for number in range(400))
    seed = next(seed for seed in seeds if varied_request(seed, SMALL).absent)
    absent = varied_request(seed, SMALL).absent
    found = examine_in_full(seed, SMALL, SHIPPED)
    assert not found.there[[layer - 1 for layer in absent]].any()
    assert np.isnan(found.dice[~found.there]).all()
    assert np.isfinite(found.dice[found.there]).all()


@pytest.mark.parametrize("name", [name for name in CHANGES if name != UNCHANGED])
def test_a_shift_changes_one_thing_and_keeps_the_field_of_view(name: str) -> None:
    seed = person_seed("validation", 90, 0)
    before = varied_request(seed, SMALL)
    assert not before.convex
    after = changed(seed, before, CHANGES[name])
    assert after != before
    assert (after.absent, after.merged, after.broken) == (
        before.absent,
        before.merged,
        before.broken,
    )
    if not after.convex:
        for axis in (1, 2):
            size = before.shape[axis] * before.spacing_mm[axis]
            assert after.shape[axis] * after.spacing_mm[axis] == pytest.approx(size, abs=0.36)
    assert changed(seed, before, Change()) == before


def test_interventions_set_factors_of_one_layer_to_their_mean() -> None:
    found = interventions()
    assert [layer for layer, part in found if part == WHOLE] == list(range(6))
    for (layer, _), fixed in found.items():
        names = {name.split(".")[0] for name in fixed}
        assert len(names) == 1
        assert all(value == reference()[name].mean for name, value in fixed.items())
        assert names <= {SEGMENTS[layer].label.lower().replace(" ", "_")}
    assert "muscle.thickness_mm" not in found[5, WHOLE]


def test_text_lies_where_it_is_said_to_lie() -> None:
    seed = person_seed("validation", 90, 0)
    phantom = synthesize(seed, varied_request(seed, SMALL))
    beside, inside = (write(phantom, place) for place in (BESIDE, INSIDE))
    added = beside.scan.shape[2] - phantom.scan.shape[2]
    assert added > 0
    np.testing.assert_array_equal(beside.scan.voxels[..., added:], phantom.scan.voxels)
    assert not beside.scan.valid[..., :added].any()
    assert (beside.scan.channel("b-mode")[..., :added] == 255).any()
    assert inside.scan.shape == phantom.scan.shape
    moved = (inside.scan.voxels != phantom.scan.voxels).any((0, 1))
    assert moved.any()
    assert not moved[: moved.shape[0] // 2].any()
    np.testing.assert_array_equal(inside.scan.channel("b-mode")[:, moved], 255)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=4, max_size=30))
def test_counting_everybody_once_gives_the_plain_auc(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    once = auc_draws(scores, labels, np.ones((1, len(pairs))))[0]
    assert once == pytest.approx(auc(scores, labels), nan_ok=True)
    twice = auc_draws(np.repeat(scores, 2), np.repeat(labels, 2), np.ones((1, 2 * len(pairs))))[0]
    assert twice == pytest.approx(once, nan_ok=True)


def test_formulas() -> None:
    assert ndcg([0.1, -0.9, 0.3], [0, 1, 0]) == 1
    assert ndcg([0.9, 0.1, 0.3], [0, 1, 0]) == pytest.approx(0.5)
    assert np.isnan(ndcg([1, 2], [0, 0]))
    assert spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert spearman([1, 2, 3, np.nan], [3, 2, 1, 7]) == pytest.approx(-1)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    middle, low, high = mean_interval([0.0, 1.0, np.nan])
    assert (middle, low, high) == (0.5, 0.0, 1.0)


def test_a_thickness_that_was_not_measured_shows_beside_the_errors_of_the_others() -> None:
    everything = np.ones(6)
    missed = np.where(np.arange(6) == 2, np.nan, 0.1)
    volumes = [
        Abroad(everything, error, everything > 0, everything, 1.0, None)
        for error in (np.full(6, 0.1), missed)
    ]
    rows = {row["Layer"]: row for row in transfer_table(volumes).describe()["rows"]}
    assert rows["Superficial fascial membrane"]["Measured share"] == 0.5
    assert rows["Superficial fascial membrane"]["Mean |thickness error| mm"] == pytest.approx(0.1)
    assert rows["Dermis"]["Measured share"] == 1
    assert rows["Mean of layers"]["Measured share"] == pytest.approx(0.9)
