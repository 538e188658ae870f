"""Found: what a segmentation network finds in a scan, and which network it was."""

import hashlib

import torch

from models.layer.weights import Weights
from models.scan import Scan
from models.steps.segment import Layers, Volume, segment


def digest(weights: Weights) -> str:
    """SHA-256 of the segmentation network alone: other networks may change without a new fit."""
    state = weights.segment.network.state_dict()
    parts = b"".join(tensor.cpu().numpy().tobytes() for tensor in state.values())
    return hashlib.sha256(parts).hexdigest()


def find(scan: Scan, weights: Weights) -> Layers:
    """The layers of a scan, as the analysis finds them."""
    _, row_mm, column_mm = scan.spacing_mm
    volume = Volume(scan.channel("b-mode"), scan.valid, (row_mm, column_mm))
    with torch.inference_mode():
        return segment(volume, weights.segment.slice_wise)
