"""Negatives: made scans that show no lumbar layers. None is taken from a patient.

They teach the gate of models/layer/place what to refuse: noise with and without bright bands, gel, air
and organs, screens, patterns and pictures, and lumbar phantoms turned, flipped or cut to pieces.
"""

import numpy as np

from models.phantom import PhantomRequest, Protocol, varied_request
from models.phantom.streams import stream
from models.scan import Geometry, Scan
from models.training.negatives import bands, drawn, media, rearranged
from models.training.negatives.fields import Maker

FAMILIES: dict[str, dict[str, Maker]] = {
    "bands": bands.KINDS,
    "media": media.KINDS,
    "drawn": drawn.KINDS,
    "rearranged": rearranged.KINDS,
}
"""Kinds that are made alike, by the name of what they have in common."""

KINDS: dict[str, Maker] = {
    kind: make for family in FAMILIES.values() for kind, make in family.items()
}
"""What is made, by name."""

PROTOCOLS = (
    Protocol(slices=3),
    Protocol(
        3,
        depth_mm=(18.0, 65.0),
        width_mm=(20.0, 55.0),
        row_mm=(0.1, 0.4),
        column_mm=(0.1, 0.45),
    ),
)
"""Usual fields of view and pixels, and unusual ones: nobody chose the depth of a noise."""


def negative_of(seed: int) -> tuple[str, Scan]:
    """One negative with its kind, both of which follow from the seed."""
    kind = list(KINDS)[seed % len(KINDS)]
    protocol = PROTOCOLS[seed // len(KINDS) % len(PROTOCOLS)]
    return kind, make_negative(seed, kind, varied_request(seed, protocol))


def make_negative(seed: int, kind: str, request: PhantomRequest) -> Scan:
    """One negative of a kind of ``KINDS``, on the grid of a request. Half of them are one image repeated."""
    gray = KINDS[kind](seed, request)
    if stream(seed, "negative.still").uniform() < 0.5:
        gray = np.repeat(gray[:1], gray.shape[0], axis=0)
    gray = np.rint(np.clip(gray, 0, 255)).astype(np.float32)
    affine = np.diag([*request.spacing_mm, 1.0])
    valid = np.ones(gray.shape, np.bool_)
    return Scan(gray[None], ("b-mode",), ("1",), valid, affine, Geometry("measured", "measured"))
