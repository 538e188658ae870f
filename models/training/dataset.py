"""Dataset: a site's own examples, images with masks or pain labels, beside ``subjects.csv``.

A folder holds NIfTI files (``<id>.nii.gz``, ``<id>_labels.nii.gz``, optionally ``<id>_speed.nii.gz`` in m/s)
or what ``dicom_node.examples`` wrote from DICOM: ``examples.json`` naming Scan archives and label maps.
NIfTI axes are (column, row, slice); rows run from the probe down.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from models.analysis import Refusal
from models.layer import check
from models.layer.labels import DERMIS, MUSCLE, SEGMENTS
from models.scan import Geometry, Scan
from models.steps.grid import bounding_box, grid_shape, resample, resample_labels
from models.subjects import TABLE, Subject, read_table
from models.training.data import FINE, Sweep
from models.training.subjects import DatasetError, Words

INDEX = "examples.json"
SUFFIXES = (".nii.gz", ".nii")
SAME_PLACE_MM = 0.01
"""Image and mask lie on one grid when no corner of theirs is farther apart."""


@dataclass(frozen=True, slots=True)
class Example:
    """One scan of a study; ``labels`` and ``speed`` are files, or None; ``own`` masks are of this program."""

    row: Subject
    scan: Path
    labels: Path | None = None
    speed: Path | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Dataset:
    """All usable examples, and sentences on what there is and what is missing."""

    examples: tuple[Example, ...]
    summary: tuple[str, ...]

    @property
    def annotated(self) -> tuple[Example, ...]:
        return tuple(item for item in self.examples if item.labels)

    @property
    def with_pain(self) -> tuple[Example, ...]:
        return tuple(item for item in self.examples if item.row.pain is not None)


def open_dataset(folder: Path, table: Path, words: Words) -> Dataset:
    """Find the examples in ``folder`` and join them with ``subjects.csv`` in ``table``.

    Raises DatasetError for no example or studies that have no row, SubjectsError for the table.
    """
    rows = read_table(table / TABLE, words.pain)
    found = _from_index(folder) if (folder / INDEX).exists() else _nifti(folder)
    if not found:
        raise DatasetError(f"{folder}: neither DICOM nor NIfTI images (<id>.nii.gz) were found")
    strangers = sorted({study for study, *_ in found} - set(rows))
    if strangers:
        raise DatasetError(
            f"{table}: no row in subjects.csv for {len(strangers)} of the studies: "
            f"{', '.join(strangers[:5])}; add them, or take them out of the folder"
        )
    examples = tuple(
        Example(rows[study], scan, labels, speed, own) for study, scan, labels, speed, own in found
    )
    return Dataset(examples, _summary(examples, rows) + _levels(examples, words))


def _from_index(folder: Path) -> list[tuple[str, Path, Path | None, Path | None, bool]]:
    entries = json.loads((folder / INDEX).read_text(encoding="utf-8"))["examples"]
    return [
        (
            item["study"],
            folder / item["scan"],
            folder / item["labels"] if item["labels"] else None,
            None,
            item["own"],
        )
        for item in entries
    ]


def _nifti(folder: Path) -> list[tuple[str, Path, Path | None, Path | None, bool]]:
    files = {
        path.name.removesuffix(suffix): path
        for suffix in SUFFIXES
        for path in sorted(folder.glob(f"*{suffix}"))
    }
    parts = ("_labels", "_speed")
    stems = [stem for stem in sorted(files) if not stem.endswith(parts)]
    for stem in files:
        if stem.endswith(parts) and stem.rsplit("_", 1)[0] not in stems:
            raise DatasetError(
                f"{files[stem]} has no image {stem.rsplit('_', 1)[0]}.nii.gz beside it"
            )
    return [
        (stem, files[stem], files.get(f"{stem}_labels"), files.get(f"{stem}_speed"), False)
        for stem in stems
    ]


def _summary(examples: Sequence[Example], rows: Mapping[str, Subject]) -> tuple[str, ...]:
    def said(some: Sequence[Example], use: str) -> str:
        people = len({item.row.subject for item in some})
        return f"{len(some)} scans of {people} subjects {use}"

    masks = [item for item in examples if item.labels]
    pain = [item for item in examples if item.row.pain is not None]
    lines = [
        said(examples, "in all"),
        said([item for item in masks if item in pain], "with masks and pain label: for both"),
        said(
            [item for item in masks if item not in pain],
            "without pain label: for segmentation only",
        ),
        said([item for item in pain if item not in masks], "without masks: for pain only"),
        said(
            [item for item in examples if item not in masks and item not in pain],
            "with neither: not used",
        ),
    ]
    sexes = Counter(item.row.sex for item in examples if item.row.sex)
    if sexes:
        lines.append(
            "sex: " + ", ".join(f"{name} {count}" for name, count in sorted(sexes.items()))
        )
    for name in ("age", "bmi"):
        values = [
            getattr(item.row, name) for item in examples if getattr(item.row, name) is not None
        ]
        if values:
            lines.append(f"{name}: {min(values):g} to {max(values):g}")
    unused = len(set(rows) - {item.row.study for item in examples})
    if unused:
        lines.append(f"{unused} rows of subjects.csv have no images")
    return tuple(lines)


def _levels(examples: Sequence[Example], words: Words) -> tuple[str, ...]:
    """How many subjects have a scan of each level, where the site has levels."""
    people = [
        len({item.row.subject for item in examples if item.row.level == number})
        for number in range(len(words.pain.levels))
    ]
    said = ", ".join(
        f"{name} {count}" for name, count in zip(words.pain.levels, people, strict=True)
    )
    return (f"subjects with pain of level: {said}",) if said else ()


def read_example(example: Example, words: Words) -> tuple[Scan, NDArray[np.uint8] | None]:
    """The scan and its layers, uint8 (slice, row, column) of 0 to 6. Raises DatasetError naming the file."""
    if example.scan.suffix == ".npz":
        scan = Scan.load(example.scan)
        labels = np.load(example.labels) if example.labels else None
    else:
        scan = _nifti_scan(example)
        labels = _nifti_labels(example.labels, example.scan, words) if example.labels else None
    try:
        check(scan)
    except Refusal as refusal:
        raise DatasetError(f"{example.scan}: {refusal}") from refusal
    if labels is not None:
        _check_labels(example, labels)
    return scan, labels


def _image(path: Path) -> sitk.Image:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise DatasetError(
            f"{path}: cannot be read as NIfTI: {str(error).splitlines()[-1]}"
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DatasetError(f"{path}: three axes and one value for each voxel are needed")
    return image


def _nifti_scan(example: Example) -> Scan:
    image = _image(example.scan)
    gray = np.asarray(sitk.GetArrayFromImage(image), np.float32)
    channels, units, voxels = ["b-mode"], ["1"], [gray]
    if example.speed:
        other = _image(example.speed)
        _check_grid(example.speed, other, example.scan, image)
        speed = np.nan_to_num(np.asarray(sitk.GetArrayFromImage(other), np.float32))
        channels += ["shear-wave-speed", "shear-wave-valid"]
        units += ["m/s", "1"]
        voxels += [speed, (speed > 0).astype(np.float32)]
    if not np.isfinite(gray).all():
        raise DatasetError(f"{example.scan}: gray levels that are no numbers")
    placed = any(
        image.HasMetaDataKey(key) and image.GetMetaData(key) not in ("", "0")
        for key in ("qform_code", "sform_code")
    )
    return Scan(
        np.stack(voxels),
        tuple(channels),
        tuple(units),
        np.ones(gray.shape, np.bool_),
        _affine(image),
        Geometry("measured", "measured", "measured" if placed else "unknown"),
    )


def _affine(image: sitk.Image) -> NDArray[np.float64]:
    """(slice, row, column, 1) -> LPS mm; ITK counts (column, row, slice)."""
    turn = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = turn[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def _check_grid(path: Path, image: sitk.Image, reference: Path, source: sitk.Image) -> None:
    if image.GetSize() != source.GetSize():
        raise DatasetError(
            f"{path}: {image.GetSize()} voxels, but {reference.name} {source.GetSize()}"
        )
    last = [length - 1 for length in source.GetSize()]
    for corner in ([0, 0, 0], last):
        here, there = (item.TransformIndexToPhysicalPoint(corner) for item in (image, source))
        if np.abs(np.subtract(here, there)).max() > SAME_PLACE_MM:
            raise DatasetError(
                f"{path}: lies elsewhere than {reference.name} (a corner at {here}, not at {there}); "
                "resample it onto the image"
            )


def _nifti_labels(path: Path, reference: Path, words: Words) -> NDArray[np.uint8]:
    image = _image(path)
    _check_grid(path, image, reference, _image(reference))
    values = sitk.GetArrayFromImage(image)
    labels = np.zeros(values.shape, np.uint8)
    for value in np.unique(values):
        layer = words.layers.get(f"#{value:g}", value)
        if layer not in range(len(SEGMENTS) + 1):
            raise DatasetError(
                f'{path}: value {value:g} is no layer (1 to 6); say in layers.toml which: "#{value:g}" = '
            )
        labels[values == value] = layer
    return labels


def _check_labels(example: Example, labels: NDArray[np.uint8]) -> None:
    if not labels.any():
        raise DatasetError(f"{example.labels}: an empty mask; remove it if the study has none")
    depths = {
        number: float(np.nonzero(labels == number)[1].mean())
        for number in (DERMIS, MUSCLE)
        if (labels == number).any()
    }
    if len(depths) == 2 and depths[DERMIS] > depths[MUSCLE]:
        raise DatasetError(
            f"{example.labels}: the dermis lies below the muscle; rows must run from the probe down"
        )


def sweeps_of(
    scan: Scan, labels: NDArray[np.uint8], spacing_mm: tuple[float, float]
) -> tuple[Sweep, ...]:
    """The annotated slices on the analysis grid, one Sweep for each run of neighbors.

    A slice without any layer counts as not annotated, so a partly annotated sweep falls into several.
    """
    box = bounding_box(scan.valid)
    gray = np.where(scan.valid[box], scan.channel("b-mode")[box], np.float32(0))
    rows, columns = grid_shape(gray.shape[1:], scan.spacing_mm[1:], spacing_mm)
    levels = np.clip(np.rint(resample(gray, (rows, columns))), 0, 255).astype(np.uint8)
    fine = resample_labels(np.ascontiguousarray(labels[box]), (FINE * rows, columns))
    known = np.flatnonzero(fine.any((1, 2)))
    runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return tuple(Sweep(levels[run], fine[run]) for run in runs if run.size)


def digest_of(examples: Sequence[Example], sweeps: Sequence[Sequence[Sweep]]) -> str:
    """SHA-256 of all that is learned from: subject, pain, gray levels and labels of each example."""
    digest = hashlib.sha256()
    for example, parts in zip(examples, sweeps, strict=True):
        row = example.row
        pain = row.pain if row.level is None else row.level
        digest.update(repr((row.subject, row.study, pain)).encode())
        for part in parts:
            digest.update(repr(part.gray.shape).encode())
            digest.update(np.ascontiguousarray(part.gray).data)
            digest.update(np.ascontiguousarray(part.labels).data)
    return digest.hexdigest()


def layer_names() -> tuple[str, ...]:
    return tuple(item.label for item in SEGMENTS)
