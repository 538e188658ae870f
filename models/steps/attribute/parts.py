"""What all parts of an explanation share: the question, and a few slices of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.steps.attribute.game import Head
from models.steps.attribute.saliency import Mapped
from models.steps.classify import Case

SLICES = 8
"""So many slices, evenly spread, show how much borders and untrained weights matter, at a fixed cost."""


class Classifier(Head, Mapped, Protocol):
    """A classifier whose decision depends on the image only through features of one layer each."""

    def pool(self, image: Tensor, labels: Tensor, /) -> Tensor:
        """Features (batch, layer, feature), those of a layer from its own voxels alone."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A decision to explain.

    network    the classifier that decided, and ``case`` what it saw.
    labelmap   the layers on the source grid, from which the case's labels were made.
    logit      what it decided.
    untrained  makes the classifier with the weights behind its features drawn anew, from a seed.
    """

    network: Classifier
    case: Case
    labelmap: NDArray[np.uint8]
    logit: float
    untrained: Callable[[int], Classifier]


@dataclass(frozen=True, slots=True, eq=False)
class Excerpt:
    """A few slices of a case, and their labels on the source grid inside the case's box."""

    case: Case
    labelmap: NDArray[np.uint8]


def excerpt(question: Question) -> Excerpt:
    """At most SLICES slices, evenly spread."""
    case = question.case
    count = case.labels.shape[1]
    chosen = np.unique(np.linspace(0, count - 1, min(count, SLICES)).round().astype(int))
    few = replace(
        case,
        image=case.image[:, :, chosen].contiguous(),
        labels=case.labels[:, chosen].contiguous(),
    )
    return Excerpt(few, question.labelmap[case.box][chosen])
