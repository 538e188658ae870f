"""Even length: masks of one bit per pixel that fill whole pairs of bytes.

DICOM pads an odd number of bytes by one (PS3.5 8.1.1). OHIF 3.13 counts that byte and then loads nothing.
"""

from copy import deepcopy

from pydicom import Dataset


def even_out(segmentation: Dataset) -> None:
    """Put in one empty frame, such as dense Segmentations have, where the bits fill an odd number of bytes.

    It lies on a slice that has a frame of another segment, and in its order. Nothing is done where no such
    place is left, or where frames do not begin with a byte: more of them would not help a reader there.
    """
    pixels = segmentation.Rows * segmentation.Columns
    frames = int(segmentation.NumberOfFrames)
    if pixels % 8 or pixels // 8 * frames % 2 == 0:
        return
    groups = segmentation.PerFrameFunctionalGroupsSequence
    found = _missing_frame(segmentation)
    if found is None:
        return
    place = sum(_indices(group) < _indices(found) for group in groups)
    groups.insert(place, found)
    length = pixels // 8
    kept = segmentation.PixelData[: length * frames]
    segmentation.PixelData = kept[: length * place] + bytes(length) + kept[length * place :]
    segmentation.NumberOfFrames = frames + 1


def _missing_frame(segmentation: Dataset) -> Dataset | None:
    """The functional groups of a frame that is not there, of a segment with other frames if there is one."""
    groups = segmentation.PerFrameFunctionalGroupsSequence
    taken = {tuple(_indices(group)) for group in groups}
    used = sorted({_indices(group)[0] for group in groups})
    absent = [int(item.SegmentNumber) for item in segmentation.SegmentSequence]
    for number in [*used, *(number for number in absent if number not in used)]:
        for group in groups:
            place = (number, *_indices(group)[1:])
            if place not in taken:
                frame = deepcopy(group)
                frame.FrameContentSequence[0].DimensionIndexValues = list(place)
                frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = number
                return frame
    return None


def _indices(group: Dataset) -> list[int]:
    """Number of the segment, then that of the slice (Dimension Index Values)."""
    return [int(value) for value in group.FrameContentSequence[0].DimensionIndexValues]
