"""Place: does a scan show the layered soft tissue of the lower back at all?

The segmentation network labels whatever it is given. So a scan is judged by what was found in it:
statistics of the borders of the layers and of the texture between them. Each is compared with its typical
value in simulated lumbar scans, and again with that in images of real tissue, as their textures differ;
falling short costs points, exceeding it wins nothing. The scan must be like one of the two. Too many points
in sum for both, and it is refused for the statistic that cost most; nearly too many, and no decision may
rest on it. What is typical, and what a shortfall costs, stands in place.toml, which
``models.training.place`` writes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.analysis import Refusal, WeightsError
from models.layer.card import Card, read_card
from models.layer.place.borders import of_borders
from models.layer.place.texture import of_texture
from models.layer.place.view import view_of
from models.scan import Scan
from models.steps.segment import Layers

FILE = "place.toml"
MOST_SPREADS = 8.0  # one statistic costs no more than this
KINDS = ("simulated", "real")
NOT_LUMBAR = "This does not look like a scan of the lower back"

REASONS = {
    "layered": "in most places fewer than four tissue layers lie one below the other",
    "sure": "the tissue layers cannot be told from each other with any confidence",
    "ordered": "the tissue layers do not follow each other from the skin down to the muscle",
    "unbroken": "the tissue layers break off again and again from side to side",
    "smooth": "the borders of the tissue layers are ragged",
    "steady": "the tissue layers jump from one image to the next",
    "even": "the thickness of the tissue layers changes abruptly",
    "coherent": "the borders of the tissue layers do not look the same along their course",
    "bright": "there are no bright fascial membranes between darker fat and muscle",
    "contrast": "the tissue layers do not differ in brightness",
    "lying": "the image is not made of layers that lie side by side below the probe",
    "each_sure": "one of the tissue layers cannot be told from its neighbors",
    "continued": "the images of the sweep do not continue each other",
    "moving": "the images of the sweep are too much alike",
    "muscle_continued": "the muscle does not go on from one image to the next",
    "muscle_moving": "the muscle is too much alike in all images of the sweep",
    "fresh": "the grain of the images is the same in all of them",
    "sharp": "the grain of the images is too coarse for tissue",
    "broad": "the grain of the images is too narrow for the beam of a probe",
    "distinct": "the grain of the images is too wide for tissue",
    "light": "the grain of the images has too many dark points for tissue",
    "even_grain": "the grain of the images has too many extreme points for tissue",
    "quiet": "the images hold more noise than tissue",
    "compressed": "the grain of the images grows with their brightness, as in noise",
    "calm": "there are single bright spots where tissue layers should be",
    "grain_differs": "the grain is the same in all tissue layers",
    "grain_agrees": "the grain changes too much from one tissue layer to the other",
    "structure_differs": "the tissue layers do not differ in texture",
    "seamless": "the image is put together of parts",
    "fading": "the image does not get darker with depth",
}
"""The statistics, and what it means to fall short of one, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Norm:
    """What is typical of lumbar scans, how much it spreads, and what one spread of shortfall costs."""

    typical: float
    spread: float
    cost: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """What one kind of tissue is like: the norm of each statistic, and two limits of points.

    most_points  more are too many: the scan is not of this kind.
    sure_points  more are too many for a decision, which is then withheld.
    """

    norms: Mapping[str, Norm]
    most_points: float
    sure_points: float


@dataclass(frozen=True, slots=True)
class Rule:
    """The kinds of tissue that a scan may be like, by name, and what it was all fitted on."""

    kinds: Mapping[str, Likeness]
    statement: str


@dataclass(frozen=True, slots=True)
class Place:
    """The verdict on one scan: its statistics, the kind it is most like, what each cost, and both limits."""

    statistics: Mapping[str, float]
    kind: str
    points: Mapping[str, float]
    most_points: float
    sure_points: float

    @property
    def total(self) -> float:
        return sum(self.points.values())

    @property
    def reason(self) -> str | None:
        """Why the scan is refused, in one sentence; None when it is not."""
        if self.total <= self.most_points:
            return None
        return f"{NOT_LUMBAR}: {self._worst}."

    @property
    def doubt(self) -> str | None:
        """Why no decision may rest on the scan, in one sentence; None when one may."""
        if self.total <= self.sure_points:
            return None
        return (
            "No decision is given, as this only just passes as a scan of the lower back (most against it: "
            f"{self._worst})."
        )

    @property
    def _worst(self) -> str:
        return REASONS[max(self.points, key=lambda name: self.points[name])]


def check_place(scan: Scan, layers: Layers, rule: Rule) -> Place:
    """The verdict on a scan that passes. Raises Refusal, with the reason, on one that does not."""
    place = judge(scan, layers, rule)
    if place.reason:
        raise Refusal(place.reason, "not-lumbar")
    return place


def judge(scan: Scan, layers: Layers, rule: Rule) -> Place:
    """Compare a scan and the layers found in it with what is typical."""
    return verdict(statistics(scan, layers), rule)


def verdict(found: Mapping[str, float], rule: Rule) -> Place:
    """Compare the statistics of a scan with what is typical of each kind of tissue; the best counts."""
    places = (_compared(found, kind, likeness) for kind, likeness in rule.kinds.items())
    return min(places, key=_rank)


def _compared(found: Mapping[str, float], kind: str, likeness: Likeness) -> Place:
    points = {name: _points(found[name], norm) for name, norm in likeness.norms.items()}
    return Place(found, kind, points, likeness.most_points, likeness.sure_points)


def _rank(place: Place) -> tuple[bool, bool, float]:
    refused, doubted = place.total > place.most_points, place.total > place.sure_points
    return refused, doubted, place.total - place.most_points


def shortfall(value: float, norm: Norm) -> float:
    """How many spreads below typical, from 0 to ``MOST_SPREADS``; a statistic without a value is worst."""
    if not math.isfinite(value):
        return MOST_SPREADS
    return min(max((norm.typical - value) / norm.spread, 0.0), MOST_SPREADS)


def _points(value: float, norm: Norm) -> float:
    return norm.cost * shortfall(value, norm)


def load_rule(folder: Path) -> Rule | None:
    """Read place.toml; None where no gate was fitted to the weights of this folder.

    Raises WeightsError naming file and key where it is broken.
    """
    path = folder / FILE
    if not path.exists():
        return None
    card = read_card(path)
    if "kinds" not in card.table:
        raise WeightsError(
            f"{path} is of an earlier gate; fit it anew: python -m models.training.place {folder}"
        )
    kinds = {kind: _likeness(card.part("kinds").part(kind)) for kind in KINDS}
    return Rule(kinds, card.text("statement"))


def _likeness(card: Card) -> Likeness:
    tables = {name: card.part("norms").part(name) for name in REASONS}
    norms = {
        name: Norm(table.number("typical"), table.above("spread", 0), table.number("cost"))
        for name, table in tables.items()
    }
    return Likeness(norms, card.number("most_points"), card.number("sure_points"))


def statistics(scan: Scan, layers: Layers) -> dict[str, float]:
    """All statistics, larger is more like a lumbar scan; NaN where the layers found do not allow one."""
    view = view_of(scan, layers)
    return {**of_borders(view, layers), **of_texture(view, layers)}
