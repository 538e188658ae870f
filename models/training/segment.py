"""Fit the segmentation network on simulated sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.losses import DiceLoss
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from models.evaluation.cohort import Cohort
from models.layer.network import SegmentationNetwork
from models.phantom import Protocol
from models.training.augment import Draw, batch_of
from models.training.config import Config
from models.training.data import Sweep, sweeps


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The network in evaluation mode, and the training loss of every step."""

    network: SegmentationNetwork
    losses: tuple[float, ...]


def fit_segmentation(config: Config) -> Fitted:
    """Simulate training people, then minimize cross-entropy + Dice with AdamW, one-cycle schedule."""
    part = config.segment
    row_mm, column_mm = part.spacing_mm
    cohort = Cohort("train", config.cohort, part.volumes, Protocol(slices=part.slices))
    data = sweeps(cohort, (row_mm, column_mm), config.processes)
    torch.manual_seed(config.seed)
    network = SegmentationNetwork(part.neighbors, part.channels)
    return _fit(network, data, config)


def _fit(network: SegmentationNetwork, data: Sequence[Sweep], config: Config) -> Fitted:
    part = config.segment
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), part.learning_rate, weight_decay=part.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, part.learning_rate, part.steps, pct_start=0.15
    )
    draw = Draw(config.seed)
    rows, columns = part.crop
    losses: list[float] = []
    words = "Fit segmentation, loss {task.fields[loss]:.3f}"
    with Progress(TextColumn(words), BarColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=part.steps, loss=float("nan"))
        for _ in range(part.steps):
            image, target = batch_of(data, part.batch, (rows, columns), part.neighbors, draw)
            # bfloat16 multiplies; the sums, the loss and the weights stay float32.
            with torch.autocast("cpu", torch.bfloat16):
                scores = network(image.contiguous(memory_format=torch.channels_last))
            loss = segmentation_loss(scores.float(), target, part.dice_share)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            recent = losses[-50:]
            progress.update(task, advance=1, loss=sum(recent) / len(recent))
    return Fitted(network.eval(), tuple(losses))


def segmentation_loss(scores: Tensor, target: Tensor, dice_share: float) -> Tensor:
    """Weighted sum of cross-entropy and batch Dice loss; scores (batch, 7, rows, columns), target int64."""
    entropy = functional.cross_entropy(scores, target)
    dice = DiceLoss(softmax=True, to_onehot_y=True, batch=True)(scores, target[:, None])
    total: Tensor = (1 - dice_share) * entropy + dice_share * dice
    return total
