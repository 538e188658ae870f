"""Descent: the optimizer and its schedule for a convolutional network."""

from typing import Any

import torch
from torch import Tensor, nn

MUON_DEPTH = 8
"""Convolutions with fewer channels on either side are left to AdamW, as the first and the last are."""


class Descent:
    """Muon for the matrices of the convolutions and AdamW for all else, both on one one-cycle schedule.

    A convolution's weights are a matrix of output channels by all that each of them reads. Muon (Jordan 2024;
    scaled as in arXiv 2502.16982, so that AdamW's learning rate serves both) makes its step orthogonal: here
    it needs less than half of AdamW's steps for the same loss. torch's Muon takes matrices only, so it gets
    matrices that share the memory of the weights; those must lie in channels-last order.
    """

    def __init__(
        self, network: nn.Module, learning_rate: float, weight_decay: float, steps: int
    ) -> None:
        weights = list(network.parameters())
        self._weights = [
            item for item in weights if item.ndim == 4 and min(item.shape[:2]) >= MUON_DEPTH
        ]
        chosen = {id(item) for item in self._weights}
        # ``view`` raises where the order is another: a copy would be trained instead of the network.
        self._matrices = [
            nn.Parameter(_channels_last(item.data).view(len(item), -1)) for item in self._weights
        ]
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.AdamW(
                [item for item in weights if id(item) not in chosen],
                learning_rate,
                weight_decay=weight_decay,
            ),
            torch.optim.Muon(
                self._matrices,
                learning_rate,
                weight_decay=weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
        )
        self._network = network
        self._schedules = [
            torch.optim.lr_scheduler.OneCycleLR(
                item, learning_rate, steps, pct_start=0.15, cycle_momentum=number == 0
            )
            for number, item in enumerate(self._optimizers)
        ]

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of ``loss``, whose norm is clipped at 5."""
        self._network.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 5.0)
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            assert weight.grad is not None
            matrix.grad = _channels_last(weight.grad).flatten(1)
        for optimizer, schedule in zip(self._optimizers, self._schedules, strict=True):
            optimizer.step()
            schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds; tensors and plain values."""
        return {
            "optimizers": [item.state_dict() for item in self._optimizers],
            "schedules": [item.state_dict() for item in self._schedules],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for schedule, saved in zip(self._schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)


def _channels_last(weight: Tensor) -> Tensor:
    """(out, in, rows, columns) as (out, rows, columns, in)."""
    return weight.permute(0, 2, 3, 1)
