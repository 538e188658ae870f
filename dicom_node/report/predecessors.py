"""Predecessors: a report of a later generation names the reports that it takes the place of.

PS3.3 C.17.2, Predecessor Documents Sequence; all are of the same study. A Segmentation or a map has no such
attribute: they are superseded with the report that refers to them. An archive that was down lacks what
another has, so each destination's report names what that destination has.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.report.check import judge_form
from dicom_node.report.identity import derive_uid
from dicom_node.report.moments import copy_moment
from dicom_node.report.objects import Written

DOCUMENTS = ("measurements", "refusal")
"""Kinds that have predecessors."""


def follow(
    written: Sequence[Written], earlier: Mapping[str, Sequence[Path]]
) -> tuple[Written, ...]:
    """Let the written reports name those that they replace, ``earlier`` by destination.

    A report that says what an earlier one says stays that document, with its UID and its predecessors: it is
    not sent again. Any other gets a UID of its own, one for each choice of predecessors, and a file of its
    own after the first. An earlier report whose file is gone cannot be named.
    """
    reports = {item: dcmread(item.path) for item in written if item.kind in DOCUMENTS}
    made: dict[Written, dict[str, tuple[Dataset, list[str]]]] = {item: {} for item in reports}
    for names, paths in _alike(reports, earlier).items():
        mine = {item: deepcopy(report) for item, report in reports.items() if set(item.due) & names}
        _name_predecessors(list(mine.values()), [dcmread(path) for path in paths])
        for item, report in mine.items():
            _, due = made[item].setdefault(str(report.SOPInstanceUID), (report, []))
            due += [name for name in item.due if name in names]
    followed: list[Written] = []
    for item in written:
        followed += _save(item, list(made[item].values())) if made.get(item) else [item]
    return tuple(followed)


def _alike(
    reports: Iterable[Written], earlier: Mapping[str, Sequence[Path]]
) -> dict[frozenset[str], list[Path]]:
    """The destinations of reports that have the same earlier ones, and these, in a fixed order."""
    groups: dict[tuple[Path, ...], list[str]] = {}
    for name in sorted({name for item in reports for name in item.due}):
        theirs = tuple(path for path in earlier.get(name, ()) if path.exists())
        groups.setdefault(theirs, []).append(name)
    return {frozenset(names): list(paths) for paths, names in groups.items()}


def _save(item: Written, variants: Sequence[tuple[Dataset, list[str]]]) -> Iterator[Written]:
    """The variants of one report as files, first the one that is as it was written, if there is one."""
    ordered = sorted(variants, key=lambda made: made[0].SOPInstanceUID != item.sop_instance_uid)
    for number, (report, due) in enumerate(ordered):
        if report.SOPInstanceUID == item.sop_instance_uid:
            yield replace(item, due=tuple(due))
            continue
        stem = f"{item.path.stem}-after-{number}" if number else item.path.stem
        path = item.path.with_stem(stem)
        report.save_as(path, enforce_file_format=True)
        yield replace(
            item,
            sop_instance_uid=str(report.SOPInstanceUID),
            path=path,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            due=tuple(due),
            verdict=item.verdict or judge_form(path),
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
            copy_moment(said_again[id(report)], report)
        else:
            alike = [old for old in replaced if old.SOPClassUID == report.SOPClassUID]
            items = [_hierarchical(old) for old in alike or replaced]
        if items:
            named = _uids(items)
            # In a series of its own, as all that is in one series is of one moment.
            report.SeriesInstanceUID = derive_uid(report.SeriesInstanceUID, "after", *sorted(named))
            report.SOPInstanceUID = _uid(report, named)
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
