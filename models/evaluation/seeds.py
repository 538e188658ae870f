"""Seeds: the spread of an evaluation's figures over trainings that differ in their seed alone.

Reads what ``evaluate`` wrote of each training; no network is needed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.evaluation import EvaluationError
from models.evaluation.tables import Cell, Table, mean, spread

FILE = "evaluation.json"
COMPARED = ("volumes", "split", "cohorts")
"""What must be equal, as otherwise the test people differ."""
CELLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "absent": ("of these reported absent", "of these missed"),
        "confidence": ("Spearman", "Predicted less true", "Invented"),
        "order": ("Columns in order",),
        "calibration": ("Calibration error", "Slope", "Intercept"),
        "transfer": ("Dice", "Mean |thickness error| mm", "Measured share"),
        "gate": ("Refused share",),
    }
)
"""Numbers that stand in tables and not among the figures: table, its columns. Rows go by their first cell."""
Numbers = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Run:
    """One training's evaluation: short name, digest of the weights, each figure once per cohort."""

    name: str
    sha256: str
    figures: Numbers
    cells: Numbers
    compared: tuple[Any, ...]


def write_seeds(paths: Sequence[Path], out: Path) -> str:
    """Write seeds.md and seeds.json into ``out``; returns the former.

    ``paths`` are evaluation.json of each training, or the folders they lie in. Raises EvaluationError where
    they cannot be compared.
    """
    runs = [read(path) for path in paths]
    _check(runs)
    table = spread_table(runs)
    out.mkdir(parents=True, exist_ok=True)
    weights = {run.name: run.sha256 for run in runs}
    content = {"weights_sha256": weights, "tables": {table.name: table.describe()}}
    (out / "seeds.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    names = ", ".join(f"{name}: weights {digest[:16]}" for name, digest in weights.items())
    text = f"# Spread over training seeds\n\n{names}. Simulation only.\n\n{table.markdown()}"
    (out / "seeds.md").write_text(text, encoding="utf-8")
    return text


def read(path: Path) -> Run:
    """One evaluation.json. Raises EvaluationError where it is none, or of an older form."""
    path = path.resolve()
    file = path / FILE if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Run(
            file.parent.name,
            found["weights_sha256"],
            {name: _numbers(values) for name, values in found["figures"].items()},
            dict(_cells(found["tables"])),
            tuple(found[key] for key in COMPARED),
        )
    except FileNotFoundError as error:
        raise EvaluationError(f"{file} is missing: run `evaluate layer --out` first") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{file} is not an evaluation: {error}") from error
    except KeyError as error:
        raise EvaluationError(
            f"{file} has no {error.args[0]}: it is of another version; run `evaluate layer` again"
        ) from error


def spread_table(runs: Sequence[Run]) -> Table:
    """One row per figure: mean and SD over runs, SD over cohorts within a run, then each run."""
    rows = [_row(name, [run.figures[name] for run in runs]) for name in runs[0].figures]
    for name in runs[0].cells:
        if all(name in run.cells for run in runs):
            rows.append(_row(name, [run.cells[name] for run in runs]))
    return Table(
        "seeds",
        "Figures over training seeds",
        f"{len(runs)} trainings, each tested on the same people. A training's figure is its mean over "
        "cohorts; the SD of cohorts is the mean of the trainings'. Where a training has no number, it is a "
        "dash and not in the mean.",
        ("Figure", "Mean", "SD of seeds", "SD of cohorts", *(run.name for run in runs)),
        tuple(rows),
    )


def _row(name: str, values: Sequence[Sequence[float]]) -> tuple[Cell, ...]:
    means = [mean(of_cohorts) for of_cohorts in values]
    within = mean([spread(of_cohorts) for of_cohorts in values])
    return (name, mean(means), spread(means), within, *means)


def _cells(tables: Mapping[str, Any]) -> Iterable[tuple[str, list[float]]]:
    """Name and number of each cell that is wanted of the tables that are there."""
    for name in (name for name in tables if name in CELLS):
        table = tables[name]
        for row in table["rows"]:
            label = next(iter(row.values()))
            for column in CELLS[name]:
                yield f"{table['title']}, {label}, {column}", _numbers([row[column]])


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]


def _check(runs: Sequence[Run]) -> None:
    """Raise EvaluationError unless these are different weights, tested in the same way."""
    if len(runs) < 2:
        raise EvaluationError("a spread over seeds needs evaluations of at least two trainings")
    for what in ("sha256", "name"):
        seen = [getattr(run, what) for run in runs]
        twice = next((value for value in seen if seen.count(value) > 1), None)
        if twice:
            words = "of the same weights" if what == "sha256" else "in folders of the same name"
            raise EvaluationError(f"two of the evaluations are {words}: {twice}")
    first = runs[0]
    for run in runs[1:]:
        if run.compared != first.compared:
            raise EvaluationError(
                f"{first.name} and {run.name} were not tested on the same people: "
                f"{', '.join(COMPARED)} are {first.compared} and {run.compared}"
            )
        if run.figures.keys() != first.figures.keys():
            odd = sorted(run.figures.keys() ^ first.figures.keys())[0]
            raise EvaluationError(
                f"{first.name} and {run.name} do not hold the same figures, as {odd!r}: they are of "
                "different versions; run `evaluate layer` again"
            )
