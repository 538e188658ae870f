"""Cautions: what a reader of results, or who chooses their form, should know beside the findings."""

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from dicom_node.report.burned_in import burned_in_of
from models.scan import Scan

MOST_FRAMES = 400
"""Weasis 4.6.0 shows no Segmentation of more (its issue 680)."""

PICTURES = ("page", "document", "companion")
"""Kinds of objects that show the tissue."""

SHOWN = {
    "yes": "text that is burned into the source images, such as a name, may be readable in pages, PDF and "
    "companion images: their BurnedInAnnotation is YES",
    "unknown": "the source images do not say whether text is burned into them, and no tissue region leaves "
    "it out: pages and companion images do not say so either, and a PDF says YES",
    "no": "",
}


def cautions_for(kind: str, scan: Scan) -> tuple[str, ...]:
    """What those who get an object of a kind should know of its scan."""
    shown = SHOWN[burned_in_of(scan)] if kind in PICTURES else ""
    return tuple(filter(None, (side_caution(scan), shown)))


def side_caution(scan: Scan) -> str:
    """Why the side is not known although the source images name one, or ""."""
    said = scan.facts.get("side_contradiction", "")
    return (
        f"the side is not known, as the source images contradict one another: {said}"
        if said
        else ""
    )


ONLY_REGIONS = (
    "Segmentation of a source whose pixel spacing stands only in its ultrasound regions: viewers that "
    "place by geometry (VolView) lay its layers in the wrong place; companion = true helps"
)


def cautions_of(dataset: Dataset, has_spacing: bool = True) -> tuple[str, ...]:
    """A sentence for each viewer that will show a Segmentation wrongly or not at all, and what helps.

    ``has_spacing``: whether the images that it refers to have Pixel Spacing.
    """
    if "SegmentSequence" not in dataset:
        return ()
    found = list(_cautions(dataset))
    return tuple(found if has_spacing else [*found, ONLY_REGIONS])


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
