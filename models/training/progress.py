"""Progress: keeps a fit through an interruption, watches its validation Dice, and draws its curves.

A fit loop asks its keeper four things::

    first = keeper.begin(running)             # restored, or started; the step to go on with
    for step in range(first, steps):
        ...
        if keeper.after(step, loss):          # recorded, validated, kept on disk; True = stop early
            break
    keeper.finish()                           # the network with the best validation Dice is back
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from models.training.augment import Draw
from models.training.config import TrainingError
from models.training.descent import Descent

CHECKPOINT = "checkpoint.pt"
Validate = Callable[[nn.Module], Sequence[float]]


class ResumeError(TrainingError):
    """A checkpoint cannot be continued; says what differs and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """All that changes while a network is fitted, so all that a checkpoint holds."""

    network: nn.Module
    descent: Descent
    draw: Draw


@dataclass(frozen=True, slots=True)
class Plan:
    """When to look and when to stop; every count is of steps, but ``patience`` of validations.

    digests  of what must be the same for a checkpoint to be continued: name -> sha256.
    """

    folder: Path
    steps: int
    checkpoint_steps: int
    validation_steps: int
    patience: int
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Validation:
    """Dice per layer on held-out subjects after so many steps; NaN for a layer that none of them has."""

    step: int
    dice: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.dice))


@dataclass(eq=False)
class Keeper:
    """One fit's memory. ``start`` is a state to begin from where there is no checkpoint."""

    plan: Plan
    validate: Validate
    start: Mapping[str, Tensor] | None = None
    losses: list[float] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    _best: dict[str, Tensor] = field(default_factory=dict)
    _running: Running | None = None

    @property
    def best(self) -> Validation:
        """The validation whose network is kept: the first of the highest mean Dice."""
        return max(self.validations, key=lambda item: item.mean)

    def begin(self, running: Running) -> int:
        """Restore the checkpoint or load ``start``; returns the step to go on with.

        Raises ResumeError when the checkpoint was made with another configuration or other data.
        """
        self._running = running
        if self.start is not None:
            running.network.load_state_dict(self.start)
        path = self.plan.folder / CHECKPOINT
        if path.exists():
            self._restore(running, torch.load(path, weights_only=True))
        elif not self.validations:
            self._look(0)
        return self.plan.steps if self._is_stopped() else len(self.losses)

    def after(self, step: int, loss: float) -> bool:
        """Record a step (counted from 0); returns whether the fit should stop."""
        self.losses.append(loss)
        done = step + 1
        if done % self.plan.validation_steps == 0 or done == self.plan.steps:
            self._look(done)
        stop = self._is_stopped()
        if stop or done % self.plan.checkpoint_steps == 0 or done == self.plan.steps:
            self._write()
        return stop

    def finish(self) -> None:
        """Give the network the weights that did best on the held-out subjects."""
        assert self._running is not None
        self._running.network.load_state_dict(self._best)

    def _look(self, step: int) -> None:
        assert self._running is not None
        network = self._running.network
        network.eval()
        with torch.inference_mode():
            self.validations.append(Validation(step, tuple(self.validate(network))))
        network.train()
        if self.best.step == step:
            state = network.state_dict()
            self._best = {key: item.detach().clone() for key, item in state.items()}

    def _is_stopped(self) -> bool:
        return bool(self.validations) and self._since_best() >= self.plan.patience

    def _since_best(self) -> int:
        return len(self.validations) - 1 - self.validations.index(self.best)

    def _write(self) -> None:
        """The whole state, in one step: a kill leaves the old file or the new one."""
        running = self._running
        assert running is not None
        state = {
            "digests": dict(self.plan.digests),
            "network": running.network.state_dict(),
            "descent": running.descent.state_dict(),
            "best": self._best,
            "losses": self.losses,
            "validations": [(item.step, item.dice) for item in self.validations],
            "draw": running.draw.generator.get_state(),
            "single": json.dumps(running.draw.single.bit_generator.state),
            "torch": torch.get_rng_state(),
        }
        path = self.plan.folder / CHECKPOINT
        fresh = path.with_suffix(".new")
        torch.save(state, fresh)
        os.replace(fresh, path)

    def _restore(self, running: Running, state: dict[str, Any]) -> None:
        for name, digest in self.plan.digests.items():
            if state["digests"].get(name) != digest:
                raise ResumeError(
                    f"{self.plan.folder / CHECKPOINT} was begun with another {name} (sha256 "
                    f"{str(state['digests'].get(name))[:16]}, now {digest[:16]}): take them back, "
                    "name another --out, or remove the checkpoint to start over"
                )
        running.network.load_state_dict(state["network"])
        running.descent.load_state_dict(state["descent"])
        running.draw.generator.set_state(state["draw"])
        running.draw.single.bit_generator.state = json.loads(state["single"])
        torch.set_rng_state(state["torch"])
        self._best = state["best"]
        self.losses = list(state["losses"])
        self.validations = [Validation(step, tuple(dice)) for step, dice in state["validations"]]


def write_curves(keeper: Keeper, layers: Sequence[str]) -> None:
    """Write segment_loss.csv, validation.csv and segment_loss.png into the plan's folder."""
    folder = keeper.plan.folder
    lines = [f"{step},{loss:.5f}" for step, loss in enumerate(keeper.losses)]
    (folder / "segment_loss.csv").write_text(
        "\n".join(["step,loss", *lines]) + "\n", encoding="utf-8"
    )
    rows = [
        ",".join([str(item.step), *(f"{value:.4f}" for value in (item.mean, *item.dice))])
        for item in keeper.validations
    ]
    head = ",".join(["step", "mean", *layers])
    (folder / "validation.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    _draw(keeper, layers).savefig(folder / "segment_loss.png", dpi=120)


def _draw(keeper: Keeper, layers: Sequence[str]) -> Figure:
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    losses = np.array(keeper.losses)
    width = max(10, len(losses) // 30)
    above.plot(np.arange(1, len(losses) + 1), losses, color="0.8", linewidth=0.8, label="each step")
    if width <= len(losses):
        smooth = np.convolve(losses, np.ones(width) / width, "valid")
        above.plot(
            np.arange(width, len(losses) + 1), smooth, color="C0", label=f"mean of {width} steps"
        )
    above.set(ylabel="training loss")
    above.legend(loc="upper right")
    steps = [item.step for item in keeper.validations]
    for number, name in enumerate(layers):
        values = [item.dice[number] for item in keeper.validations]
        below.plot(steps, values, marker=".", linewidth=1, label=name)
    below.plot(steps, [i.mean for i in keeper.validations], color="black", marker="o", label="Mean")
    best = keeper.best
    below.axvline(best.step, color="0.5", linestyle=":", label=f"Kept: {best.mean:.3f}")
    below.set(xlabel="step", ylabel="Dice, held-out subjects")
    below.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    return figure
