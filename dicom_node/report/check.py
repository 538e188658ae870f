"""The gate: every written object is read back and held against the standard and against what was meant."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from dicom_node.report.burned_in import burned_in_of
from dicom_node.report.origin import Origin
from dicom_node.report.parametric_map import quantities
from dicom_node.report.references import references
from dicom_node.report.structure import LABEL_MAP, code_faults, structure_faults

LISTED = 3
"""Faults that a verdict names; one cause can make hundreds."""

Known = Mapping[str, tuple[str, int]]
"""SOP Class UID and number of frames of every instance that may be referred to, by SOP Instance UID."""


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """A written object: its kind, which of its kind, the pixels or bytes it was meant to carry."""

    path: Path
    kind: str
    number: int
    origin: Origin
    known: Known
    meant: Any = None


def judge(outgoing: Outgoing) -> str:
    """Why an object may not leave the node; "" where it may.

    Structure, codes and identity first: what is no right object is not read further.
    """
    dataset = dcmread(outgoing.path)
    for faults in (_form_faults(dataset, outgoing), _content_faults(dataset, outgoing)):
        found = list(dict.fromkeys(islice(faults, LISTED)))
        if found:
            return "; ".join(found)
    return ""


def judge_form(path: Path) -> str:
    """The same for a document that has no findings to be held against: structure and codes alone."""
    dataset = dcmread(path)
    found = [*structure_faults(dataset), *code_faults(dataset), *_file_faults(dataset)]
    return "; ".join(list(dict.fromkeys(found))[:LISTED])


def _form_faults(dataset: Dataset, outgoing: Outgoing) -> Iterator[str]:
    yield from structure_faults(dataset)
    yield from code_faults(dataset)
    yield from _identity_faults(dataset, outgoing.origin)
    yield from _file_faults(dataset)
    yield from _reference_faults(dataset, outgoing.known)


def _content_faults(dataset: Dataset, outgoing: Outgoing) -> Iterator[str]:
    read_back = READ_BACK.get(outgoing.kind)
    if read_back:
        yield from read_back(dataset, outgoing)


def _identity_faults(dataset: Dataset, origin: Origin) -> Iterator[str]:
    if dataset.StudyInstanceUID != origin.study_uid:
        yield "it is of another study"
    if dataset.PatientID != origin.header.PatientID:
        yield "it is of another patient"


def _file_faults(dataset: Dataset) -> Iterator[str]:
    meta = dataset.file_meta
    if (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (
        dataset.SOPClassUID,
        dataset.SOPInstanceUID,
    ):
        yield "its file names another instance than its data set"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not UID(dataset[keyword].value).is_valid:
            yield f"its {keyword} is no UID"


def _reference_faults(dataset: Dataset, known: Known) -> Iterator[str]:
    """References to what is neither a source of the study nor written beside it, or to no frame of it."""
    for item in references(dataset):
        uid = str(item.ReferencedSOPInstanceUID)
        if uid not in known:
            yield f"it refers to {uid}, which is no instance of the study"
            continue
        sop_class, frames = known[uid]
        if item.ReferencedSOPClassUID != sop_class:
            yield f"it refers to {uid} as of another SOP class"
        numbers = np.atleast_1d(item.get("ReferencedFrameNumber") or 1)
        if not all(1 <= int(number) <= frames for number in numbers):
            yield f"it refers to a frame that {uid} has not"


def _mask_faults(dataset: Dataset, outgoing: Outgoing) -> Iterator[str]:
    """Rebuild the labelmap frame by frame, through the references to the source frames alone."""
    labelmap = outgoing.origin.findings.segmentation.labelmap
    rebuilt = np.zeros_like(labelmap)
    positions = _positions(outgoing.origin)
    for group, frame in _frames(dataset):
        key = _source(group)
        if key not in positions:
            yield f"frame {key[1]} of {key[0]} is no source of the scan"
            return
        found = frame > 0
        if dataset.SOPClassUID == LABEL_MAP:
            rebuilt[positions[key]][found] = frame[found]
        else:
            number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            rebuilt[positions[key]][found] = number
    if not np.array_equal(rebuilt, labelmap):
        wrong = int(np.count_nonzero(rebuilt != labelmap))
        yield f"{wrong} voxels differ from the findings"


def _map_faults(dataset: Dataset, outgoing: Outgoing) -> Iterator[str]:
    """Compare every frame of a map with the quantity it shows."""
    values = quantities(outgoing.origin)[outgoing.number].values
    positions = _positions(outgoing.origin)
    for group, frame in _frames(dataset):
        key = _source(group)
        if key not in positions:
            yield f"frame {key[1]} of {key[0]} is no source of the scan"
        elif not np.array_equal(frame, values[positions[key]]):
            yield f"the frame of slice {positions[key] + 1} differs from what it shows"


def _report_faults(_dataset: Dataset, outgoing: Outgoing) -> Iterator[str]:
    """Parse the report as highdicom does."""
    try:
        hd.sr.srread(outgoing.path)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        yield f"highdicom cannot read it ({type(error).__name__})"


def _image_faults(dataset: Dataset, outgoing: Outgoing) -> Iterator[str]:
    if not np.array_equal(dataset.pixel_array, outgoing.meant):
        yield "its pixels differ from what was drawn"
    yield from _burned_in_faults(dataset, outgoing)


def _document_faults(dataset: Dataset, outgoing: Outgoing) -> Iterator[str]:
    length = int(dataset.EncapsulatedDocumentLength)
    if dataset.EncapsulatedDocument[:length] != outgoing.meant:
        yield "its document differs from what was drawn"
    yield from _burned_in_faults(dataset, outgoing)


def _burned_in_faults(dataset: Dataset, outgoing: Outgoing) -> Iterator[str]:
    """An object that shows the tissue may say that no text is burned in only where that is known."""
    known = burned_in_of(outgoing.origin.acquisition.scan)
    if dataset.get("BurnedInAnnotation") == "NO" and known != "no":
        yield "it says that no text is burned into its pixels, which is not known"


READ_BACK: Mapping[str, Callable[[Dataset, Outgoing], Iterator[str]]] = {
    "segmentation": _mask_faults,
    "map": _map_faults,
    "measurements": _report_faults,
    "refusal": _report_faults,
    "page": _image_faults,
    "companion": _image_faults,
    "document": _document_faults,
}


def _frames(dataset: Dataset) -> Iterator[tuple[Dataset, NDArray[Any]]]:
    """The functional groups and the pixels of every frame."""
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    yield from zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True)


def _positions(origin: Origin) -> dict[tuple[str, int | None], int]:
    """Slice of the Scan by SOP Instance UID and frame number of its first source."""
    found = {}
    for position in range(origin.acquisition.scan.shape[0]):
        header, frame = origin.frame(position)
        found[str(header.SOPInstanceUID), frame.number] = position
    return found


def _source(group: Dataset) -> tuple[str, int | None]:
    item = group.DerivationImageSequence[0].SourceImageSequence[0]
    number = item.get("ReferencedFrameNumber")
    return str(item.ReferencedSOPInstanceUID), None if number is None else int(number)
