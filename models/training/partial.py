"""Partial annotation: what a segmentation network learns when only every n-th slice has a mask.

The setting of InterSliceBoost, on simulated sweeps. Small networks learn in three ways from the same people:
``labeled``, from the annotated slices alone; ``generated``, also from slices and masks that a generator makes
midway between annotated neighbors; ``interpolated``, also from the real slices between them with masks by
shape-based interpolation. Beside them all slices, of all people and of a quarter of them: what to annotate
more of. Scored on people never seen.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.evaluation.metrics import dice
from models.layer.labels import SEGMENTS
from models.phantom import PhantomRequest, person_seed, synthesize
from models.phantom.cohort import Split
from models.training.between import CLASSES, Generator, interpolate, pair_of

ALL, FEW = "all slices", "all slices of a quarter of the people"
PAPER = {
    "Dermis": 73.48,
    "Superficial fat": 61.11,
    "Superficial fascial membrane": 81.87,
    "Deep fat": 95.74,
    "Deep fascial membrane": 83.52,
    "Muscle": 88.74,
}
"""InterSliceBoost with a third of the slices, other images and another network: no comparison, a form."""


@dataclass(frozen=True, slots=True)
class PartialPlan:
    """The experiment. ``every``: one slice in so many has a mask. ``seeds``: cohorts of other people.

    ``test_step``: of each person tested, one slice in so many. ``averaging``: share of the old weights in the
    running mean that is scored, which takes most of the chance of the last steps out.

    With slices = 1 + a multiple of every ``every``, the first and the last slice always have masks.
    """

    seeds: tuple[int, ...] = (50, 51, 52)
    every: tuple[int, ...] = (2, 3, 4, 8)
    train_people: int = 16
    test_people: int = 20
    test_step: int = 4
    split: Split = "test"
    shape: tuple[int, int, int] = (25, 128, 64)
    spacing_mm: tuple[float, float, float] = (0.8, 0.3, 0.4)
    channels: tuple[int, ...] = (12, 24, 48, 64)
    steps: int = 250
    batch: int = 6
    learning_rate: float = 0.005
    averaging: float = 0.97
    generator_steps: int = 150
    generator_width: int = 8
    generator_batch: int = 6
    generator_crop: tuple[int, int] = (64, 32)


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One person: gray levels and true labels, uint8 (slice, row, column)."""

    gray: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Slices to learn from, and the masks that are taken for theirs: uint8 (slice, row, column).

    ``made`` and ``true`` are masks that nobody drew and the truth where they lie, to judge them; both may be
    empty, and are never learned from.
    """

    gray: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    made: NDArray[np.uint8]
    true: NDArray[np.uint8]


Way = Callable[[Sequence[Sweep], int, PartialPlan], Pool]


def people(split: Split, cohort: int, count: int, plan: PartialPlan) -> list[Sweep]:
    """Simulated people straight on the analysis grid."""
    request = PhantomRequest(plan.shape, plan.spacing_mm)
    made = (synthesize(person_seed(split, cohort, number), request) for number in range(count))
    return [
        Sweep(np.clip(np.rint(item.scan.channel("b-mode")), 0, 255).astype(np.uint8), item.labelmap)
        for item in made
    ]


def labeled(sweeps: Sequence[Sweep], every: int, plan: PartialPlan) -> Pool:
    """The annotated slices alone."""
    gray = np.concatenate([item.gray[::every] for item in sweeps])
    labels = np.concatenate([item.labels[::every] for item in sweeps])
    return Pool(gray, labels, labels[:0], labels[:0])


def of_few(sweeps: Sequence[Sweep], every: int, plan: PartialPlan) -> Pool:
    """The annotated slices of a quarter of the people."""
    return labeled(sweeps[: max(1, len(sweeps) // 4)], every, plan)


def interpolated(sweeps: Sequence[Sweep], every: int, plan: PartialPlan) -> Pool:
    """All slices between annotated ones, their masks interpolated."""
    _, row_mm, column_mm = plan.spacing_mm
    gray, labels, true, between = [], [], [], []
    for item in sweeps:
        known = range(0, len(item.gray), every)
        inside = slice(0, known[-1] + 1)
        gray.append(item.gray[inside])
        labels.append(interpolate(item.labels, known, (row_mm, column_mm))[inside])
        true.append(item.labels[inside])
        between.append(np.arange(known[-1] + 1) % every > 0)
    found, chosen = np.concatenate(labels), np.concatenate(between)
    return Pool(np.concatenate(gray), found, found[chosen], np.concatenate(true)[chosen])


def generated(sweeps: Sequence[Sweep], every: int, plan: PartialPlan) -> Pool:
    """The annotated slices, and one generated between each two neighbors; the generator sees no other."""
    own = labeled(sweeps, every, plan)
    known = [pair_of(item.gray[::every], item.labels[::every]) for item in sweeps]
    generator = _fit_generator(known, plan).eval()
    grays, masks = [], []
    with torch.inference_mode():
        for pairs in known:
            image, scores = generator(pairs[:-1], pairs[1:])
            grays.append((255 * image[:, 0]).round().clamp(0, 255).numpy().astype(np.uint8))
            masks.append(scores.argmax(1).numpy().astype(np.uint8))
    made = np.concatenate(masks)
    # Only an even step has a real slice midway.
    true = np.concatenate([item.labels[every // 2 :: every] for item in sweeps])
    return Pool(
        np.concatenate([own.gray, *grays]),
        np.concatenate([own.labels, made]),
        made if every % 2 == 0 else made[:0],
        true if every % 2 == 0 else true[:0],
    )


def _fit_generator(known: Sequence[Tensor], plan: PartialPlan) -> Generator:
    """Learn the middle one of three annotated neighbors from the outer two."""
    generator = Generator(plan.generator_width)
    optimizer = torch.optim.AdamW(generator.parameters(), plan.learning_rate)
    random = np.random.default_rng(0)
    for _ in range(plan.generator_steps):
        one, true, other = _triples(known, random, plan)
        image, scores = generator(one, other)
        loss = functional.l1_loss(image, true[:, :1])
        loss = loss + functional.cross_entropy(scores, true[:, 1:].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return generator


def _triples(
    known: Sequence[Tensor], random: np.random.Generator, plan: PartialPlan
) -> list[Tensor]:
    """Three annotated neighbors of people by chance, the same part of each: 3 x (batch, 8, row, column)."""
    rows, columns = plan.generator_crop
    found = []
    for number in random.integers(len(known), size=plan.generator_batch):
        pairs = known[number]
        first = int(random.integers(len(pairs) - 2))
        top, left = (
            int(random.integers(have - want + 1))
            for have, want in zip(pairs.shape[2:], (rows, columns), strict=True)
        )
        found.append(pairs[first : first + 3, :, top : top + rows, left : left + columns])
    return list(torch.stack(found, 1))


WAYS: dict[str, Way] = {
    "labeled": labeled,
    "generated": generated,
    "interpolated": interpolated,
}


def fit(pool: Pool, seed: int, plan: PartialPlan) -> nn.Module:
    """A small 2D U-Net, cross-entropy and Dice, the same number of steps whatever the pool."""
    torch.manual_seed(seed)
    network = UNet(2, 1, CLASSES, plan.channels, (2,) * (len(plan.channels) - 1), norm="batch")
    optimizer = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.learning_rate, plan.steps, pct_start=0.15
    )
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True, batch=True)
    random = np.random.default_rng(seed)
    mean = AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(plan.averaging), use_buffers=True
    )
    for _ in range(plan.steps):
        image, target = _batch(pool, random, plan)
        loss = loss_of(network(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        mean.update_parameters(network)
    return mean.eval()


def _batch(pool: Pool, random: np.random.Generator, plan: PartialPlan) -> tuple[Tensor, Tensor]:
    """Slices by chance, flipped in half of the cases, with other gain and gray map."""
    chosen = random.integers(len(pool.gray), size=plan.batch)
    image = torch.from_numpy(pool.gray[chosen]).float()[:, None] / 255
    target = torch.from_numpy(pool.labels[chosen]).long()[:, None]
    image = (
        image ** torch.from_numpy(np.exp(random.uniform(-0.3, 0.3, (plan.batch, 1, 1, 1)))).float()
    )
    image = image * torch.from_numpy(random.uniform(0.8, 1.25, (plan.batch, 1, 1, 1))).float()
    if random.random() < 0.5:
        image, target = image.flip(3), target.flip(3)
    return _normal(image), target


def _normal(image: Tensor) -> Tensor:
    return (image - 0.3) / 0.25


def score(network: nn.Module, sweeps: Sequence[Sweep], step: int) -> NDArray[np.float64]:
    """Mean Dice of each layer over people (6,); NaN for a layer that nobody has."""
    table = []
    for item in sweeps:
        image = torch.from_numpy(item.gray[::step]).float()[:, None] / 255
        with torch.inference_mode():
            found = network(_normal(image)).argmax(1).numpy()
        table.append(_dice(found, item.labels[::step]))
    values = np.array(table)
    known = ~np.isnan(values)
    return np.where(known.any(0), np.nansum(values, 0) / np.maximum(known.sum(0), 1), np.nan)


def _dice(found: NDArray[np.integer], true: NDArray[np.integer]) -> list[float]:
    return [dice(found == layer, true == layer) for layer in range(1, CLASSES)]


@dataclass(frozen=True, slots=True)
class Result:
    """Dice of the six layers, one row per seed: on people never seen, and of masks that were made."""

    unseen: list[list[float]] = field(default_factory=list)
    made: list[list[float]] = field(default_factory=list)


Table = dict[str, dict[str, Result]]
"""Share of annotated slices ("1/3") -> way -> figures."""


def run(plan: PartialPlan) -> Table:
    """All trainings, one after another."""
    table: Table = {}
    with Progress() as progress:
        total = len(plan.seeds) * len(list(_runs(plan)))
        task = progress.add_task("Train with part of the masks", total=total)
        for seed in plan.seeds:
            train = people("train", seed, plan.train_people, plan)
            test = people(plan.split, seed, plan.test_people, plan)
            for every, name, way in _runs(plan):
                torch.manual_seed(seed)
                pool = way(train, every, plan)
                dices = score(fit(pool, seed, plan), test, plan.test_step)
                row = table.setdefault(f"1/{every}", {}).setdefault(name, Result())
                row.unseen.append([float(value) for value in dices])
                row.made.append(_dice(pool.made, pool.true))
                progress.update(task, advance=1)
    return table


def _runs(plan: PartialPlan) -> Iterator[tuple[int, str, Way]]:
    yield 1, ALL, labeled
    yield 1, FEW, of_few
    for every in plan.every:
        for name, way in WAYS.items():
            yield every, name, way


def write_partial(out: Path, plan: PartialPlan | None = None) -> str:
    """Run the experiment, write partial.json, partial.md and partial.png into ``out``; returns the table."""
    plan = plan or PartialPlan()
    table = run(plan)
    out.mkdir(parents=True, exist_ok=True)
    figures = {
        share: {way: asdict(found) for way, found in ways.items()} for share, ways in table.items()
    }
    text = json.dumps({"plan": asdict(plan), "dice": figures}, indent=2)
    (out / "partial.json").write_text(text + "\n", encoding="utf-8")
    markdown = markdown_of(table, plan)
    (out / "partial.md").write_text(markdown, encoding="utf-8")
    _draw(table).savefig(out / "partial.png", dpi=120)
    return markdown


def markdown_of(table: Table, plan: PartialPlan) -> str:
    """Dice in percent, mean ± SD over seeds."""
    names = [item.label for item in SEGMENTS]
    lines = [
        f"Simulation only: {plan.train_people} people to learn from, {plan.test_people} others to test, "
        f"{plan.shape[0]} slices {plan.spacing_mm[0]:g} mm apart, {len(plan.seeds)} seeds, each with own "
        "people; Dice %, mean ± SD over seeds. Made masks: those that nobody drew, against the truth, mean "
        "of layers. Change: of the mean against the annotated slices alone, same people and start.",
        "",
        "| slices with mask | learned from | Made masks | Change | Mean | "
        + " | ".join(names)
        + " |",
        "|" + " --- |" * (5 + len(names)),
    ]
    for share, ways in table.items():
        for way, found in ways.items():
            unseen, made = 100 * np.array(found.unseen), 100 * np.array(found.made)
            base = ways.get("labeled", found)
            change = unseen.mean(1) - 100 * np.array(base.unseen).mean(1)
            cells = [
                _cell(made.mean(1)),
                "-" if base is found else _cell(change, "+.1f"),
                _cell(unseen.mean(1)),
                *map(_cell, unseen.T),
            ]
            lines.append(f"| {share} | {way} | " + " | ".join(cells) + " |")
    mean = np.mean(list(PAPER.values()))
    cells = [f"{PAPER[name]:.1f}" for name in names]
    lines += [
        f"| 1/3 | InterSliceBoost, on patients | - | - | {mean:.1f} | " + " | ".join(cells) + " |",
        "",
        "The last row is printed in the paper, of other images and another network: the form, not a rival.",
    ]
    return "\n".join(lines) + "\n"


def _cell(values: NDArray[np.float64], form: str = ".1f") -> str:
    if np.isnan(values).all():
        return "-"
    return f"{values.mean():{form}} ± {values.std(ddof=min(1, len(values) - 1)):.1f}"


def _draw(table: Table) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    shares = [share for share in table if share != "1/1"]
    for number, way in enumerate(WAYS):
        means = np.array(
            [[100 * np.mean(seed) for seed in table[share][way].unseen] for share in shares]
        )
        places = np.arange(len(shares)) + 0.12 * (number - 1)
        axes.plot(places, means.mean(1), marker="o", label=way, color=f"C{number}")
        for place, seeds in zip(places, means, strict=True):
            axes.plot([place] * len(seeds), seeds, ".", color=f"C{number}", alpha=0.5)
    full = 100 * float(np.mean(table["1/1"][ALL].unseen))
    axes.axhline(full, color="0.4", linestyle=":", label=f"{ALL}: {full:.1f}")
    axes.set(
        xticks=range(len(shares)),
        xticklabels=shares,
        xlabel="slices with a mask",
        ylabel="mean Dice %, people never seen",
        title="Partial annotation, simulation only",
    )
    axes.legend()
    return figure
