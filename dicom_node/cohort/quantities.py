"""What a cohort tabulates: the quantities of the layer analysis by their codes, and its six layers."""

from dataclasses import dataclass

from models.findings import Code

LAYERS = 6
MUSCLE = 6
LAYER_NAMES = (
    "Dermis",
    "Superficial fat",
    "Superficial fascial membrane",
    "Deep fat",
    "Deep fascial membrane",
    "Muscle",
)
SHORT_NAMES = ("Dermis", "Sup. fat", "SFM", "Deep fat", "DFM", "Muscle")
COLORS = ("#e69f00", "#f0e442", "#009e73", "#56b4e9", "#cc3da3", "#d53e00")
"""As in the segmentations: the Okabe-Ito palette, which color-blind readers can tell apart."""

SALIENCY, ENRICHMENT, CONTRIBUTION, THICKNESS = (
    "saliency",
    "enrichment",
    "contribution",
    "thickness",
)
MAGNITUDE = "magnitude"
"""Distance of a contribution from 0: a signed mean over a cohort with and without pain is near 0."""

CODES = {
    ("DCM", "130404"): SALIENCY,
    ("99LAYER", "ENRICHMENT"): ENRICHMENT,
    ("99LAYER", "CONTRIBUTION"): CONTRIBUTION,
    ("LN", "59089-3"): THICKNESS,
}
TERM = f"{CONTRIBUTION}|TERM-"
TOTAL = f"{CONTRIBUTION}|TERMS-SUMMED"
TOTAL_WORDS = {"TERMS-SUMMED": "All additive terms of the layer, summed"}
"""The additive terms of a layer, one by one in the reports, and together."""
UNITS = {
    SALIENCY: "0-1",
    ENRICHMENT: "ratio",
    CONTRIBUTION: "log-odds",
    MAGNITUDE: "log-odds",
    THICKNESS: "mm",
}
MEAN = "373098007"
PROBABILITY, LOGIT = ("DCM", "122157"), ("99DICOMNODE", "logit")
PAIN = ("99LAYER", "PAIN")
NOT_MUSCLE, NULL = "-NONMUSCLE", "-NULL"
"""Endings of the methods of whole-scan saliencies: layers 1 to 5 pooled by volume, and all six."""


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a report: ``layer`` is None for the whole scan."""

    quantity: Code
    method: Code | None
    derivation: Code | None
    layer: int | None
    value: float


def tabulated(number: Number) -> str:
    """The column of a number, as ``saliency|GRAD-P99.5``; empty when a cohort does not tabulate it."""
    name = CODES.get((number.quantity.scheme, number.quantity.value), "")
    derivation = number.derivation.value if number.derivation else ""
    # A thickness without a derivation is a caliper: one place, not the layer.
    plain = not derivation and name != THICKNESS
    if not name or not (plain or derivation == MEAN):
        return ""
    return f"{name}|{number.method.value if number.method else ''}"
