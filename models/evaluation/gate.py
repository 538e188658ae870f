"""Gate: which scans of a lower back it wrongly refuses, and which made images of none it lets pass."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from models.evaluation.examination import refusal
from models.evaluation.person import find_layers, weights_of
from models.evaluation.tables import Cell, Table, mean
from models.phantom import Protocol, varied_request
from models.training.negatives import KINDS, make_negative

NO_LAYER = "No tissue layer was found in the images."
Reasons = Sequence[str | None]


def kinds_of(seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Kind and seed of each made image: one kind after the other."""
    kinds = list(KINDS)
    return [(kinds[number % len(kinds)], seed) for number, seed in enumerate(seeds)]


def refusal_of_made(made: tuple[str, int], protocol: Protocol, folder: Path) -> str | None:
    """Make one image of a kind that shows no lower back; why it is refused, or None. One thread."""
    torch.set_num_threads(1)
    kind, seed = made
    scan = make_negative(seed, kind, varied_request(seed, protocol))
    layers = find_layers(scan, weights_of(folder))
    return refusal(scan, layers, folder) if layers.labelmap.any() else NO_LAYER


def table(lumbar: Mapping[str, Reasons], made: Mapping[str, Reasons], there: bool) -> Table:
    """Share of scans that are refused, by where they come from, with the most frequent reason.

    ``made`` goes by kind; ``there`` says whether the weights have a gate at all.
    """
    rows = [_row(name, "yes", reasons) for name, reasons in lumbar.items()]
    rows += [_row(f"made: {kind}", "no", reasons) for kind, reasons in made.items()]
    if made:
        rows.append(_pooled(made))
    note = (
        "Scans that show the layers of a lower back must pass, so every refusal of one is wrong; made images "
        "that show none must be refused. These are of the kinds that the gate was fitted against, of seeds "
        "that it never saw: what it does with other images is not measured here. One in which no layer is "
        "found counts as refused, as the node refuses it."
    )
    if not there:
        note = "These weights have no gate (place.toml): nothing was judged."
    columns = ("Scans of", "Lower back", "Scans", "Refused share", "Most frequent reason")
    return Table("gate", "Gate", note, columns, tuple(rows) if there else ())


def _row(name: str, lumbar: str, reasons: Reasons) -> tuple[Cell, ...]:
    said = [reason for reason in reasons if reason]
    most = max(set(said), key=said.count) if said else ""
    return name, lumbar, len(reasons), _share(reasons), most


def _pooled(made: Mapping[str, Reasons]) -> tuple[Cell, ...]:
    every = [reason for reasons in made.values() for reason in reasons]
    worst = min(made, key=lambda kind: _share(made[kind]))
    words = f"least often: {worst}, {_share(made[worst]):.3f}"
    return "made, all kinds", "no", len(every), _share(every), words


def _share(reasons: Reasons) -> float:
    return mean([float(bool(reason)) for reason in reasons])
