"""Exact Shapley values of what a decision rests on: how much each layer adds to the logit, and by what.

Players are the layers; each has three parts: its appearance, its thickness, its shear-wave speed. A part that
does not play has its reference: the layer looks, measures or stiffens as in the training cohort, at the gain
of this scan. A layer's value is that of the game of layers, over all 64 coalitions (Shapley 1953). It is
divided among its parts by the same rule while the other layers play whole (Owen 1977, "Values of games with
a priori unions"): 6 x 32 x 8 coalitions, no sampling. Where at most two players interact, as in a network of
terms and pairs of terms, this is the Shapley value of all 17 parts over their 2^17 coalitions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from captum.attr import FeatureAblation
from numpy.typing import NDArray
from torch import Tensor

PARTS = ("appearance", "thickness", "shear wave")
APPEARANCE, THICKNESS, SHEAR_WAVE = range(len(PARTS))
SPEED_FEATURE = 3  # of a layer's features the one that shear-wave imaging measured
MOST_GAP = 1e-6  # log-odds between the sum of the values and the change of the logit

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Head(Protocol):
    """The part of a classifier behind the features of its layers."""

    reference_thickness_mm: Tensor

    def reference(self, pooled: Tensor, measured: Tensor, /) -> Tensor:
        """Features (batch, layer, feature) of the typical scan at this gain and direction of the probe."""
        ...

    def logits(self, pooled: Tensor, measured: Tensor, /) -> Tensor:
        """Logit of each member of the ensemble, (member, batch)."""
        ...

    def terms(self, pooled: Tensor, measured: Tensor, /) -> Tensor:
        """Additive terms by design, (batch, layer, term)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """One scan and its reference as a classifier's head sees them.

    own, reference       features (layer, feature).
    measured             thickness of each layer in mm, NaN where none, and what else was measured.
    measured_reference   the same with the known thicknesses at the cohort's mean.
    """

    head: Head
    own: Tensor
    reference: Tensor
    measured: Tensor
    measured_reference: Tensor

    def logits(self, playing: Bools) -> Floats:
        """Logits (member, n) of coalitions (n, layer, part)."""
        chosen = torch.from_numpy(np.ascontiguousarray(playing)).to(self.own.device)
        speed = torch.arange(self.own.shape[1], device=self.own.device) == SPEED_FEATURE
        by_feature = torch.where(
            speed, chosen[..., SHEAR_WAVE, None], chosen[..., APPEARANCE, None]
        )
        pooled = torch.where(by_feature, self.own, self.reference)
        measured = self.measured.expand(len(chosen), -1).clone()
        layers = self.own.shape[0]
        measured[:, :layers] = torch.where(
            chosen[..., THICKNESS], self.measured[:layers], self.measured_reference[:layers]
        )
        with torch.no_grad():
            result: Floats = self.head.logits(pooled, measured).double().cpu().numpy()
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """Signed log-odds that each part of each layer adds to the logit: values (member, layer, part).

    For each member of the ensemble the values add up to ``logit`` less ``reference_logit``, (member,).
    """

    values: Floats
    logit: Floats
    reference_logit: Floats

    @property
    def parts(self) -> Floats:
        """(layer, part), mean of the members."""
        return self.values.mean(0)

    @property
    def totals(self) -> Floats:
        """(layer,), mean of the members."""
        return self.values.sum(2).mean(0)

    @property
    def change(self) -> float:
        """How far the logit is from that of the reference, mean of the members."""
        return float((self.logit - self.reference_logit).mean())


def open_game(head: Head, pooled: Tensor, measured: Tensor) -> Game:
    """The game of one scan: features (1, layer, feature) and measured (1, number)."""
    layers = pooled.shape[1]
    at_reference = measured[0].clone()
    known = torch.isfinite(at_reference[:layers])
    at_reference[:layers][known] = head.reference_thickness_mm[:layers][known]
    with torch.no_grad():
        reference = head.reference(pooled, measured)[0]
    return Game(head, pooled[0], reference, measured[0], at_reference)


