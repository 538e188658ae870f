"""Spread over training seeds: what it adds up, and which evaluations it does not compare."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.evaluation import EvaluationError
from models.evaluation.seeds import write_seeds


def evaluation(folder: Path, dice: list[float | None], **changes: Any) -> Path:
    """What ``evaluate`` writes, with as little as is read of it."""
    folder.mkdir()
    row = {"Layer": "Dermis", "Dice": dice[0], "Mean |thickness error| mm": None}
    transfer = {"title": "Transfer", "note": "", "rows": [row | {"Measured share": 1}]}
    content = {
        "weights_sha256": folder.name * 8,
        "volumes": 2,
        "split": "test",
        "cohorts": [0, 1],
        "figures": {"Dice, Dermis": dice},
        "tables": {"transfer": transfer, "dice": {"title": "Overlap", "note": "", "rows": [{}]}},
    }
    (folder / "evaluation.json").write_text(json.dumps(content | changes), encoding="utf-8")
    return folder / "evaluation.json"


def test_each_figure_has_its_mean_and_spread_over_trainings(tmp_path: Path) -> None:
    paths = [
        evaluation(tmp_path / "a", [0.8, 0.9]),
        evaluation(tmp_path / "b", [0.7, 0.9]).parent,
        evaluation(tmp_path / "c", [0.9, None]),
    ]
    text = write_seeds(paths, tmp_path / "out")
    assert text == (tmp_path / "out" / "seeds.md").read_text(encoding="utf-8")
    assert "| Dice, Dermis | 0.850 | 0.050 | 0.106 | 0.850 | 0.800 | 0.900 |" in text
    found = json.loads((tmp_path / "out" / "seeds.json").read_text(encoding="utf-8"))
    rows = {row["Figure"]: row for row in found["tables"]["seeds"]["rows"]}
    abroad = rows["Transfer, Dermis, Dice"]
    assert (abroad["a"], abroad["b"], abroad["c"]) == (0.8, 0.7, 0.9)
    assert abroad["SD of seeds"] == pytest.approx(0.1)
    assert abroad["SD of cohorts"] is None
    assert found["weights_sha256"] == {name: name * 8 for name in "abc"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights_sha256": "a" * 8}, "the same weights"),
        ({"volumes": 3}, "same people"),
        ({"cohorts": [0]}, "same people"),
        ({"figures": {"Dice, Muscle": [0.9, 0.9]}}, "Dice, Dermis"),
        ({"figures": []}, "not an evaluation"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    paths = [
        evaluation(tmp_path / "a", [0.8, 0.9]),
        evaluation(tmp_path / "b", [0.8, 0.9], **changes),
    ]
    with pytest.raises(EvaluationError, match=words):
        write_seeds(paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_training_has_no_spread(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="at least two"):
        write_seeds([evaluation(tmp_path / "a", [0.8, 0.9])], tmp_path / "out")


def test_an_older_form_is_named(tmp_path: Path) -> None:
    path = evaluation(tmp_path / "a", [0.8, 0.9])
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["split"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(EvaluationError, match="has no split"):
        write_seeds([path, path], tmp_path / "out")


def test_no_network_is_loaded(tmp_path: Path) -> None:
    program = "import sys, models.evaluation.seeds; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


def test_the_door_says_in_one_line_what_cannot_be_compared(tmp_path: Path) -> None:
    path = evaluation(tmp_path / "a", [0.8, 0.9])
    command = [str(Path(sys.executable).with_name("dicom-node")), "evaluate", "layer"]
    for words in (["--seeds", str(path)], ["--seeds", str(path), "--summary"]):
        done = subprocess.run(
            [*command, *words], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "two trainings" in done.stderr or "exclude each other" in done.stderr
