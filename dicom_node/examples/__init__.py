"""examples: a folder of DICOM becomes training examples: Scans, and the masks that their SEGs draw.

Scans are assembled as the node assembles them. A segmentation belongs to the scan whose instances it refers
to. Each of its frames is laid on a slice by patient coordinates where both are in one frame of reference,
else by the source frame it names (PS3.3 C.7.6.16.2.6). Written are ``<n>-scan.npz``, ``<n>-labels.npy``
(uint8, slice, row, column) and ``examples.json``.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage
from rich.progress import track

from dicom_node.assemble import assemble_study
from dicom_node.assemble.instances import malformed
from dicom_node.errors import ExamplesError, StudyError
from dicom_node.examples.frames import LABEL_MAP, MaskFrame, ScanGrid, draw, read_frames, read_grid
from dicom_node.process import find_studies
from dicom_node.settings import Source
from dicom_node.study import NOT_TO_SCALE, PROGRAM, Acquisition, StoredInstance

INDEX = "examples.json"
SEGMENTATIONS = frozenset({SegmentationStorage, LABEL_MAP})
EQUIPMENT, ALGORITHM = (
    "ContributingEquipmentSequence",
    "SegmentationAlgorithmIdentificationSequence",
)
THIN_FIRST = (3, 5, 1, 2, 4, 6)
"""Where two masks claim one voxel: a membrane drawn over fat is the membrane."""


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """One SEG object: its data set, and what it refers to."""

    path: Path
    dataset: Dataset
    instances: frozenset[str]
    series: frozenset[str]

    @property
    def name(self) -> str:
        return f"SEG {self.dataset.SOPInstanceUID} ({self.path.name})"

    @property
    def own(self) -> bool:
        """Whether this program made a segment of it, and nobody has changed that since.

        Who edits a segment says so by its type, SEMIAUTOMATIC or MANUAL (PS3.3 C.8.20.2), also where
        the program that saves it keeps our name as manufacturer, equipment or source of the algorithm.
        """
        makers = (
            self.dataset.get("Manufacturer"),
            *(item.get("Manufacturer") for item in self.dataset.get(EQUIPMENT) or ()),
        )
        return any(
            segment.get("SegmentAlgorithmType") == "AUTOMATIC"
            and PROGRAM
            in (*makers, *(one.get("AlgorithmSource") for one in segment.get(ALGORITHM) or ()))
            for segment in self.dataset.get("SegmentSequence") or ()
        )


def write_examples(
    data: Path,
    out: Path,
    names: Mapping[str, int],
    sources: Sequence[Source] = (),
    own: bool = False,
) -> tuple[str, ...]:
    """Write the examples of every study below ``data`` into ``out``; returns sentences for the person.

    ``names`` says which layer a segment is (0 = none): by label, ``scheme:code`` or ``#number``, lower case.
    ``own``: results of this program are taken as truth, too; else they are an error. Raises ExamplesError
    naming the SEG and the segment that cannot be used. No DICOM at all: writes nothing.
    """
    studies, _ = find_studies([data])
    shutil.rmtree(out, ignore_errors=True)
    if not studies:
        return ()
    if not own:
        _check_foreign(studies)
    out.mkdir(parents=True)
    entries: list[dict[str, str | bool | None]] = []
    said: list[str] = []
    read: list[Mask] = []
    for study_uid, instances in track(studies.items(), "Read DICOM studies"):
        for acquisition, masks in _joined(study_uid, instances, sources, said):
            stem = str(len(entries))
            acquisition.scan.save(out / f"{stem}-scan.npz")
            entry: dict[str, str | bool | None] = {
                "study": study_uid,
                "scan": f"{stem}-scan.npz",
                "labels": None,
                "own": any(mask.own for mask in masks),
            }
            read += masks
            if masks:
                np.save(out / f"{stem}-labels.npy", _labels(acquisition, masks, names, said))
                entry["labels"] = f"{stem}-labels.npy"
            entries.append(entry)
    if automatic := sum(_is_automatic(mask) for mask in read):
        said.append(
            f"{automatic} of {len(read)} SEG were made by a program, not drawn: they teach what that one does"
        )
    if ours := sum(mask.own for mask in read):
        said.append(f"{ours} of {len(read)} SEG are results of this program, taken as truth: --own")
    (out / INDEX).write_text(json.dumps({"examples": entries}, indent=2) + "\n", encoding="utf-8")
    return tuple(said)


def _check_foreign(studies: Mapping[str, Sequence[StoredInstance]]) -> None:
    """Raise ExamplesError where a SEG is a result of this program: it would be taught its own mistakes."""
    masks = [
        _open(item, pixels=False)
        for instances in studies.values()
        for item in instances
        if item.sop_class_uid in SEGMENTATIONS
    ]
    if ours := [mask for mask in masks if mask.own]:
        raise ExamplesError(
            f"{len(ours)} of {len(masks)} SEG are results of this program itself, as {ours[0].name}: taken "
            "as truth they would teach the network its own mistakes. Take them out of the folder, or say "
            "--own to train on them all the same"
        )


def _joined(
    study_uid: str, instances: Sequence[StoredInstance], sources: Sequence[Source], said: list[str]
) -> Iterator[tuple[Acquisition, list[Mask]]]:
    """Each acquisition of a study with its masks; a study that gives no scan is told and left out."""
    masks = [_open(item) for item in instances if item.sop_class_uid in SEGMENTATIONS]
    images = [item for item in instances if item.sop_class_uid not in SEGMENTATIONS]
    try:
        acquisitions = assemble_study(study_uid, 0, images, sources).acquisitions
    except StudyError as error:
        if masks:
            raise ExamplesError(
                f"{masks[0].name}: its images cannot be used: {error.reason}"
            ) from error
        said.append(f"left out: {error}")
        return
    homes = [_home(mask, acquisitions) for mask in masks]
    for number, acquisition in enumerate(acquisitions):
        yield acquisition, [mask for mask, home in zip(masks, homes, strict=True) if home == number]


def _open(item: StoredInstance, pixels: bool = True) -> Mask:
    dataset = dcmread(item.path, stop_before_pixels=not pixels)
    series = dataset.get("ReferencedSeriesSequence") or ()
    named = [one for entry in series for one in entry.get("ReferencedInstanceSequence") or ()]
    for group in (
        *(dataset.get("SharedFunctionalGroupsSequence") or ()),
        *(dataset.get("PerFrameFunctionalGroupsSequence") or ()),
    ):
        for derivation in group.get("DerivationImageSequence") or ():
            named += derivation.get("SourceImageSequence") or ()
    return Mask(
        item.path,
        dataset,
        frozenset(str(one.ReferencedSOPInstanceUID) for one in named),
        frozenset(str(entry.get("SeriesInstanceUID")) for entry in series),
    )


def _home(mask: Mask, acquisitions: Sequence[Acquisition]) -> int:
    """The one acquisition that a SEG is of: by the instances it names, else by the series."""
    headers = [
        [header for source in acquisition.sources for header in source.headers()]
        for acquisition in acquisitions
    ]
    for keyword, wanted in (("SOPInstanceUID", mask.instances), ("SeriesInstanceUID", mask.series)):
        fits = [
            number
            for number, items in enumerate(headers)
            if any(str(item.get(keyword)) in wanted for item in items)
        ]
        if len(fits) == 1:
            return fits[0]
        if fits:
            break
    what = "several of the scans" if fits else "none of the scans"
    raise ExamplesError(f"{mask.name} refers to {what} in its study; each SEG must be of one scan")


def _labels(
    acquisition: Acquisition, masks: Sequence[Mask], names: Mapping[str, int], said: list[str]
) -> NDArray[np.uint8]:
    """Layers 0 to 6 on the scan's grid, of all its masks together."""
    grid = read_grid(acquisition)
    drawn: dict[int, NDArray[np.bool_]] = {}
    owner: dict[int, Mask] = {}
    for mask in masks:
        layers = _layers_of(mask, names)
        with malformed(str(mask.dataset.get("StudyInstanceUID")), f"{mask.name} cannot be read"):
            frames = read_frames(mask.dataset)
        for frame in frames:
            layer = layers.get(frame.segment, 0)
            if not layer:
                continue
            if owner.setdefault(layer, mask) is not mask:
                raise ExamplesError(
                    f"{mask.name} and {owner[layer].name} both draw layer {layer} of one scan; keep one"
                )
            _draw(mask, frame, grid, drawn.setdefault(layer, np.zeros(grid.shape, np.bool_)))
    return _merged(drawn, grid, said, masks)


