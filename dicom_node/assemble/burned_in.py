"""Whether what is shown of a scan may name the patient: the scanner's word, the tissue region, the pixels."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.assemble.regions import calibrate
from dicom_node.assemble.writing import Writing

WHOLE = 0.95
"""A region of this share of the rows and of the columns spans the screen: it bounds no tissue."""


def burned_in(headers: Sequence[Dataset], inside: NDArray[np.bool_], writing: Writing) -> str:
    """yes, no or unknown (Burned In Annotation, PS3.3 C.7.6.1), of the pixels inside the tissue regions.

    ``inside`` bool (slice, row, column) is where tissue may be, all else is shown black. Letters that are
    seen there are a yes whatever the scanner says. Beyond that its word counts, unless a trusted region
    leaves out what it speaks of.
    """
    said = {str(header.get("BurnedInAnnotation") or "").strip().upper() for header in headers}
    seen = np.asarray(inside.any(axis=0))
    if (writing.letters & seen).any():
        return "yes"
    # Without movement small letters may have been missed inside.
    leaves_out = is_bounded(headers, inside) and not writing.is_frozen
    # What the scanner speaks of must be seen outside, else it is inside and was not found.
    if "YES" in said:
        return "no" if leaves_out and (writing.letters & ~seen).any() else "yes"
    return "no" if leaves_out or said == {"NO"} else "unknown"


def is_bounded(headers: Iterable[Dataset], inside: NDArray[np.bool_]) -> bool:
    """Whether trusted tissue regions bound every frame: in centimeters, and smaller than the screen."""
    _, rows, columns = inside.shape
    high = inside.any(axis=2).sum(axis=1) >= WHOLE * rows
    wide = inside.any(axis=1).sum(axis=1) >= WHOLE * columns
    return not (high & wide).any() and all(calibrate(item).spacings_mm for item in headers)
