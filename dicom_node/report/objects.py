"""Write every object of a study, hold those made of findings against them, then say what is written."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import Dataset

from dicom_node.report import concepts
from dicom_node.report.check import check_map, check_mask, check_report
from dicom_node.report.measurements import build_measurements
from dicom_node.report.origin import Origin, open_origin
from dicom_node.report.parametric_map import build_map, is_placed
from dicom_node.report.segmentation import build_segmentation
from dicom_node.report.sides import compare_sides
from dicom_node.report.text_report import build_text_report
from dicom_node.study import Outcome, Study


@dataclass(frozen=True, slots=True)
class Written:
    """One DICOM file: ``kind`` is segmentation, measurements, map or refusal."""

    kind: str
    analysis: str
    acquisition: int
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    sha256: str


def write_objects(study: Study, outcomes: Sequence[Outcome], folder: Path) -> tuple[Written, ...]:
    """Write segmentation, measurements and maps of every outcome, or the reason why there are none.

    The same study and outcomes give the same bytes. Raises ReportError naming the study when an object
    made of findings, read back, does not say what they say. A refusal, one sentence, is not read back.
    """
    written: list[Written] = []
    comparisons = compare_sides(study, outcomes)
    for outcome in outcomes:
        added = tuple(item for comparison in comparisons for item in comparison.of(outcome))
        origin = replace(open_origin(study, outcome), compared=added)
        written += (_write_findings if outcome.findings else _write_refusal)(origin, folder)
    return tuple(written)


def _write_findings(origin: Origin, folder: Path) -> list[Written]:
    mask = build_segmentation(origin)
    path = _path(origin, folder, "segmentation")
    written = [_save(mask, "segmentation", origin, path)]
    check_mask(path, origin)
    maps = []
    if is_placed(origin):
        for number in range(len(origin.findings.attributions)):
            maps.append(build_map(origin, number))
            path = _path(origin, folder, f"map-{number}")
            written.append(_save(maps[-1], "map", origin, path))
            check_map(path, origin, number)
    path = _path(origin, folder, "measurements")
    report = build_measurements(origin, mask, maps)
    written.append(_save(report, "measurements", origin, path))
    check_report(path, origin, mask)
    return written


def _write_refusal(origin: Origin, folder: Path) -> list[Written]:
    report = build_text_report(origin, concepts.REFUSAL_REPORT, [origin.outcome.refusal])
    return [_save(report, "refusal", origin, _path(origin, folder, "refusal"))]


def _path(origin: Origin, folder: Path, stem: str) -> Path:
    return folder / f"{stem}-{origin.number}-{origin.name}.dcm"


def _save(dataset: Dataset, kind: str, origin: Origin, path: Path) -> Written:
    dataset.save_as(path, enforce_file_format=True)
    return Written(
        kind,
        origin.name,
        origin.number,
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        path,
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
