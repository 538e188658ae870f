"""Burnt-in text: letters in the images of people with pain alone, beside the field and inside its edge.

A network that could see them would tell pain by them. Labels are drawn by chance, so that nothing else
tells anything: the AUC to be wished for is 0.5.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.decision import Group, Trial
from models.evaluation.metrics import auc
from models.evaluation.person import Person, find_layers, person_of, weights_of
from models.evaluation.tables import Table, mean
from models.phantom import Phantom, Protocol, synthesize, varied_request
from models.training.pain import features_of, fit_heads

RULE = "none"
BESIDE, INSIDE = "beside the field", "inside its edge"
PLACES = (BESIDE, INSIDE)
HEIGHT_MM, WIDTH_MM = 3.0, 10.0
LETTER_MM = 0.6
WHITE = 255.0


def write_and_examine(seed: int, protocol: Protocol, folder: Path) -> list[Person]:
    """Simulate one person, put text into one place after the other, examine each scan; one thread."""
    torch.set_num_threads(1)
    weights = weights_of(folder)
    phantom = synthesize(seed, varied_request(seed, protocol))
    people = []
    for place in PLACES:
        written = write(phantom, place)
        people.append(person_of(written, find_layers(written.scan, weights).labelmap, weights))
    return people


def write(phantom: Phantom, place: str) -> Phantom:
    """The same scan with a block of text: on new columns outside ``valid``, or over its lower left corner."""
    row_mm, column_mm = phantom.scan.spacing_mm[1:]
    letters = _letters(row_mm, column_mm)
    if place == BESIDE:
        phantom = _widened(phantom, letters.shape[1])
    scan = phantom.scan
    voxels = scan.voxels.copy()
    rows, columns = letters.shape
    rows, columns = min(rows, scan.shape[1]), min(columns, scan.shape[2])
    plane = voxels[scan.channels.index("b-mode")]
    block = plane[:, -rows:, :columns]
    block[:] = np.where(letters[:rows, :columns], WHITE, block)
    return replace(phantom, scan=replace(scan, voxels=voxels))


def _letters(row_mm: float, column_mm: float) -> NDArray[np.bool_]:
    """Strokes of letter size, (row, column)."""
    row = (np.arange(round(HEIGHT_MM / row_mm)) * row_mm / LETTER_MM).astype(int)
    column = (np.arange(round(WIDTH_MM / column_mm)) * column_mm / LETTER_MM).astype(int)
    return np.asarray((row[:, None] + column) % 3 != 0)


def _widened(phantom: Phantom, columns: int) -> Phantom:
    """Columns that show no tissue on the left; the tissue stays where it is in the patient."""
    scan = phantom.scan
    affine = scan.affine.copy()
    affine[:3, 3] -= columns * affine[:3, 2]
    beside = ((0, 0), (0, 0), (columns, 0))
    wider = replace(
        scan,
        voxels=np.pad(scan.voxels, ((0, 0), *beside)),
        valid=np.pad(scan.valid, beside),
        affine=affine,
    )
    return replace(phantom, scan=wider, labelmap=np.pad(phantom.labelmap, beside))


@dataclass(frozen=True, slots=True, eq=False)
class Readers:
    """People of three groups as they are, and with text, each once per place: (group, place) -> people."""

    groups: tuple[Group, Group, Group]
    written: Mapping[tuple[int, str], Sequence[Person]]


def table(trial: Trial, readers: Readers) -> Table:
    """AUC of networks fitted and tested where pain comes with text, and how far text moves the findings."""
    rows = []
    for place in (None, *PLACES):
        groups = [_marked(readers, number, place) for number in range(3)]
        for channels, network in trial.networks.items():
            fitted = deepcopy(network)
            train, validation, test = (
                replace(features_of(people), pain=torch.from_numpy(pain.astype(np.float32)))
                for people, pain in groups
            )
            fit_heads(fitted, train, validation, trial.config)
            with torch.inference_mode():
                logit = fitted.logit(test.pooled, test.measured).numpy()
            rows.append(
                (place or "no text", channels, auc(logit, groups[2][1]), *_moved(readers, place))
            )
    count = len(readers.groups[2].people)
    return Table(
        "text",
        "Burnt-in text",
        f"Labels by chance; everybody with pain has text in the image, {HEIGHT_MM:g} x {WIDTH_MM:g} mm of "
        f"full white; {count} test people. A network that ignores text has an AUC of 0.5 within chance "
        f"(SD about {0.58 / np.sqrt(max(count, 1)):.2f}). Text outside the valid pixels must change nothing.",
        (
            "Text",
            "Channels",
            "AUC",
            "Test people whose features stay equal",
            "Change of Dice",
        ),
        tuple(rows),
    )


def _marked(
    readers: Readers, number: int, place: str | None
) -> tuple[list[Person], NDArray[np.bool_]]:
    """People of a group, those with pain from the scans with text."""
    group = readers.groups[number]
    _, pain = group.labels(RULE, 0)
    if place is None:
        return list(group.people), pain
    with_text = readers.written[number, place]
    return [
        marked if ill else plain
        for plain, marked, ill in zip(group.people, with_text, pain, strict=True)
    ], pain


def _moved(readers: Readers, place: str | None) -> tuple[float, float]:
    """Share of test people whose pooled features are equal with and without text; mean change of Dice."""
    if place is None:
        return 1.0, 0.0
    pairs = list(zip(readers.groups[2].people, readers.written[2, place], strict=True))
    equal = [
        float(np.allclose(plain.pooled, marked.pooled, rtol=1e-4, atol=1e-3, equal_nan=True))
        for plain, marked in pairs
    ]
    change = [mean(marked.dice) - mean(plain.dice) for plain, marked in pairs]
    return mean(equal), mean(change)
