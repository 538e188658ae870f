"""Site: fine-tune the shipped networks on a site's own data, split by subject, resumable at any step."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import nn

from models.evaluation.metrics import dice
from models.layer.network import LAYERS
from models.layer.weights import Segmenter, Weights, load_weights, save_weights
from models.training.config import Config, ConfigError, SiteConfig, load
from models.training.data import Sweep
from models.training.dataset import (
    Dataset,
    digest_of,
    layer_names,
    open_dataset,
    read_example,
    sweeps_of,
)
from models.training.progress import Keeper, Plan, write_curves
from models.training.segment import fit_segmentation
from models.training.shipped import GATE_KEPT, SHIPPED, copy_gate
from models.training.site_pain import fit_pain
from models.training.subjects import Words, also_held_out, held_out, read_words

SLICES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Split:
    """The subjects that validate, of those with masks and of those with a pain label."""

    masks: frozenset[str]
    pain: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is learned from: sweeps of the subjects that learn, and per validating scan those held out."""

    learn: tuple[Sweep, ...]
    validate: tuple[tuple[Sweep, ...], ...]
    split: Split
    sha256: str
    counts: str


EXAMPLES = "examples"
"""Folder in the one for results that holds what was made of DICOM."""


def train_site(config_path: Path, data: Path, out: Path) -> None:
    """Fine-tune on the NIfTI pairs of ``data``, or on ``out/examples``; weights and curves go to ``out``.

    The same call again continues from the last checkpoint. Raises DatasetError, ConfigError, ResumeError.
    """
    console = Console(soft_wrap=True)
    site, config = _settings(load(config_path))
    torch.set_num_threads(config.threads)
    words = read_words(data)
    dataset = open_dataset(out / EXAMPLES if (out / EXAMPLES).exists() else data, data, words)
    for line in dataset.summary:
        console.print(line, highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    begun = load_weights(SHIPPED)
    material = _material(dataset, words, config, out)
    console.print(material.counts, highlight=False)
    keeper = _keeper(config, site, material, out, begun)
    fitted = fit_segmentation(material.learn, config, keeper)
    write_curves(keeper, layer_names())
    row_mm, column_mm = config.segment.spacing_mm
    made = replace(begun, segment=Segmenter(fitted.network, (row_mm, column_mm)))
    made, said = _with_pain(made, dataset, words, material, config)
    save_weights(out, replace(made, statement=_statement(config, material, begun, keeper, said)))
    copy_gate(out)
    for line in (*said, GATE_KEPT):
        console.print(line, highlight=False)
    _report(console, keeper, site, out)


def _with_pain(
    made: Weights, dataset: Dataset, words: Words, material: Material, config: Config
) -> tuple[Weights, tuple[str, ...]]:
    """The same with pain networks fitted on the layers that the new segmentation network finds."""
    if not dataset.with_pain:
        return made, ("Pain networks: as in the weights it began from; no study has a pain label",)
    return fit_pain(made, dataset.with_pain, words, material.split.pain, config)


def _settings(config: Config) -> tuple[SiteConfig, Config]:
    """The part of the configuration for a site, and the rest with the site's steps and learning rate."""
    site = config.site
    if site is None:
        raise ConfigError(
            "the configuration has no part [site]; the layer.toml that `dicom-node init` writes has one"
        )
    part = replace(config.segment, steps=site.steps, learning_rate=site.learning_rate)
    return site, replace(config, segment=part)


def _material(dataset: Dataset, words: Words, config: Config, out: Path) -> Material:
    """Read every annotated scan once; who validates is decided by subject and written to split.csv."""
    annotated, split = dataset.annotated, _split(dataset, config)
    apart = split.masks
    _write_split(out / "split.csv", dataset, split)
    row_mm, column_mm = config.segment.spacing_mm
    parts = []
    for item in track(annotated, "Read scans and masks"):
        scan, labels = read_example(item, words)
        assert labels is not None
        parts.append(sweeps_of(scan, labels, (row_mm, column_mm)))
    learn = [
        sweep
        for item, some in zip(annotated, parts, strict=True)
        if item.row.subject not in apart
        for sweep in some
    ]
    validate = [
        some for item, some in zip(annotated, parts, strict=True) if item.row.subject in apart
    ]
    slices = [sum(len(sweep.gray) for sweep in some) for some in (learn, sum(validate, ()))]
    people = len({item.row.subject for item in annotated})
    counts = (
        f"learn from {people - len(apart)} subjects, {slices[0]} annotated slices; "
        f"validate on {len(apart)} subjects, {slices[1]} annotated slices"
    )
    if own := sum(item.own for item in annotated):
        counts += f"; masks of {own} of {len(annotated)} scans are this program's own results"
    return Material(tuple(learn), tuple(validate), split, digest_of(annotated, parts), counts)


def _split(dataset: Dataset, config: Config) -> Split:
    """By subject. Whoever taught the segmentation may not judge the pain networks that build on it."""
    assert config.site is not None
    share, seed = config.site.validation_share, config.seed
    drawn = frozenset(item.row.subject for item in dataset.annotated)
    masks = held_out(drawn, share, seed)
    labeled = {item.row.subject for item in dataset.with_pain}
    return Split(masks, also_held_out(labeled, (drawn - masks, masks), share, seed))


def _write_split(path: Path, dataset: Dataset, split: Split) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "study", "masks", "pain"])
        for item in dataset.examples:
            name = item.row.subject
            writer.writerow(
                [
                    name,
                    item.row.study,
                    _part(item.labels is not None, name in split.masks),
                    _part(item.row.pain is not None, name in split.pain),
                ]
            )


