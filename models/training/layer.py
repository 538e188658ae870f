"""Train the layer analysis: segmentation first, then both pain networks on what it finds."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from models.evaluation import baseline
from models.evaluation.cohort import Cohort, simulate
from models.evaluation.metrics import auc
from models.evaluation.person import SHEAR_WAVE, Person, examine
from models.layer.pain import PainNetwork
from models.layer.weights import Classifier, Segmenter, Weights, load_weights, save_weights
from models.phantom import Protocol
from models.training import place
from models.training.config import Config
from models.training.pain import (
    Features,
    features_of,
    fit_heads,
    fit_readouts,
    set_references,
    temperature_of,
)
from models.training.segment import Fitted, fit_segmentation, simulated_sweeps

NEGATIVES_PER_PERSON = 3.6  # of the gate: many kinds of them, and two scans of each person


def train(config: Config, out: Path, console: Console) -> None:
    """Write weights, card and baseline into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    fitted = fit_segmentation(simulated_sweeps(config), config)
    _write_losses(out, fitted)
    # The pain networks learn from the layers that this network finds: the node will have no others.
    save_weights(out, _untrained(config, fitted))
    people = _people(config, out)
    train_features, validation = features_of(people[0]), features_of(people[1])
    weights = load_weights(out)
    weights = replace(
        weights,
        pain_b=_fit(weights.pain_b, train_features, validation, config),
        pain_bswe=_fit(weights.pain_bswe, train_features, validation, config),
    )
    save_weights(out, weights)
    _save_baseline(out, *people)
    if config.gate_people:
        place.fit(out, out, _gate_size(config))
    _report(console, load_weights(out), people[1], validation)


def _untrained(config: Config, fitted: Fitted) -> Weights:
    """The fitted segmentation network and two pain networks with the same random texture filters."""
    torch.manual_seed(config.seed)
    part = config.pain
    b_mode = PainNetwork(("b-mode",), part.texture_maps)
    with_shear_wave = PainNetwork(SHEAR_WAVE, part.texture_maps)
    with_shear_wave.texture.load_state_dict(b_mode.texture.state_dict())
    row_mm, column_mm = part.spacing_mm
    segment_row_mm, segment_column_mm = config.segment.spacing_mm
    return Weights(
        version="1",
        statement=(
            f"Trained on simulation only: {config.segment.volumes} simulated sweeps for segmentation, "
            f"{part.volumes} for pain, {part.validation_volumes} for calibration; cohort {config.cohort}, "
            f"seed {config.seed}, configuration sha256 {config.sha256}. Research use only."
        ),
        segment=Segmenter(fitted.network, (segment_row_mm, segment_column_mm)),
        pain_b=Classifier(b_mode, (row_mm, column_mm)),
        pain_bswe=Classifier(with_shear_wave, (row_mm, column_mm)),
    )


def _people(config: Config, folder: Path) -> tuple[list[Person], list[Person]]:
    """Training and validation people, examined with the new segmentation network."""
    part = config.pain
    protocol = Protocol(slices=part.slices, shear_wave=True)
    make = partial(examine, protocol=protocol, folder=folder)
    train = Cohort("train", config.cohort + 1, part.volumes, protocol)
    validation = Cohort("validation", config.cohort, part.validation_volumes, protocol)
    return (
        simulate(make, train, config.processes, f"Examine {train.count} people (train)"),
        simulate(
            make, validation, config.processes, f"Examine {validation.count} people (validation)"
        ),
    )


def _fit(
    classifier: Classifier, train: Features, validation: Features, config: Config
) -> Classifier:
    network = classifier.network
    set_references(network, train)
    fit_readouts(network, train)
    fit_heads(network, train, validation, config.pain)
    return replace(classifier, temperature=temperature_of(network, validation))


def _save_baseline(out: Path, train: Sequence[Person], validation: Sequence[Person]) -> None:
    fits = []
    for shear in (False, True):
        learn, check = (
            (
                baseline.plain_features(people, shear),
                np.array([person.pain for person in people]),
            )
            for people in (train, validation)
        )
        fits.append(baseline.fit_validated(learn, check))
    baseline.save(out, *fits)


def _gate_size(config: Config) -> place.Size:
    people = config.gate_people
    return place.Size(people, round(NEGATIVES_PER_PERSON * people), people, config.processes)


def _write_losses(out: Path, fitted: Fitted) -> None:
    lines = [f"{step},{loss:.5f}" for step, loss in enumerate(fitted.losses)]
    (out / "segment_loss.csv").write_text("step,loss\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _report(
    console: Console, weights: Weights, people: Sequence[Person], features: Features
) -> None:
    """Validation figures; figures to publish come from ``evaluate``, on people never seen here."""
    dice = np.nanmean(np.stack([person.dice for person in people]), axis=0)
    console.print(
        f"Validation: mean Dice {dice.mean():.3f}, per layer {np.round(dice, 3).tolist()}"
    )
    latent = auc([person.latent for person in people], features.pain.numpy())
    for name, item in (("B-mode", weights.pain_b), ("B-mode + shear wave", weights.pain_bswe)):
        with torch.inference_mode():
            logit = item.network.logit(features.pooled, features.measured)
        area = auc(logit.numpy(), features.pain.numpy())
        console.print(f"{name}: AUC {area:.3f} (planted latent {latent:.3f}), T {item.temperature}")
    console.print(f"Weights {weights.sha256[:16]}, {weights.statement}")
