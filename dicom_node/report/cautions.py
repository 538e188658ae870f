"""Cautions: what a right Segmentation meets in viewers that are in use, for those who choose its form."""

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import SegmentationStorage

MOST_FRAMES = 400
"""Weasis 4.6.0 shows no Segmentation of more (its issue 680)."""


def cautions_of(dataset: Dataset) -> tuple[str, ...]:
    """A sentence for each viewer that will show a Segmentation wrongly or not at all, and what helps."""
    return tuple(_cautions(dataset)) if "SegmentSequence" in dataset else ()


def _cautions(mask: Dataset) -> Iterator[str]:
    frames, rows, columns = int(mask.NumberOfFrames), int(mask.Rows), int(mask.Columns)
    if frames > MOST_FRAMES:
        yield (
            f"Segmentation of {frames} frames: Weasis 4.6.0 shows none of more than {MOST_FRAMES}; "
            'seg = "labelmap" writes a frame per slice'
        )
    is_packed = (
        mask.SOPClassUID == SegmentationStorage
        and not mask.file_meta.TransferSyntaxUID.is_encapsulated
    )
    uneven = rows * columns % 8 or frames * rows * columns % 16
    if is_packed and frames > 1 and uneven:
        yield (
            f"Segmentation of {rows} x {columns} pixels: OHIF 3.13 shows its layers in the wrong place, or "
            "loads none; companion = true helps"
        )
