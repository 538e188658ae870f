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

The training cohort's statistics are buffers of the networks and so part of the file.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from models.analysis import WeightsError
from models.layer.network import SegmentationNetwork
from models.layer.pain import PainNetwork

CARD = "weights.toml"
FILE = "weights.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Segmenter:
    """The segmentation network and the grid it was trained on: distance of rows, of columns."""

    network: SegmentationNetwork
    spacing_mm: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A pain network, the grid it was trained on, and its calibration on validation persons."""

    network: PainNetwork
    spacing_mm: tuple[float, float]
    temperature: float = 1.0


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
    """Read card and file. Raises WeightsError when one is missing or the digest is not the card's."""
    try:
        card = tomllib.loads((folder / CARD).read_text(encoding="utf-8"))
        data = (folder / card["file"]).read_bytes()
    except FileNotFoundError as missing:
        raise WeightsError(f"{missing.filename} is missing; reinstall or retrain") from missing
    digest = hashlib.sha256(data).hexdigest()
    if digest != card["sha256"]:
        raise WeightsError(
            f"{folder / card['file']} has sha256 {digest}, its card {CARD} says {card['sha256']}; "
            "the file was changed or cut short: restore it"
        )
    tensors = load(data)
    return Weights(
        version=card["version"],
        statement=card["statement"],
        segment=_segmenter(card["segment"], _under("segment.", tensors)),
        pain_b=_classifier(card["pain_b"], _under("pain_b.", tensors)),
        pain_bswe=_classifier(card["pain_bswe"], _under("pain_bswe.", tensors)),
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
    (folder / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): item for key, item in tensors.items() if key.startswith(prefix)
    }


def _segmenter(card: dict[str, Any], tensors: dict[str, Tensor]) -> Segmenter:
    network = SegmentationNetwork(card["neighbors"], tuple(card["channels"]))
    network.load_state_dict(tensors, strict=True)
    return Segmenter(network.eval().requires_grad_(False), _pair(card["spacing_mm"]))


def _classifier(card: dict[str, Any], tensors: dict[str, Tensor]) -> Classifier:
    network = PainNetwork(tuple(card["channels"]), card["texture_maps"], card["members"])
    network.load_state_dict(tensors, strict=True)
    return Classifier(
        network.eval().requires_grad_(False), _pair(card["spacing_mm"]), card["temperature"]
    )


def _pair(values: list[float]) -> tuple[float, float]:
    row, column = values
    return float(row), float(column)
