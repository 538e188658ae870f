"""Evaluate the layer analysis against the planted truth of simulated people it was never trained on.

Everybody is examined once, by the steps of the node; all tables and figures come from these records.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table as View

from models.evaluation import (
    baseline,
    calibration,
    ceiling,
    figures,
    gate,
    rule_tables,
    segmentation,
    shifts,
    summary,
    text,
    transfer,
)
from models.evaluation.cohort import Cohort, each, simulate
from models.evaluation.decision import Group, Trial, prepare
from models.evaluation.drivers import Bench, Result, try_rule
from models.evaluation.examination import (
    Examination,
    examine_changes,
    examine_in_full,
    has_gate,
)
from models.evaluation.interventions import intervene
from models.evaluation.person import examine
from models.evaluation.rules import RULES
from models.evaluation.tables import Table
from models.layer.weights import Weights, load_weights
from models.phantom import Protocol, varied_request
from models.phantom.cohort import Split
from models.training.config import SHIPPED
from models.training.config import load as load_config

PARTS = ("segmentation", "shifts", "transfer", "negatives", "rules", "text")
SUMMARY = ("segmentation", "transfer")
"""What a spread over trainings needs."""
MANY_PEOPLE = 100
"""From this many scans on, starting several processes pays."""
ENOUGH = 20
"""Volumes from which on all rules are tried."""
SHIFT_COHORT, BENCH_COHORT, NEGATIVE_COHORT, LABEL_SEEDS = 10, 11, 12, (0, 1, 2)
FOREIGN_SEEDS = range(300, 324)
FEW_RULES = ("muscle stiffness", "none")


@dataclass(frozen=True, slots=True)
class Plan:
    """Which weights, on how many people of which test cohorts, with how many processes, and what of it."""

    folder: Path
    volumes: int
    cohorts: tuple[int, ...] = (0, 1, 2)
    processes: int = 2
    protocol: Protocol = Protocol(slices=4, shear_wave=True)
    parts: tuple[str, ...] = PARTS
    split: Split = "test"

    def some(self, share: float, least: int = 1) -> int:
        """A number of people in proportion to ``volumes``."""
        return max(least, round(share * self.volumes))

    @property
    def rules(self) -> tuple[str, ...]:
        """All rules, or a few where the people are too few to tell anyhow."""
        return tuple(RULES) if self.volumes >= ENOUGH else FEW_RULES


@dataclass(slots=True)
class Book:
    """What has been found so far: numbers once per cohort, tables, pictures."""

    numbers: dict[str, list[float]] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    pictures: dict[str, figures.Picture] = field(default_factory=dict)
    lumbar: dict[str, list[str | None]] = field(default_factory=dict)
    made: dict[str, list[str | None]] = field(default_factory=dict)


def evaluate(plan: Plan, out: Path | None, console: Console) -> dict[str, list[float]]:
    """Every figure once per cohort; prints all tables, and writes them with the figures into ``out``."""
    begun = time.time()
    torch.set_num_threads(1)
    weights = load_weights(plan.folder)
    book = Book()
    cohorts = _cohorts(plan)
    judge = summary.Judge(weights, baseline.load(plan.folder))
    book.numbers, table = summary.figures(cohorts, judge)
    everybody = [item for cohort in cohorts for item in cohort]
    told = summary.said_of([item.person for item in everybody], judge)
    book.tables += [table, calibration.own_table(told)]
    if "segmentation" in plan.parts:
        book.tables += segmentation.tables(cohorts)
        book.tables.append(_ceiling(plan))
        book.lumbar["simulated people"] = [item.refusal for item in everybody]
        book.pictures |= figures.of_segmentation(segmentation.overlap(everybody))
    for part, add in ADDERS.items():
        if part in plan.parts:
            add(book, plan)
    if {"rules", "text"} & set(plan.parts):
        _rules(book, plan, weights, cohorts)
    if book.lumbar:
        book.tables.append(gate.table(book.lumbar, book.made, has_gate(plan.folder)))
    words = _words(plan, weights, time.time() - begun)
    for table in book.tables:
        _show(table, console)
    console.print(words)
    if out:
        _write(book, plan, weights, out, words)
    return book.numbers


def _cohorts(plan: Plan) -> list[list[Examination]]:
    make = partial(examine_in_full, protocol=plan.protocol, folder=plan.folder)
    seeds = [seed for number in plan.cohorts for seed in _seeds(plan, plan.split, number)]
    found = each(make, seeds, _processes(plan, len(seeds)), f"Examine {len(seeds)} test people")
    return [found[start : start + plan.volumes] for start in range(0, len(found), plan.volumes)]


def _seeds(plan: Plan, split: Split, number: int, count: int = 0) -> list[int]:
    return Cohort(split, number, count or plan.volumes, plan.protocol).seeds()


def _processes(plan: Plan, people: int) -> int:
    return plan.processes if people >= MANY_PEOPLE else 1


def _ceiling(plan: Plan) -> Table:
    seeds = [seed for number in plan.cohorts for seed in _seeds(plan, plan.split, number)]
    return ceiling.table([ceiling.mark(seed, plan.protocol) for seed in seeds])


def _shifts(book: Book, plan: Plan) -> None:
    """People with a linear probe, so that a curved one is a change for all of them."""
    wanted = plan.some(1 / 3)
    seeds = [
        seed
        for seed in _seeds(plan, plan.split, SHIFT_COHORT, 2 * wanted + 8)
        if not varied_request(seed, plan.protocol).convex
    ][:wanted]
    changes = tuple(shifts.CHANGES.values())
    make = partial(examine_changes, changes=changes, protocol=plan.protocol, folder=plan.folder)
    words = f"Examine {len(seeds)} people under {len(changes)} shifts"
    found = each(make, seeds, _processes(plan, len(seeds) * len(changes)), words)
    examined = dict(zip(shifts.CHANGES, zip(*found, strict=True), strict=True))
    book.tables.append(shifts.table(examined))
    book.pictures["shifts"] = figures.of_shifts(shifts.shifts(examined))
    book.lumbar |= {
        f"the same under {name}": [item.refusal for item in people]
        for name, people in examined.items()
        if name != shifts.UNCHANGED
    }


def _transfer(book: Book, plan: Plan) -> None:
    seeds = FOREIGN_SEEDS[: plan.some(0.2)]
    make = partial(transfer.examine_foreign, folder=plan.folder)
    words = f"Examine {len(seeds)} volumes of the second simulator"
    found = each(make, seeds, _processes(plan, len(seeds)), words)
    book.tables.append(transfer.table(found))
    book.lumbar["the second simulator"] = [item.refusal for item in found]


def _negatives(book: Book, plan: Plan) -> None:
    """Made images of every kind that the gate was fitted against, where there is one to judge them."""
    if not has_gate(plan.folder):
        return
    made = gate.kinds_of(_seeds(plan, plan.split, NEGATIVE_COHORT, plan.some(2, 2)))
    make = partial(gate.refusal_of_made, protocol=Protocol(slices=3), folder=plan.folder)
    found = each(
        make, made, _processes(plan, len(made)), f"Make {len(made)} images of no lower back"
    )
    for (kind, _), reason in zip(made, found, strict=True):
        book.made.setdefault(kind, []).append(reason)


ADDERS = {"shifts": _shifts, "transfer": _transfer, "negatives": _negatives}


def _rules(
    book: Book, plan: Plan, weights: Weights, cohorts: Sequence[Sequence[Examination]]
) -> None:
    """Everything that needs training people: examined once, labeled anew for every rule."""
    trial = _trial(plan, weights, cohorts)
    if "rules" in plan.parts:
        results = _try_rules(plan, trial)
        sizes = ", ".join(
            f"{len(group.people)} {words}"
            for group, words in ((trial.train, "train"), (trial.test, "test people"))
        )
        book.tables += rule_tables.tables(results, f"{sizes}.")
        decisions = [item for result in results for item in result.decisions]
        book.tables.append(calibration.rules_table(decisions, len(trial.test.people)))
        book.pictures |= figures.of_rules(results)
    if "text" in plan.parts:
        book.tables.append(text.table(trial, _readers(plan, trial)))


def _trial(plan: Plan, weights: Weights, cohorts: Sequence[Sequence[Examination]]) -> Trial:
    config = load_config(SHIPPED)
    seeds = {
        "train": _seeds(plan, "train", config.cohort + 1, plan.some(8, 16)),
        "validation": _seeds(plan, "validation", config.cohort, plan.some(2, 8)),
    }
    every = [seed for part in seeds.values() for seed in part]
    make = partial(examine, protocol=plan.protocol, folder=plan.folder)
    words = f"Examine {len(every)} people to fit heads to"
    people = each(make, every, _processes(plan, len(every)), words)
    count = len(seeds["train"])
    test = [seed for number in plan.cohorts for seed in _seeds(plan, plan.split, number)]
    groups = (
        Group(seeds["train"], people[:count]),
        Group(seeds["validation"], people[count:]),
        Group(test, [item.person for cohort in cohorts for item in cohort]),
    )
    return prepare(weights, groups, config.pain)


def _try_rules(plan: Plan, trial: Trial) -> list[Result]:
    cohort = Cohort(plan.split, BENCH_COHORT, plan.some(1 / 3), plan.protocol)
    make = partial(intervene, protocol=plan.protocol, folder=plan.folder)
    words = f"Intervene in {cohort.count} scans"
    scans = simulate(make, cohort, _processes(plan, 20 * cohort.count), words)
    bench = Bench(trial, scans, LABEL_SEEDS, plan.some(0.1))
    words = f"Try {len(plan.rules)} planted rules"
    processes = _processes(plan, 5 * plan.volumes)
    return each(partial(try_rule, bench=bench), plan.rules, processes, words)


def _readers(plan: Plan, trial: Trial) -> text.Readers:
    counts = plan.some(1.5, 8), plan.some(0.5, 4), plan.volumes
    groups = tuple(
        Group(group.seeds[:count], group.people[:count])
        for group, count in zip((trial.train, trial.validation, trial.test), counts, strict=True)
    )
    seeds = [seed for group in groups for seed in group.seeds]
    make = partial(text.write_and_examine, protocol=plan.protocol, folder=plan.folder)
    words = f"Write into {len(seeds)} scans"
    found = iter(each(make, seeds, _processes(plan, len(seeds)), words))
    written = {}
    for number, group in enumerate(groups):
        people = [next(found) for _ in group.seeds]
        for index, place in enumerate(text.PLACES):
            written[number, place] = [item[index] for item in people]
    return text.Readers((groups[0], groups[1], groups[2]), written)


def _show(table: Table, console: Console) -> None:
    view = View(*table.columns, title=table.title, caption=table.note)
    for row in table.texts():
        view.add_row(*row)
    console.print(view)


def _words(plan: Plan, weights: Weights, seconds: float) -> str:
    return (
        f"{plan.volumes} simulated people in each of {len(plan.cohorts)} {plan.split} cohorts "
        f"({', '.join(map(str, plan.cohorts))}), weights {weights.sha256[:16]}, {seconds / 60:.1f} minutes. "
        "Simulation only: no figure transfers to patients."
    )


def _write(book: Book, plan: Plan, weights: Weights, out: Path, words: str) -> None:
    """``evaluation.json`` for programs, ``evaluation.md`` for readers, one PNG per figure."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "weights_sha256": weights.sha256,
        "statement": weights.statement,
        "volumes": plan.volumes,
        "split": plan.split,
        "cohorts": list(plan.cohorts),
        "figures": {
            name: [value if np.isfinite(value) else None for value in values]
            for name, values in book.numbers.items()
        },
        "tables": {table.name: table.describe() for table in book.tables},
    }
    (out / "evaluation.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    pictures = [f"![{name}]({name}.png)" for name in book.pictures]
    parts = ["# Evaluation", words, *(table.markdown() for table in book.tables), *pictures]
    (out / "evaluation.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    for name, picture in book.pictures.items():
        picture.savefig(out / f"{name}.png", dpi=150)
