"""segment: which layer each voxel belongs to, on the source grid.

The network runs slice by slice on its own grid. Its class probabilities, not its labels, go back to the
source grid, so that a layer of few pixels does not alias. Where the most probable labels of a column break
the anatomical order (outside, 1 to 6 from the probe down, outside; layers may be missing), the column takes
the most probable labels among those that keep it (Viterbi algorithm). Columns know nothing of each other, so
each border is then replaced by its median over a few millimeters sideways; medians of ordered borders are
ordered. A layer that the network hardly believes in is taken for absent, and the others are labeled anew
without it. There is no other post-processing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.steps.grid import SLICES_AT_ONCE, bounding_box, grid_shape, pieces_of, resample

LEAST_PROBABILITY = 1e-4  # so that one sure pixel cannot outvote a whole column
MEDIAN_MM = 2.5  # wider than a jump between columns, narrower than a gap in a membrane
LEAST_SHARE = 0.02  # of the columns with tissue; a layer in fewer is taken for absent


@dataclass(frozen=True, slots=True, eq=False)
class SliceWise:
    """A slice-wise network, its grid, and how sure of a layer it must be.

    network     takes (batch, 2 x ``neighbors`` + 1, rows, columns), returns scores of outside and layers.
    spacing_mm  distance of rows, of columns that it was trained on.
    least_dice  per layer, the lowest Dice it may expect of itself: a layer found with less belief is taken
                for absent, and the rest labeled anew. Empty: no layer is.
    """

    network: Callable[[Tensor], Tensor]
    neighbors: int
    spacing_mm: tuple[float, float]
    least_dice: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """What is segmented: gray levels 0-255 and ``valid``, (slice, row, column); spacing of row, column.

    ``at_once``: how many slices the network gets together, which is memory against time.
    """

    gray: NDArray[np.float32]
    valid: NDArray[np.bool_]
    spacing_mm: tuple[float, float]
    at_once: int = SLICES_AT_ONCE


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Labels on the source grid, and how sure they are.

    reordered   share of voxels relabeled to put columns in order.
    confidence  per class from 1 on, the Dice to be expected if the probabilities are right; NaN if absent.
    """

    labelmap: NDArray[np.uint8]
    reordered: float
    confidence: tuple[float, ...]


def segment(volume: Volume, method: SliceWise, device: str = "cpu") -> Layers:
    """Which layer each voxel belongs to.

    Memory: the scan once more on the analysis grid, and a few slices of class probabilities.
    """
    found = _run(volume, method, device)
    doubtful = [
        label
        for label, (dice, least) in enumerate(
            zip(found.confidence, method.least_dice, strict=False), start=1
        )
        if dice < least  # False where the layer was not found: its Dice is NaN
    ]
    if not doubtful:
        return found

    def without(stack: Tensor) -> Tensor:
        scores = method.network(stack).clone()
        scores[:, doubtful] = -torch.inf
        return scores

    return _run(volume, replace(method, network=without), device)


def _run(volume: Volume, method: SliceWise, device: str) -> Layers:
    box = bounding_box(volume.valid)
    valid = volume.valid[box]
    gray = np.where(valid, volume.gray[box], np.float32(0))
    shape = grid_shape(gray.shape[1:], volume.spacing_mm, method.spacing_mm)
    image = torch.from_numpy(resample(gray, shape))
    labels = np.zeros(gray.shape, np.uint8)
    reordered = 0
    overlaps = []
    for piece in pieces_of(gray, volume.at_once):
        around = torch.arange(piece.start, piece.stop)[:, None] + torch.arange(
            -method.neighbors, method.neighbors + 1
        )
        stack = image[around.clamp(0, image.shape[0] - 1)].to(device)
        scores = method.network(stack.contiguous(memory_format=torch.channels_last))
        probability = _to_source(scores.softmax(1), gray.shape[1:])
        inside = torch.tensor(valid[piece], device=device)
        found, changed = most_probable(probability, inside)
        overlaps.append(_overlap(probability, found, inside))
        labels[piece] = found.cpu().numpy()
        reordered += changed
    overlap = np.sum(overlaps, axis=0)
    labelmap = np.zeros(volume.gray.shape, np.uint8)
    labelmap[box] = smooth_borders(labels, valid, volume.spacing_mm[1], len(overlap))
    share = reordered / np.count_nonzero(valid)
    return Layers(labelmap, share, _expected_dice(overlap, labelmap))


