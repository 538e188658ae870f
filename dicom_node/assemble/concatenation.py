"""A multi-frame object that was sent in several instances (PS3.3 C.7.6.16.2.2.4)."""

from collections.abc import Sequence

import numpy as np

from dicom_node.assemble.instances import Frame, Instance, malformed
from dicom_node.errors import Incomplete


def concatenation(instance: Instance) -> str:
    """What the parts of one object share: series and Concatenation UID; "" for an object in one piece."""
    uid = str(instance.header.get("ConcatenationUID") or "")
    return f"{instance.header.SeriesInstanceUID}|{uid}" if uid else ""


def order(study_uid: str, frames: Sequence[Frame]) -> list[int]:
    """Frame indices in the order of the parts.

    Raises Incomplete when a part is missing; that the last one is, only the total number of parts can tell,
    and it is optional.
    """
    with malformed(study_uid, "the parts of a concatenation cannot be read"):
        parts = {id(frame.instance): frame.instance for frame in frames}.values()
        numbers = sorted(int(part.header.InConcatenationNumber) for part in parts)
        totals = {int(part.header.get("InConcatenationTotalNumber") or 0) for part in parts} - {0}
        places = np.array([[_number(frame), frame.number] for frame in frames])
    total = max(totals, default=len(numbers))
    if numbers != list(range(1, total + 1)):
        missing = total - len(set(numbers) & set(range(1, total + 1)))
        what = f"{missing} of {total} parts are missing" if missing > 0 else "a part comes twice"
        raise Incomplete(study_uid, f"an object sent in parts: {what}")
    return [int(index) for index in np.lexsort((places[:, 1], places[:, 0]))]


def _number(frame: Frame) -> int:
    return int(frame.instance.header.InConcatenationNumber)
