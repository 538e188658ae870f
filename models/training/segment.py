"""Fit the segmentation network, on simulated sweeps or on a site's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from models.evaluation.cohort import Cohort
from models.layer.network import SegmentationNetwork
from models.phantom import Protocol
from models.training.augment import Draw, batch_of
from models.training.config import Config, SegmentConfig
from models.training.data import Sweep, sweeps
from models.training.descent import Descent
from models.training.progress import Running


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The network in evaluation mode, and the training loss of every step."""

    network: SegmentationNetwork
    losses: tuple[float, ...]


class Keeper(Interface):
    """What watches a fit; ``models.training.progress`` has one."""

    def begin(self, running: Running) -> int: ...

    def after(self, step: int, loss: float) -> bool: ...

    def finish(self) -> None: ...


def simulated_sweeps(config: Config) -> list[Sweep]:
    """Training people of the configured cohort, part of them from wider ranges than the usual."""
    part = config.segment
    row_mm, column_mm = part.spacing_mm
    protocol = Protocol(slices=part.slices, wide=part.wide, convex=part.convex)
    cohort = Cohort("train", config.cohort, part.volumes, protocol)
    return sweeps(cohort, (row_mm, column_mm), config.processes)


def fit_segmentation(data: Sequence[Sweep], config: Config, keeper: Keeper | None = None) -> Fitted:
    """Minimize ``segmentation_loss`` by ``Descent``."""
    part = config.segment
    torch.manual_seed(config.seed)
    network = SegmentationNetwork(part.neighbors, part.channels)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    descent = Descent(network, part.learning_rate, part.weight_decay, part.steps)
    running = Running(network, descent, Draw(config.seed))
    first = keeper.begin(running) if keeper else 0
    losses: list[float] = []
    words = "Fit segmentation, loss {task.fields[loss]:.3f}"
    with Progress(TextColumn(words), BarColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=part.steps, completed=first, loss=float("nan"))
        for step in range(first, part.steps):
            losses.append(_step(running, data, part))
            recent = losses[-50:]
            progress.update(task, advance=1, loss=sum(recent) / len(recent))
            if keeper and keeper.after(step, losses[-1]):
                break
    if keeper:
        keeper.finish()
    return Fitted(network.eval(), tuple(losses))


def _step(running: Running, data: Sequence[Sweep], part: SegmentConfig) -> float:
    """One batch; returns its loss."""
    rows, columns = part.crop
    image, target = batch_of(data, part.batch, (rows, columns), part.neighbors, running.draw)
    # bfloat16 multiplies; the sums, the loss and the weights stay float32.
    with torch.autocast("cpu", torch.bfloat16):
        scores = running.network(image.contiguous(memory_format=torch.channels_last))
    loss = segmentation_loss(scores.float(), target, part)
    running.descent.step(loss)
    return float(loss.detach())


def segmentation_loss(scores: Tensor, target: Tensor, part: SegmentConfig) -> Tensor:
    """Cross-entropy and overlap; scores and target shares are (batch, 7, rows, columns).

    Overlap is 1 - Dice with |p - t| for the difference, which unlike the product is least where a share is
    met, not where it is rounded.
    """
    logarithm = scores.log_softmax(1)
    share = logarithm.exp()
    entropy = -(target * logarithm).sum(1).mean()
    difference, total = (share - target).abs(), share + target
    overlap = (difference.sum((0, 2, 3)) / (total.sum((0, 2, 3)) + 1.0)).mean()
    result: Tensor = (1 - part.dice_share) * entropy + part.dice_share * overlap
    return result