def smooth_borders(
    labels: NDArray[np.uint8], valid: NDArray[np.bool_], column_mm: float, layers: int
) -> NDArray[np.uint8]:
    """Ordered labels (slice, row, column) with each border at its median over ``MEDIAN_MM`` of columns."""
    below = np.logical_and.accumulate(labels[:, ::-1] == 0, axis=1)[:, ::-1]
    depth = np.where(below, np.uint8(layers + 1), labels)
    depth = np.maximum.accumulate(
        depth, axis=1
    )  # a hole in the valid region hides what goes on below
    width = 2 * int(np.rint(MEDIAN_MM / column_mm / 2)) + 1
    borders = np.stack([(depth <= layer).sum(1) for layer in range(layers + 1)])
    borders = ndimage.median_filter(borders, (1, 1, width), mode="nearest")
    tissue = max(1, int((borders[-1] > borders[0]).sum()))
    for layer in range(1, layers + 1):
        if int((borders[layer] > borders[layer - 1]).sum()) < LEAST_SHARE * tissue:
            borders[layer] = borders[layer - 1]  # what little there was goes to the next layer
    rows = np.arange(labels.shape[1])[None, :, None]
    result = np.zeros_like(labels)
    for border in borders[:-1]:
        result += rows >= border[:, None, :]
    result[rows >= borders[-1][:, None, :]] = 0
    return result * valid


def _overlap(probability: Tensor, labels: Tensor, inside: Tensor) -> NDArray[np.float64]:
    """Per class from 1 on: probability inside the label, probability anywhere, voxels of the label."""
    sums = []
    for label in range(1, probability.shape[1]):
        plane, mask = probability[:, label] * inside, labels == label
        sums.append([float((plane * mask).sum()), float(plane.sum()), float(mask.sum())])
    return np.array(sums)


def _expected_dice(overlap: NDArray[np.float64], labelmap: NDArray[np.uint8]) -> tuple[float, ...]:
    both, probable, labeled = overlap.T
    dice = 2 * both / np.maximum(probable + labeled, 1e-9)
    there = np.isin(np.arange(1, len(dice) + 1), labelmap)
    return tuple(np.where(there, dice, np.nan).tolist())


def most_probable(probability: Tensor, inside: Tensor) -> tuple[Tensor, int]:
    """The most probable ordered labels uint8 (slice, row, column), and how many were not so at first.

    ``probability`` is (slice, class, row, column); what is not ``inside`` gets label 0 whatever it says.
    """
    best, labels = probability[:, 0].clone(), torch.zeros_like(inside, dtype=torch.uint8)
    # A running maximum over seven planes: torch.argmax over the channel axis costs more than the network.
    for label in range(1, probability.shape[1]):
        higher = probability[:, label] > best
        labels.masked_fill_(higher, label)
        best = torch.maximum(best, probability[:, label])
    labels.masked_fill_(~inside, 0)
    wrong = ~in_order(labels, inside)
    if not wrong.any():
        return labels, 0
    some = probability.permute(0, 3, 2, 1)[wrong]  # (column, row, class)
    ordered = _ordered(some, ~inside.permute(0, 2, 1)[wrong])
    columns = labels.permute(0, 2, 1)
    changed = int((columns[wrong] != ordered).sum())
    columns[wrong] = ordered
    return labels, changed


def in_order(labels: Tensor, inside: Tensor) -> Tensor:
    """For each column (slice, column): do the labels inside run 0, 1 to 6 rising, 0 from top to bottom?"""
    below = ~(labels > 0).flip(1).cummax(1).values.flip(1)
    depth = labels.masked_fill(below, 255).masked_fill(~inside, 0)
    return ((depth == depth.cummax(1).values) | ~inside).all(1)


def _ordered(probability: Tensor, outside: Tensor) -> Tensor:
    """The most probable ordered labels (column, row) of probabilities (column, row, class)."""
    score = probability.clamp(min=LEAST_PROBABILITY).log()
    score = torch.where(outside[..., None], score.new_zeros(()), score)
    # States: 0 above, 1 to 6, 7 below. Pixels outside the image say nothing and are cut out at the end.
    score = torch.cat([score, score[..., :1]], 2)
    columns, rows, states = score.shape
    best = score[:, 0].contiguous()
    origin = torch.empty((rows, columns, states), dtype=torch.uint8, device=score.device)
    for row in range(1, rows):
        best, where = best.cummax(1)  # the best state at or above this one, of the row before
        origin[row] = where.to(torch.uint8)
        best = best + score[:, row]
    labels = torch.empty((rows, columns), dtype=torch.uint8, device=score.device)
    state = best.argmax(1)
    for row in range(rows - 1, -1, -1):
        labels[row] = state.to(torch.uint8)
        state = origin[row].gather(1, state[:, None])[:, 0].long() if row else state
    labels = labels.T
    return labels.masked_fill((labels == states - 1) | outside, 0)


def _to_source(probability: Tensor, shape: tuple[int, int]) -> Tensor:
    """Linear, over the same field of view; averaging where the source grid is the coarser one."""
    if tuple(probability.shape[-2:]) == tuple(shape):
        return probability
    fewer = any(there > here for there, here in zip(probability.shape[-2:], shape, strict=True))
    return functional.interpolate(
        probability, size=tuple(shape), mode="bilinear", align_corners=False, antialias=fewer
    )