def contributions(game: Game) -> Contributions:
    """All contributions. Raises ArithmeticError when they do not add up to the change of the logit."""
    values, logit, reference_logit = owen(game.logits, game.own.shape[0], len(PARTS))
    gap = abs(values.sum((1, 2)) - (logit - reference_logit)).max()
    if not gap < MOST_GAP * (1 + abs(logit).max()):
        raise ArithmeticError(f"the contributions miss the change of the logit by {gap:g}")
    return Contributions(values, logit, reference_logit)


def owen(
    worth: Callable[[Bools], Floats], layers: int, parts: int
) -> tuple[Floats, Floats, Floats]:
    """Owen values (member, layer, part), and the worth of everybody and of nobody, each (member,).

    ``worth`` takes coalitions (n, layer, part) and returns numbers (member, n).
    """
    outer, inner = coalitions(layers), coalitions(parts)
    half = len(outer) // 2
    playing = np.zeros((layers, half, len(inner), layers, parts), bool)
    for layer in range(layers):
        others = outer[~outer[:, layer]]
        playing[layer] = others[:, None, :, None]
        playing[layer, :, :, layer] = inner
    found = worth(playing.reshape(-1, layers, parts))
    found = found.reshape(len(found), layers, half, len(inner))
    # Row 0 is nobody; the others whole and the layer whole is everybody.
    everybody, nobody = found[:, 0, -1, -1], found[:, 0, 0, 0]
    game = np.empty((len(found), layers, len(inner)))
    for layer in range(layers):
        size = outer[~outer[:, layer]].sum(1)
        game[:, layer] = np.einsum("msi,s->mi", found[:, layer], _weights(layers)[size])
    return shapley(game), everybody, nobody


def coalitions(players: int) -> Bools:
    """All 2^n subsets, (2^n, n), in binary order: row 0 is nobody, the last row everybody."""
    bits = np.arange(players)
    result: Bools = (np.arange(2**players)[:, None] >> bits & 1).astype(bool)
    return result


def shapley(worth: Floats) -> Floats:
    """Shapley values (..., n) of games given by the worth (..., 2^n) of all ``coalitions``, in their order.

    Raises ValueError when the number of coalitions is no power of two.
    """
    count = worth.shape[-1]
    players = int(math.log2(count))
    if 2**players != count:
        raise ValueError(f"{count} coalitions are no power of two")
    members = coalitions(players)
    result = np.zeros((*worth.shape[:-1], players))
    for player in range(players):
        without = np.flatnonzero(~members[:, player])
        gain = worth[..., without + (1 << player)] - worth[..., without]
        result[..., player] = gain @ _weights(players)[members[without].sum(1)]
    return result


def _weights(players: int) -> Floats:
    """How much joining a coalition of 0, 1, ... others counts; over all coalitions these add up to 1."""
    total = math.factorial(players)
    return np.array(
        [math.factorial(s) * math.factorial(players - 1 - s) / total for s in range(players)]
    )


def additive_terms(game: Game) -> Floats:
    """Change of each layer's terms by design from the reference, (layer,)."""
    with torch.no_grad():
        own = game.head.terms(game.own[None], game.measured[None])
        reference = game.head.terms(game.reference[None], game.measured_reference[None])
    result: Floats = (own - reference)[0].sum(1).double().cpu().numpy()
    return result


def ablation(game: Game) -> Floats:
    """What the logit loses when one layer whole goes to its reference (captum FeatureAblation), (layer,)."""
    layers = game.own.shape[0]

    def mean_logit(switches: Tensor) -> Tensor:
        playing = (switches > 0.5).cpu().numpy().reshape(-1, layers, len(PARTS))
        return torch.from_numpy(game.logits(playing).mean(0))

    switches = torch.ones(1, layers * len(PARTS), dtype=torch.float64)
    groups = torch.arange(layers).repeat_interleave(len(PARTS))[None]
    found = FeatureAblation(mean_logit).attribute(
        switches, baselines=0, feature_mask=groups, perturbations_per_eval=layers
    )
    result: Floats = found[0, :: len(PARTS)].numpy()
    return result