def _part(used: bool, apart: bool) -> str:
    return ("validate" if apart else "learn") if used else ""


def _keeper(
    config: Config, site: SiteConfig, material: Material, out: Path, begun: Weights
) -> Keeper:
    plan = Plan(
        out,
        site.steps,
        site.checkpoint_steps,
        site.validation_steps,
        site.patience,
        {
            "configuration": config.digest,
            "data": material.sha256,
            "split": hashlib.sha256(repr(sorted(material.split.masks)).encode()).hexdigest(),
            "start": begun.sha256,
        },
    )
    neighbors = config.segment.neighbors
    start = None
    if site.start == "shipped":
        _check_same(config, begun.segment)
        start = begun.segment.network.state_dict()
    return Keeper(
        plan, lambda network: dice_per_layer(network, material.validate, neighbors), start
    )


def _check_same(config: Config, segmenter: Segmenter) -> None:
    part, network = config.segment, segmenter.network
    here = (tuple(part.spacing_mm), part.neighbors, tuple(part.channels))
    there = (segmenter.spacing_mm, network.neighbors, network.channels)
    for name, ours, theirs in zip(
        ("spacing_mm", "neighbors", "channels"), here, there, strict=True
    ):
        if ours != theirs:
            raise ConfigError(
                f"segment.{name} is {ours}, the shipped weights have {theirs}: take that, or "
                'site.start = "scratch"'
            )


def dice_per_layer(
    network: nn.Module, scans: Sequence[Sequence[Sweep]], neighbors: int
) -> tuple[float, ...]:
    """Mean over scans of the Dice of each layer, of the most probable label of each pixel.

    Rows of the found labels are repeated where the true ones are finer.
    """
    table = []
    for sweeps in scans:
        found = np.concatenate([_labels(network, item, neighbors).ravel() for item in sweeps])
        true = np.concatenate([item.labels.ravel() for item in sweeps])
        table.append([dice(found == layer, true == layer) for layer in range(1, LAYERS + 1)])
    values = np.array(table)
    known = ~np.isnan(values)
    means = np.nansum(values, 0) / np.maximum(known.sum(0), 1)
    return tuple(
        float(mean) if some else float("nan")
        for mean, some in zip(means, known.any(0), strict=True)
    )


def _labels(network: nn.Module, sweep: Sweep, neighbors: int) -> NDArray[np.uint8]:
    image = torch.from_numpy(np.ascontiguousarray(sweep.gray)).float()
    found = []
    for start in range(0, len(image), SLICES_AT_ONCE):
        middle = torch.arange(start, min(start + SLICES_AT_ONCE, len(image)))
        around = middle[:, None] + torch.arange(-neighbors, neighbors + 1)
        stack = image[around.clamp(0, len(image) - 1)]
        found.append(network(stack.contiguous(memory_format=torch.channels_last)).argmax(1))
    labels: NDArray[np.uint8] = torch.cat(found).numpy().astype(np.uint8)
    return labels.repeat(sweep.labels.shape[1] // sweep.gray.shape[1], axis=1)


def _statement(
    config: Config, material: Material, begun: Weights, keeper: Keeper, said: Sequence[str]
) -> str:
    """What the card says of these weights."""
    assert config.site is not None
    origin = (
        "from nothing" if config.site.start == "scratch" else f"from weights {begun.sha256[:16]}"
    )
    pain = "; ".join(line for line in said if line.startswith("Pain"))
    return (
        f"Segmentation trained on a site's own data, begun {origin}: {material.counts}; validation Dice "
        f"{keeper.best.mean:.3f} after {keeper.best.step} steps; data sha256 {material.sha256}, "
        f"configuration sha256 {config.digest}. {pain} (weights {begun.sha256[:16]}: simulation only). "
        "Research use only."
    )


def _report(console: Console, keeper: Keeper, site: SiteConfig, out: Path) -> None:
    first, best = keeper.validations[0], keeper.best
    ended = "" if len(keeper.losses) == site.steps else "; stopped early, as it did not get better"
    console.print(
        f"Validation Dice {first.mean:.3f} before, {best.mean:.3f} after {best.step} steps "
        f"(of {len(keeper.losses)}{ended})",
        highlight=False,
    )
    for name, before, after in zip(layer_names(), first.dice, best.dice, strict=True):
        console.print(f"  {name:30} {before:.3f}  {after:.3f}", highlight=False)
    if best.step == 0:
        console.print(
            "[yellow]Nothing was gained:[/] the weights it began from did best and are kept."
        )
    console.print(
        f"\nWeights and card are in {out}. A node uses them by one line below [analyze]:",
        markup=False,
    )
    console.print(f'weights = [{{ analysis = "layer", folder = "{out.resolve()}" }}]', markup=False)