def _draw(mask: Mask, frame: MaskFrame, grid: ScanGrid, onto: NDArray[np.bool_]) -> None:
    reason = draw(frame, grid, onto)
    if reason:
        raise ExamplesError(f"{mask.name}, frame {frame.number}, segment {frame.segment}: {reason}")


def _merged(
    drawn: Mapping[int, NDArray[np.bool_]],
    grid: ScanGrid,
    said: list[str],
    masks: Sequence[Mask],
) -> NDArray[np.uint8]:
    labels = np.zeros(grid.shape, np.uint8)
    for layer in reversed(THIN_FIRST):
        if layer in drawn:
            labels[drawn[layer]] = layer
    claims = np.sum(list(drawn.values()), axis=0) if drawn else np.zeros(grid.shape, int)
    if twice := int((claims > 1).sum()):
        share = twice / int((claims > 0).sum())
        said.append(
            f"{masks[0].name}: {share:.1%} of the mask lies in two layers; the thinner one won"
        )
    if not labels.any():
        raise ExamplesError(f"{masks[0].name}: no voxel of any layer lies on its scan")
    return labels


def _layers_of(mask: Mask, names: Mapping[str, int]) -> dict[int, int]:
    """Segment number -> layer: by number where the site says so, label, or code of its type."""
    layers = {}
    for item in mask.dataset.SegmentSequence:
        number, label = int(item.SegmentNumber), str(item.get("SegmentLabel") or "")
        label = label.removesuffix(NOT_TO_SCALE)
        kinds = item.get("SegmentedPropertyTypeCodeSequence") or ()
        codes = [
            f"{one.CodingSchemeDesignator}:{one.CodeValue}" for one in kinds if "CodeValue" in one
        ]
        keys = (f"#{number}", label.strip().lower(), *map(str.lower, codes))
        known = [names[key] for key in keys if key in names]
        if not known:
            raise ExamplesError(
                f"{mask.name}: segment {number} {label!r} (type {', '.join(codes) or 'no code'}) is none of "
                f'the layers known by name; say in layers.toml, [layers], what it is: "{label}" = 1 to 6, or '
                "0 to leave it out"
            )
        layers[number] = known[0]
    return layers


def _is_automatic(mask: Mask) -> bool:
    return any(
        item.get("SegmentAlgorithmType") == "AUTOMATIC" for item in mask.dataset.SegmentSequence
    )
