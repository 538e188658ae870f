"""References from results to the true source frames, in place of those to the proxy (PS3.3 C.7.6.16.2.6)."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    EnhancedMRImageStorage,
    MRImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from dicom_node.report.origin import Origin

KNOWN_CLASSES = {
    "US": (UltrasoundImageStorage, UltrasoundMultiFrameImageStorage),
    "MR": (MRImageStorage, EnhancedMRImageStorage),
}
PURPOSE = codes.DCM.SourceImageForImageProcessingOperation


def refer_to_sources(dataset: Dataset, origin: Origin) -> None:
    """Point every frame, and the object as a whole, to the instances that were received.

    The first reference of a frame is the B-mode frame; frames of further channels follow.
    """
    slices = origin.acquisition.scan.shape[0]
    items = [source_items(origin, position) for position in range(slices)]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        derivation = group.DerivationImageSequence[0]
        position = int(derivation.SourceImageSequence[0].ReferencedFrameNumber) - 1
        derivation.SourceImageSequence = items[position]
    instances = unique_headers(origin)
    dataset.SourceImageSequence = [instance_item(header) for header in instances]
    dataset.ReferencedSeriesSequence = _series(instances)


def source_items(origin: Origin, position: int) -> list[Dataset]:
    """Items of Source Image Sequence for one slice: one frame per source, none twice."""
    purpose = CodedConcept.from_code(PURPOSE)
    items, seen = [], set()
    for source in range(len(origin.headers)):
        header, frame = origin.frame(position, source)
        if (header.SOPInstanceUID, frame.number) in seen:
            continue
        seen.add((header.SOPInstanceUID, frame.number))
        item = instance_item(header)
        item.PurposeOfReferenceCodeSequence = [purpose]
        item.SpatialLocationsPreserved = "YES"
        if frame.number is not None:
            item.ReferencedFrameNumber = frame.number
        items.append(item)
    return items


def known_class(origin: Origin) -> str:
    """A class that highdicom takes in the place of the sources' own, which may be retired or private."""
    multi_frame = any(frame.number is not None for frame in origin.acquisition.sources[0].frames)
    kinds = KNOWN_CLASSES[origin.acquisition.scan.modality]
    return str(kinds[multi_frame])


def stand_ins(origin: Origin) -> list[Dataset]:
    """The headers of all source instances, as of a class that highdicom knows."""
    headers = []
    for header in unique_headers(origin):
        known = deepcopy(header)
        known.SOPClassUID = known_class(origin)
        headers.append(known)
    return headers


def restore_classes(dataset: Dataset, origin: Origin) -> None:
    """Give every reference to a source, however deep, the class that the source has."""
    classes = {header.SOPInstanceUID: header.SOPClassUID for header in unique_headers(origin)}
    _restore(dataset, classes)


def _restore(dataset: Dataset, classes: Mapping[str, str]) -> None:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _restore(item, classes)
    own = classes.get(str(dataset.get("ReferencedSOPInstanceUID", "")))
    if own is not None:
        dataset.ReferencedSOPClassUID = own


def references(dataset: Dataset) -> Iterator[Dataset]:
    """Every item, however deep, that refers to an instance."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "ReferencedSOPInstanceUID" in item:
                    yield item
                yield from references(item)


def unique_headers(origin: Origin) -> list[Dataset]:
    """Every source instance once, B-mode first."""
    by_uid = {header.SOPInstanceUID: header for items in origin.headers for header in items}
    return list(by_uid.values())


def instance_item(header: Dataset) -> Dataset:
    """An item that refers to one instance."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def _series(instances: Sequence[Dataset]) -> list[Dataset]:
    """Common Instance Reference (PS3.3 C.12.2): one item per source series."""
    series: dict[str, list[Dataset]] = {}
    for header in instances:
        series.setdefault(header.SeriesInstanceUID, []).append(instance_item(header))
    items = []
    for uid, references in series.items():
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = references
        items.append(item)
    return items
