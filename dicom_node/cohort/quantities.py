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

UNTRAINED, NOT_MUSCLE, FLAT = "untrained saliency", "non-muscle saliency", "flat saliency"
"""What stands beside a saliency: that of networks that have learned nothing; of layers 1 to 5 pooled by
volume; and what a map that says nothing would give every layer."""

CODES = {
    ("DCM", "130404"): SALIENCY,
    ("99LAYER", "ENRICHMENT"): ENRICHMENT,
    ("99LAYER", "CONTRIBUTION"): CONTRIBUTION,
    ("LN", "59089-3"): THICKNESS,
}
UNITS = {
    SALIENCY: "0-1",
    UNTRAINED: "0-1",
    NOT_MUSCLE: "0-1",
    FLAT: "0-1",
    ENRICHMENT: "ratio",
    MAGNITUDE: "log-odds",
    CONTRIBUTION: "log-odds",
    THICKNESS: "mm",
}
MEAN, NULL = "373098007", "NULL"
PARTS = ("SHAPLEY-LOOK", "SHAPLEY-THICK", "SHAPLEY-SHEAR")
"""Methods of a contribution's parts; the muscle has no thickness, as the image cuts it off."""
DEFAULT_THICKNESS = ("T2-3D", "T2-2D")
"""Other definitions of thickness are in the reports to check this one."""
UNTRAINED_METHOD = "UNTRAINED"
BESIDE = {UNTRAINED_METHOD: UNTRAINED, "NONMUSCLE": NOT_MUSCLE, "NULL": FLAT}
"""Words in the methods of what stands beside a saliency, as CAM-NULL beside CAM-P99.5."""
PROBABILITY = ("DCM", "122157")
PAIN = ("99LAYER", "PAIN")


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a report: ``layer`` is None for the whole scan."""

    quantity: Code
    method: Code | None
    derivation: Code | None
    layer: int | None
    value: float


def place(column: str) -> tuple[bool, int, str]:
    """Sorts columns: non-muscle saliency, then by name, a contribution's total before its parts."""
    quantity, _, method = column.partition("|")
    part = PARTS.index(method) + 1 if method in PARTS else 0
    return quantity != NOT_MUSCLE, part, column


def tabulated(number: Number) -> str:
    """The column of a number, as ``saliency|CAM-P99.5``; empty when a cohort does not tabulate it."""
    name = CODES.get((number.quantity.scheme, number.quantity.value), "")
    method = number.method.value if number.method else ""
    derivation = number.derivation.value if number.derivation else ""
    words = method.split("-")
    if name == THICKNESS:
        return f"{name}|{method}" if derivation == MEAN and method in DEFAULT_THICKNESS else ""
    if not name or derivation not in ("", MEAN, NULL):
        return ""
    nulls = [BESIDE[word] for word in words if word in BESIDE]
    if not nulls:
        return f"{name}|{method}"
    return f"{nulls[0]}|{next((word for word in words if word not in BESIDE), '')}"


def beside(column: str, quantity: str) -> str:
    """The column of what stands beside a saliency, by the first word of its method."""
    return f"{quantity}|{column.split('|')[1].partition('-')[0]}"
