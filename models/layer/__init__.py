"""The layer analysis: six tissue layers of the lower back, their thickness, pain, and what it rests on.

Research use only. The networks are trained on simulated data.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from models import codes
from models.analysis import OutOfMemory, Refusal, WeightsError
from models.findings import Classification, Findings, Flag, Measurement, Run, Segmentation
from models.layer import concepts
from models.layer.labels import SEGMENTS
from models.layer.place import Rule, check_place, load_rule
from models.layer.reasons import Reasons, attribute, decide, interval
from models.layer.sizes import (
    Sizes,
    has_shear_wave,
    measure,
    shear_flags,
    size_flags,
    size_measurements,
    source_flags,
)
from models.layer.weights import Classifier, Weights, load_weights
from models.scan import Scan
from models.steps.classify import build_case, classify
from models.steps.grid import SLICES_AT_ONCE
from models.steps.segment import Layers, Volume, segment

__all__ = ["LayerAnalysis", "WeightsError", "analysis"]

READ_FIRST = (
    codes.THICKNESS,
    concepts.VISIBLE_DEPTH,
    concepts.CONTRIBUTION,
    codes.SALIENCY,
    concepts.EXPECTED_DICE,
)
"""What a reader looks for stands before all other numbers of a layer."""

LEAST_SLICES = 2
LEAST_VOXELS = 4096
LEAST_CONTRAST = 2.0  # gray levels, standard deviation
SURE_DICE = 0.7  # expected; a layer below it is flagged
SPACING_MM = (0.02, 1.0)  # of pixels: coarser, and a fascia is less than two of them
NO_MEMORY = ("can't allocate memory", "allocate memory for image", "bad alloc", "out of memory")
"""What torch on a processor and SimpleITK say in a RuntimeError."""

LIBRARIES = ("torch", "monai", "captum", "SimpleITK", "numpy", "scipy", "safetensors")


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """The decision, the ends of its interval and what it rests on; all empty where it is withheld."""

    classifications: tuple[Classification, ...]
    interval: tuple[Measurement, ...]
    reasons: Reasons


NOT_DECIDED = Decided((), (), Reasons((), (), ()))


class LayerAnalysis:
    """Segments, measures, classifies and attributes; loads its weights once.

    Raises WeightsError when the weights in ``folder`` are missing or changed.
    """

    name = "layer"
    version = "1"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._device = "cpu"
        self._at_once = SLICES_AT_ONCE
        self._weights: Weights | None = None
        self._rule: Rule | None = None

    def with_weights(self, folder: Path) -> "LayerAnalysis":
        return LayerAnalysis(folder)

    def accepts(self, scan: Scan) -> bool:
        return scan.modality == "US" and "b-mode" in scan.channels

    def prepare(self, device: str, threads: int) -> None:
        """Load the weights, for a device and a number of threads. Raises WeightsError, RuntimeError."""
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("analyze.device is cuda, but there is no GPU that torch can use")
        wanted = "cuda" if device == "auto" and torch.cuda.is_available() else device
        self._device = "cpu" if wanted == "auto" else wanted
        self._weights = None
        if threads:
            torch.set_num_threads(threads)
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        # The same scan must give the same bytes, and a GPU the numbers of a processor.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
        self._load()

    def spare(self) -> None:
        self._at_once = 1

    def run(self, scan: Scan) -> Findings:
        """Segment, measure, classify, attribute. Raises Refusal, OutOfMemory."""
        try:
            return self._run(scan)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory from error
        except RuntimeError as error:
            if any(word in str(error).lower() for word in NO_MEMORY):
                raise OutOfMemory from error
            raise

    def _run(self, scan: Scan) -> Findings:
        start = time.perf_counter()
        check(scan)
        weights, rule = self._load()
        volume = Volume(scan.channel("b-mode"), scan.valid, scan.spacing_mm[1:], self._at_once)
        with torch.no_grad():
            layers = segment(volume, weights.segment.slice_wise, self._device)
        if not layers.labelmap.any():
            raise Refusal("No tissue layer was found in the images.", "not-lumbar")
        withheld = check_place(scan, layers, rule).doubt if rule else None
        sizes = measure(scan, layers.labelmap)
        pain = _classifier(weights, scan)
        decided = NOT_DECIDED
        if not withheld:
            decided = self._decide(scan, layers.labelmap, sizes, pain)
        flags = [Flag(concepts.SIMULATED, weights.statement)]
        flags += [Flag(concepts.WITHHELD, withheld)] if withheld else []
        flags += [*size_flags(scan, sizes, layers.reordered), *shear_flags(scan, sizes)]
        flags += [*source_flags(scan), *_doubts(layers, rule)]
        return Findings(
            Segmentation(SEGMENTS, layers.labelmap),
            decided.classifications,
            decided.reasons.attributions,
            _in_order(
                *size_measurements(scan, sizes),
                *_expected(layers),
                *decided.interval,
                *decided.reasons.measurements,
            ),
            (*flags, *decided.reasons.flags),
            self._manifest(weights, pain, time.perf_counter() - start),
        )

    def _decide(
        self, scan: Scan, labelmap: NDArray[np.uint8], sizes: Sizes, pain: Classifier
    ) -> Decided:
        case = build_case(
            scan, labelmap, sizes.mean_thickness_mm(), pain.network.channels, pain.spacing_mm
        ).to(self._device)
        with torch.no_grad():
            decision = classify(pain.network, case, pain.temperature, pain.levels)
        return Decided(
            (decide(decision, pain.levels),),
            tuple(interval(decision)),
            attribute(pain.network, case, labelmap, decision.logit),
        )

    def _load(self) -> tuple[Weights, Rule | None]:
        if self._weights is None:
            self._weights = load_weights(self._folder).to(self._device)
            self._rule = load_rule(self._folder)
        return self._weights, self._rule

    def _manifest(self, weights: Weights, pain: Classifier, seconds: float) -> Run:
        settings = {
            "weights": weights.version,
            "segmentation grid": _millimeters(weights.segment.spacing_mm),
            "classification grid": _millimeters(pain.spacing_mm),
            "channels": ", ".join(pain.network.channels),
            "temperature": f"{pain.temperature:g}",
        }
        if pain.levels:
            settings["thresholds"] = ", ".join(f"{item:g}" for item in pain.levels.thresholds)
        libraries = {library: version(library) for library in LIBRARIES}
        return Run(
            self.name, self.version, weights.sha256, settings, libraries, self._device, seconds
        )


def _in_order(*measurements: Measurement) -> tuple[Measurement, ...]:
    """What is read first comes first; the rest stays as it was."""
    place = {quantity: number for number, quantity in enumerate(READ_FIRST)}
    return tuple(sorted(measurements, key=lambda item: place.get(item.quantity, len(place))))


def check(scan: Scan) -> None:
    """Raise Refusal when the scan cannot be measured, with a sentence for the people who sent it."""
    if not scan.geometry.in_plane_known:
        raise Refusal(
            "The images carry no pixel spacing, so nothing can be measured in millimeters. Send them with "
            "calibrated ultrasound regions, or declare the spacing of this scanner.",
            "no-geometry",
        )
    if scan.shape[0] < LEAST_SLICES:
        raise Refusal(
            f"There is {scan.shape[0]} image; a sweep of at least {LEAST_SLICES} is needed.",
            "incomplete",
        )
    low, high = SPACING_MM
    row, column = scan.spacing_mm[1:]
    if not low <= min(row, column) <= max(row, column) <= high:
        raise Refusal(
            f"The pixel spacing of {row:g} x {column:g} mm is not that of a lumbar ultrasound image "
            f"({low:g} to {high:g} mm)."
        )
    gray = scan.channel("b-mode")[scan.valid]
    if gray.size < LEAST_VOXELS:
        raise Refusal(
            f"The images show only {gray.size} pixels of tissue; at least {LEAST_VOXELS} are needed."
        )
    if gray.min() < 0 or gray.max() > 255:
        raise Refusal(
            f"The gray levels run from {gray.min():g} to {gray.max():g}; B-mode of 0 to 255 is needed."
        )
    if gray.std() < LEAST_CONTRAST:
        raise Refusal("The images are black or of a single gray: there is no contrast to analyze.")


def _expected(layers: Layers) -> Iterator[Measurement]:
    """How well each mask would overlap the truth if the network's probabilities were right."""
    for layer, dice in enumerate(layers.confidence, start=1):
        if not math.isnan(dice):
            yield Measurement(
                concepts.EXPECTED_DICE, dice, codes.NO_UNITS, layer, concepts.PROBABILITIES
            )


def _doubts(layers: Layers, rule: Rule | None) -> Iterator[Flag]:
    if rule is None:
        yield Flag(
            concepts.PLACE_UNCHECKED,
            "No gate was fitted to these weights: whether this is a lumbar scan was not checked.",
        )
    doubtful = [
        segment.label.lower()
        for segment, dice in zip(SEGMENTS, layers.confidence, strict=True)
        if dice < SURE_DICE
    ]
    if doubtful:
        yield Flag(
            concepts.UNSURE,
            f"Borders are uncertain (expected Dice below {SURE_DICE}): {', '.join(doubtful)}.",
        )


def _classifier(weights: Weights, scan: Scan) -> Classifier:
    return weights.pain_bswe if has_shear_wave(scan) else weights.pain_b


def _millimeters(spacing_mm: tuple[float, float]) -> str:
    row, column = spacing_mm
    return f"{row:g} x {column:g} mm"


analysis = LayerAnalysis(Path(__file__).parent)
