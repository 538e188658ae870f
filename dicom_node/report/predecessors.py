"""Predecessors: a report of a later generation names the reports that it takes the place of.

PS3.3 C.17.2, Predecessor Documents Sequence; all are of the same study. A Segmentation or a map has no such
attribute: they are superseded with the report that refers to them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.report.check import judge_form
from dicom_node.report.identity import derive_uid
from dicom_node.report.objects import Written

DOCUMENTS = ("measurements", "refusal")
"""Kinds that have predecessors."""


def follow(written: Sequence[Written], earlier: Sequence[Path]) -> tuple[Written, ...]:
    """Let the written reports of one generation name those of the one before, ``earlier``, that they replace.

    A report that says what an earlier one says stays that document, with its UID and its predecessors: it is
    not sent again. Any other gets a UID of its own. An earlier report whose file is gone cannot be named.
    """
    reports = {item: dcmread(item.path) for item in written if item.kind in DOCUMENTS}
    _name_predecessors(list(reports.values()), [dcmread(path) for path in earlier if path.exists()])
    for report, item in zip(reports.values(), reports, strict=True):
        if report.SOPInstanceUID != item.sop_instance_uid:
            report.save_as(item.path, enforce_file_format=True)
    return tuple(_as_saved(item, reports.get(item)) for item in written)


def _as_saved(item: Written, report: Dataset | None) -> Written:
    if report is None or report.SOPInstanceUID == item.sop_instance_uid:
        return item
    return replace(
        item,
        sop_instance_uid=str(report.SOPInstanceUID),
        sha256=hashlib.sha256(item.path.read_bytes()).hexdigest(),
        verdict=item.verdict or judge_form(item.path),
    )


def _name_predecessors(reports: Sequence[Dataset], earlier: Sequence[Dataset]) -> None:
    """In place: every earlier report of the same class that is not said again, else every such report."""
    said_again = {
        id(report): old
        for report in reports
        for old in earlier
        if old.SOPInstanceUID == _uid(report, _references(old))
    }
    kept = {old.SOPInstanceUID for old in said_again.values()}
    replaced = [old for old in earlier if old.SOPInstanceUID not in kept]
    for report in reports:
        if id(report) in said_again:
            items = list(said_again[id(report)].get("PredecessorDocumentsSequence", []))
        else:
            alike = [old for old in replaced if old.SOPClassUID == report.SOPClassUID]
            items = [_hierarchical(old) for old in alike or replaced]
        if items:
            report.SOPInstanceUID = _uid(report, _uids(items))
            report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
            report.PredecessorDocumentsSequence = items


def _uid(report: Dataset, predecessors: Sequence[str]) -> str:
    """The same words after other documents are another document."""
    own = str(report.SOPInstanceUID)
    return derive_uid(own, "after", *sorted(predecessors)) if predecessors else own


def _references(report: Dataset) -> list[str]:
    return _uids(report.get("PredecessorDocumentsSequence", []))


def _uids(items: Sequence[Dataset]) -> list[str]:
    return [
        str(instance.ReferencedSOPInstanceUID)
        for item in items
        for series in item.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]


def _hierarchical(report: Dataset) -> Dataset:
    """An item of the Hierarchical SOP Instance Reference Macro (PS3.3 table C.17-3)."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = report.SOPClassUID
    instance.ReferencedSOPInstanceUID = report.SOPInstanceUID
    series.SeriesInstanceUID = report.SeriesInstanceUID
    series.ReferencedSOPSequence = [instance]
    study.StudyInstanceUID = report.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
