"""Read back what was written and compare it with the findings and the sources."""

from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset, dcmread

from dicom_node.errors import ReportError
from dicom_node.report.origin import Origin


def check_mask(path: Path, origin: Origin) -> None:
    """Rebuild the labelmap frame by frame, through the references to the source frames alone.

    Raises ReportError when it differs from the findings in one voxel, or a reference is not a source frame.
    """
    dataset = dcmread(path)
    labelmap = origin.findings.segmentation.labelmap
    rebuilt = np.zeros_like(labelmap)
    frames = np.atleast_3d(dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns))
    positions = _positions(origin)
    for group, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        rebuilt[_position(group, positions, origin, path)][frame > 0] = number
    if not np.array_equal(rebuilt, labelmap):
        wrong = int(np.count_nonzero(rebuilt != labelmap))
        raise _error(origin, path, f"{wrong} voxels differ from the findings")
    _check_common(dataset, origin, path)


def check_map(path: Path, origin: Origin, number: int) -> None:
    """Compare every frame of a map with the attribution, and the order of the frames."""
    dataset = dcmread(path)
    attribution = origin.findings.attributions[number].map
    positions = _positions(origin)
    for group, frame in zip(
        dataset.PerFrameFunctionalGroupsSequence,
        dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns),
        strict=True,
    ):
        if not np.array_equal(frame, attribution[_position(group, positions, origin, path)]):
            raise _error(origin, path, "a frame differs from the attribution")
    _check_common(dataset, origin, path)


def check_report(path: Path, origin: Origin, mask: Dataset) -> None:
    """Parse the report as highdicom does, and follow every reference in it."""
    report = hd.sr.srread(path)
    instances = {str(item.SOPInstanceUID): item for items in origin.raw for item in items}
    for item in _content(report):
        for reference in item.get("ReferencedSOPSequence", []):
            uid = str(reference.ReferencedSOPInstanceUID)
            if uid == mask.SOPInstanceUID:
                continue
            if uid not in instances:
                raise _error(origin, path, f"it refers to {uid}, which is no source instance")
            if reference.ReferencedSOPClassUID != instances[uid].SOPClassUID:
                raise _error(origin, path, f"it refers to {uid} as of another SOP class")
    _check_common(report, origin, path)


def _content(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from _content(child)


def _positions(origin: Origin) -> dict[tuple[str, int | None], int]:
    """Slice of the Scan by SOP Instance UID and frame number of its first source."""
    found = {}
    for position in range(origin.acquisition.scan.shape[0]):
        header, frame = origin.frame(position)
        found[str(header.SOPInstanceUID), frame.number] = position
    return found


def _position(
    group: Dataset, positions: dict[tuple[str, int | None], int], origin: Origin, path: Path
) -> int:
    item = group.DerivationImageSequence[0].SourceImageSequence[0]
    number = item.get("ReferencedFrameNumber")
    key = (str(item.ReferencedSOPInstanceUID), None if number is None else int(number))
    if key not in positions:
        raise _error(origin, path, f"frame {key[1]} of {key[0]} is no source of the scan")
    return positions[key]


def _check_common(dataset: Dataset, origin: Origin, path: Path) -> None:
    if dataset.StudyInstanceUID != origin.study_uid:
        raise _error(origin, path, "it is of another study")
    if dataset.PatientID != origin.header.PatientID:
        raise _error(origin, path, "it is of another patient")


def _error(origin: Origin, path: Path, reason: str) -> ReportError:
    return ReportError(
        f"study {origin.study_uid}: {path.name} of {origin.name} was read back: {reason}; it was not "
        "delivered, keep the study and report the fault"
    )
