"""The trained weights: one safetensors file beside a card, weights.toml, that says what it is.

Keys of the file begin with ``segment.``, ``pain_b.`` or ``pain_bswe.``. The card::

    file = "weights.safetensors"
    sha256 = "..."
    version = "1"
    statement = "what it was trained on"

    [segment]                      # arguments of SegmentationNetwork, and its grid
    spacing_mm = [0.2, 0.2]        # row, column
    neighbors = 2
    channels = [24, 48, 96, 128, 128]

    [pain_b]                       # and [pain_bswe]: arguments of PainNetwork, its grid, its calibration
    spacing_mm = [0.3, 0.3]
    temperature = 1.0              # probability = sigmoid(logit / temperature)
    texture_maps = 8
    members = 5                    # of the ensemble of heads
    channels = ["b-mode"]
    levels = ["none", "mild", "moderate", "severe"]   # where it tells ordered levels; both or neither
    thresholds = [0.0, 1.2, 2.6]   # P(level >= k) = sigmoid((logit - k-th threshold) / temperature)

The training cohort's statistics are buffers of the networks and so part of the file.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from models.analysis import WeightsError
from models.layer.card import MEND, Card, read_card
from models.layer.network import SegmentationNetwork
from models.layer.pain import PainNetwork
from models.steps.classify import Levels
from models.steps.segment import SliceWise

LEAST_DICE = (0.75, 0.4, 0.5, 0.55, 0.58, 0.4)
"""Expected Dice below which a layer is taken for absent. Chosen on 400 validation people, 160 of whom lacked
a layer: of layers that are there and were found (Dice above .6) it takes less than one in a hundred."""

CARD = "weights.toml"
FILE = "weights.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Segmenter:
    """The segmentation network and the grid it was trained on: distance of rows, of columns."""

    network: SegmentationNetwork
    spacing_mm: tuple[float, float]

    @property
    def slice_wise(self) -> SliceWise:
        """As ``segment`` runs it."""
        return SliceWise(self.network, self.network.neighbors, self.spacing_mm, LEAST_DICE)


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A pain network, the grid it was trained on, its calibration on validation persons, and its levels."""

    network: PainNetwork
    spacing_mm: tuple[float, float]
    temperature: float = 1.0
    levels: Levels | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """All networks of the layer analysis, frozen for use, with the digest of their file."""

    version: str
    statement: str
    segment: Segmenter
    pain_b: Classifier
    pain_bswe: Classifier
    sha256: str = ""

    def to(self, device: str) -> "Weights":
        """Move the networks; convolutions run fastest with the channels last."""
        for network in (self.segment.network, self.pain_b.network, self.pain_bswe.network):
            network.to(device)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # a stub lacks it
        return self


def load_weights(folder: Path) -> Weights:
    """Read card and file.

    Raises WeightsError, with file and key, when one is missing, the digest is not the card's, or the card
    asks for other networks than the file holds.
    """
    try:
        card = read_card(folder / CARD)
        path = folder / card.text("file")
        data = path.read_bytes()
    except FileNotFoundError as missing:
        raise WeightsError(f"{missing.filename} is missing; reinstall or retrain") from missing
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.text("sha256"):
        raise WeightsError(
            f"{path} has sha256 {digest}, its card {CARD} says {card.text('sha256')}; "
            "the file was changed or cut short: restore it"
        )
    file = _read(path, data)
    return Weights(
        version=card.text("version"),
        statement=card.text("statement"),
        segment=_segmenter(card.part("segment"), file),
        pain_b=_classifier(card.part("pain_b"), file),
        pain_bswe=_classifier(card.part("pain_bswe"), file),
        sha256=digest,
    )


def save_weights(folder: Path, weights: Weights) -> None:
    """Write file and card into an existing folder; ``weights.sha256`` is computed, not taken."""
    parts: dict[str, nn.Module] = {
        "segment": weights.segment.network,
        "pain_b": weights.pain_b.network,
        "pain_bswe": weights.pain_bswe.network,
    }
    tensors = {
        f"{name}.{key}": tensor.cpu().contiguous()
        for name, network in parts.items()
        for key, tensor in network.state_dict().items()
    }
    data = save(tensors)
    (folder / FILE).write_bytes(data)
    lines = [
        f'file = "{FILE}"',
        f'sha256 = "{hashlib.sha256(data).hexdigest()}"',
        f'version = "{weights.version}"',
        f'statement = "{weights.statement}"',
        "",
        "[segment]",
        f"spacing_mm = {list(weights.segment.spacing_mm)}",
        f"neighbors = {weights.segment.network.neighbors}",
        f"channels = {list(weights.segment.network.channels)}",
    ]
    for name in ("pain_b", "pain_bswe"):
        pain: Classifier = getattr(weights, name)
        channels = ", ".join(f'"{channel}"' for channel in pain.network.channels)
        lines += [
            "",
            f"[{name}]",
            f"spacing_mm = {list(pain.spacing_mm)}",
            f"temperature = {pain.temperature}",
            f"texture_maps = {pain.network.texture_maps}",
            f"members = {pain.network.members}",
            f"channels = [{channels}]",
        ]
        if pain.levels:
            # A JSON string without \" and \\ is a TOML string.
            lines += [
                f"levels = {json.dumps(pain.levels.names, ensure_ascii=False)}",
                f"thresholds = {list(pain.levels.thresholds)}",
            ]
    (folder / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    """All tensors of a file."""

    path: Path
    tensors: dict[str, Tensor]

    def fill(self, network: nn.Module, card: Card) -> None:
        """Load the network of one table of the card. Raises WeightsError naming the first misfit."""
        own = network.state_dict()
        found = {
            key.removeprefix(card.name): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(card.name)
        }
        for key in sorted(own.keys() | found.keys()):
            wanted, given = (
                tuple(side[key].shape) if key in side else None for side in (own, found)
            )
            if wanted != given:
                raise WeightsError(
                    f"{self.path}: {card.name}{key} {_shaped(given)}, but by {card.path}, "
                    f"[{card.name.rstrip('.')}], it {_shaped(wanted)}: they are not of one training; {MEND}"
                )
        network.load_state_dict(found, strict=True)


def _shaped(shape: tuple[int, ...] | None) -> str:
    return "is not there" if shape is None else f"has the shape {list(shape)}"


def _read(path: Path, data: bytes) -> _File:
    try:
        return _File(path, load(data))
    except SafetensorError as error:
        raise WeightsError(f"{path} is no safetensors file: {error}; {MEND}") from error


def _segmenter(card: Card, file: _File) -> Segmenter:
    network = SegmentationNetwork(card.count("neighbors", 0), card.counts("channels", 2))
    file.fill(network, card)
    return Segmenter(network.eval().requires_grad_(False), card.pair("spacing_mm"))


def _classifier(card: Card, file: _File) -> Classifier:
    network = PainNetwork(card.texts("channels"), card.count("texture_maps"), card.count("members"))
    file.fill(network, card)
    return Classifier(
        network.eval().requires_grad_(False),
        card.pair("spacing_mm"),
        card.above("temperature", 0),
        _levels(card),
    )


def _levels(card: Card) -> Levels | None:
    """The levels that the card names; both keys or neither."""
    if not card.table.keys() & {"levels", "thresholds"}:
        return None
    names, thresholds = card.texts("levels"), card.numbers("thresholds")
    try:
        return Levels(names, thresholds)
    except ValueError as error:
        raise card.wrong("thresholds", str(error)) from error
