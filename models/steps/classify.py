"""classify: the calibrated probability of a decision that rests on labeled layers."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from models.scan import Scan
from models.steps.grid import Box, bounding_box, grid_shape, resample, resample_labels


class Ensemble(Protocol):
    """Networks that share what they pool from a scan's labeled layers, and weigh it each in its own way."""

    def pool(self, image: Tensor, labels: Tensor) -> Tensor: ...

    def logits(self, pooled: Tensor, measured: Tensor) -> Tensor: ...

    def logit(self, pooled: Tensor, measured: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One scan as a classifier sees it, on the classifier's grid, batch of one.

    image         float32 (1, channel, slice, row, column): stored values.
    labels        uint8 (1, slice, row, column).
    measured      float32 (1, layer + 1): thickness in mm, NaN where a layer has none; then 1 for a probe
                  across the body, 0 for along, NaN where that is not known.
    box           the part of the source grid that was resampled.
    channels      names of the image's channels.
    """

    image: Tensor
    labels: Tensor
    measured: Tensor
    box: Box
    channels: tuple[str, ...]

    def to(self, device: str) -> "Case":
        """The same case with its tensors on another device."""
        return replace(
            self,
            image=self.image.to(device),
            labels=self.labels.to(device),
            measured=self.measured.to(device),
        )


def build_case(
    scan: Scan,
    labelmap: NDArray[np.uint8],
    thickness_mm: NDArray[np.float32],
    channels: tuple[str, ...],
    wanted_mm: tuple[float, float],
) -> Case:
    """Cut the scan to its tissue and bring it onto the classifier's grid. Labels and masks stay whole."""
    box = bounding_box(labelmap > 0)
    labels = labelmap[box]
    shape = grid_shape(labels.shape[1:], scan.spacing_mm[1:], wanted_mm)
    planes = [_channel(scan, name, box, shape) for name in channels]
    return Case(
        torch.from_numpy(np.stack(planes))[None],
        torch.from_numpy(resample_labels(labels, shape))[None],
        torch.from_numpy(np.append(thickness_mm, across(scan)).astype(np.float32))[None],
        box,
        channels,
    )


def across(scan: Scan) -> float:
    """1 for a transverse probe, 0 for a longitudinal one, NaN where that is not known.

    As the scan says; else from the direction of its columns, where the orientation was measured or declared.
    """
    said = {"transverse": 1.0, "longitudinal": 0.0}.get(scan.facts.get("probe_orientation", ""))
    if said is not None:
        return said
    if scan.geometry.orientation not in ("measured", "declared"):
        return float("nan")
    # Patient axes: left, posterior, superior. Columns that run from front to back are neither.
    axis = int(np.argmax(np.abs(scan.affine[:3, 2])))
    return (1.0, float("nan"), 0.0)[axis]


@dataclass(frozen=True, slots=True)
class Levels:
    """Ordered levels of a proportional-odds model (McCullagh 1980): one logit, cut by thresholds.

    names       from the lowest, which is none of what is classified.
    thresholds  increasing, one fewer than names: P(level >= k) = sigmoid((logit - thresholds[k - 1]) /
                temperature). The first is 0, so that P(level >= 1) is the probability of a binary decision.

    What a layer adds to the logit it adds to the log-odds of every threshold alike.
    """

    names: tuple[str, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        cuts = self.thresholds
        if len(cuts) != len(self.names) - 1 or cuts[0] != 0 or sorted(set(cuts)) != list(cuts):
            raise ValueError(
                f"one threshold fewer than the {len(self.names)} levels, the first 0 and each above the one "
                f"before, got {cuts}"
            )

    def probabilities(self, logit: Any, temperature: float) -> NDArray[np.float64]:
        """Probability of each level (..., level), which sum to 1, of logits (...)."""
        below = expit(
            (np.array(self.thresholds) - np.asarray(logit, float)[..., None]) / temperature
        )
        ends = np.zeros_like(below[..., :1])
        return np.asarray(np.diff(np.concatenate([ends, below, ends + 1], -1), axis=-1))


@dataclass(frozen=True, slots=True)
class Decision:
    """A logit, its calibrated probability, and the ensemble's 2.5th and 97.5th percentile of it.

    ``levels`` are the probabilities of ordered levels, of all but the first together ``probability``; empty
    where there are none.
    """

    logit: float
    probability: float
    lower: float
    upper: float
    levels: tuple[float, ...] = ()


def classify(
    network: Ensemble, case: Case, temperature: float, levels: Levels | None = None
) -> Decision:
    """Mean logit of the members and sigmoid(logit / temperature), calibrated on validation persons."""
    pooled = network.pool(case.image, case.labels)
    members = network.logits(pooled, case.measured)[:, 0].double()
    logit = network.logit(pooled, case.measured)[0].double()
    probability = torch.sigmoid(members / temperature).cpu().numpy()
    lower, upper = np.percentile(probability, (2.5, 97.5))
    value = float(logit)
    return Decision(
        value,
        float(torch.sigmoid(logit / temperature)),
        float(lower),
        float(upper),
        tuple(levels.probabilities(value, temperature).tolist()) if levels else (),
    )


def _channel(scan: Scan, name: str, box: Box, shape: tuple[int, int]) -> NDArray[np.float32]:
    plane = scan.channel(name)[box]
    # A speed where the mask says "invalid" means nothing: it must not mix with its neighbors.
    if name.startswith("shear-wave"):
        return resample_labels(plane, shape)
    # Nor must text beside a fan: it is smoothed into the edge of the field, as for the segmentation.
    return resample(np.where(scan.valid[box], plane, np.float32(0)), shape)
