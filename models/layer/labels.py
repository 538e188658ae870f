"""The six layers of the lumbar soft tissue, from the skin down, as they are named, coded and colored.

No standard code tells superficial from deep fat or fascia: the label does. Layer names: arXiv 2511.21767.
"""

from models import codes
from models.findings import Segment

DERMIS, SUPERFICIAL_FAT, SUPERFICIAL_FASCIA, DEEP_FAT, DEEP_FASCIA, MUSCLE = range(1, 7)

SEGMENTS = (
    Segment(DERMIS, "Dermis", codes.TISSUE, codes.SKIN, codes.LUMBAR_REGION, (230, 159, 0)),
    Segment(
        SUPERFICIAL_FAT,
        "Superficial fat",
        codes.TISSUE,
        codes.FAT,
        codes.LUMBAR_REGION,
        (240, 228, 66),
    ),
    Segment(
        SUPERFICIAL_FASCIA,
        "Superficial fascial membrane",
        codes.TISSUE,
        codes.FASCIAL_LAYER,
        codes.LUMBAR_REGION,
        (0, 158, 115),
    ),
    Segment(DEEP_FAT, "Deep fat", codes.TISSUE, codes.FAT, codes.LUMBAR_REGION, (86, 180, 233)),
    Segment(
        DEEP_FASCIA,
        "Deep fascial membrane",
        codes.TISSUE,
        codes.FASCIAL_LAYER,
        codes.LUMBAR_REGION,
        (204, 61, 163),
    ),
    Segment(
        MUSCLE, "Muscle", codes.TISSUE, codes.ERECTOR_SPINAE, codes.LUMBAR_REGION, (213, 62, 0)
    ),
)
"""Colors: the Okabe-Ito palette, which color-blind readers can tell apart, lifted off gray."""

PLAUSIBLE_MM = {1: (0.5, 4.5), 2: (0.5, 25), 3: (0.2, 4), 4: (0.5, 60), 5: (0.3, 6), 6: (5, 60)}
"""Mean thickness outside these limits is flagged, never clipped. A choice, not a reference range."""
