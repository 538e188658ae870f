"""The sentence on a folder: assemble, analyze, report in one process, without network or database."""

import itertools
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from dicom_node.analyze import analyze_study, load_analyses
from dicom_node.assemble import assemble_study
from dicom_node.assemble.identity import own_results, shared_header
from dicom_node.errors import StudyError
from dicom_node.headers import MALFORMED, read_header
from dicom_node.report import Written, write_answer, write_objects
from dicom_node.report.page import write_page
from dicom_node.settings import Destination, Settings
from dicom_node.study import Ground, StoredInstance, Unanalyzed, check_inflated
from models.analysis import Analysis

REFUSED = 3
"""Exit status when nothing could be analyzed; 2 is wrong usage, 1 an error."""


NO_FILE_NAME = re.compile(r"[^A-Za-z0-9_.-]")
UID_FORM = re.compile(r"[0-9]+(\.[0-9]+)*")
"""Not only dots: a study's UID names its folder."""

OTHER_FILES = {
    "a PNG picture": (0, b"\x89PNG"),
    "a JPEG picture": (0, b"\xff\xd8\xff"),
    "a GIF picture": (0, b"GIF8"),
    "a BMP picture": (0, b"BM"),
    "an MP4 or QuickTime film": (4, b"ftyp"),
    "an AVI film": (0, b"RIFF"),
    "a PDF document": (0, b"%PDF"),
    "a ZIP archive": (0, b"PK\x03\x04"),
}
"""What hand-held scanners export beside DICOM: place and bytes of the mark at the beginning of a file."""
MOST_START_BYTES = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one study: its folder, the objects written, the reasons of what was refused.

    cautions  what to know of the objects, as which viewers will not show them rightly.
    """

    study_uid: str
    folder: Path
    objects: tuple[str, ...]
    reasons: tuple[str, ...]
    is_analyzed: bool
    cautions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        status = "analyzed" if self.is_analyzed else "refused"
        return {
            "study_instance_uid": self.study_uid,
            "status": status,
            "folder": str(self.folder),
            "objects": list(self.objects),
            "reasons": list(self.reasons),
            "cautions": list(self.cautions),
        }


def process(paths: Sequence[Path], out: Path, settings: Settings) -> int:
    """Analyze every study found in files and folders; returns the exit status (0 or 3).

    One study writes straight into ``out``, several into one folder each; ``out/findings.json`` always exists.
    A study that cannot be analyzed gets the report that says why (``answer.dcm``). With destinations in the
    configuration, each has a folder of its name, with what it would get, in its forms.
    """
    console = Console(stderr=True, soft_wrap=True)
    studies, unreadable = find_studies(paths)
    out.mkdir(parents=True, exist_ok=True)
    with console.status("loading the analyses"):
        analyses = load_analyses(settings.node.analyses, settings.analyze) if studies else ()
    bench = _Bench(settings, analyses, console)
    verdicts = [
        bench.process(study_uid, instances, out if len(studies) == 1 else out / study_uid)
        for study_uid, instances in studies.items()
    ]
    if not studies and not unreadable:
        console.print("there is no file in what was named; nothing was analyzed")
    for path, reason in unreadable:
        console.print(f"[yellow]refused[/] {escape(str(path))}: {escape(reason)}")
    for verdict in verdicts:
        for reason in verdict.reasons:
            console.print(f"[yellow]refused[/] {verdict.study_uid}: {escape(reason)}")
        for caution in verdict.cautions:
            console.print(f"[yellow]caution[/] {verdict.study_uid}: {escape(caution)}")
        for name in verdict.objects:
            console.print(f"wrote {escape(str(verdict.folder / name))}")
    _write_summary(out, verdicts, unreadable)
    return 0 if any(verdict.is_analyzed for verdict in verdicts) else REFUSED


def find_studies(
    paths: Iterable[Path],
) -> tuple[dict[str, list[StoredInstance]], list[tuple[Path, str]]]:
    """Sort DICOM files by study; the second value says which files were not taken, and why."""
    studies: dict[str, list[StoredInstance]] = defaultdict(list)
    unreadable: list[tuple[Path, str]] = []
    seen: set[str] = set()
    for path in _files(paths):
        try:
            instance, study_uid = _identify(path)
        except MALFORMED as error:
            unreadable.append((path, _why_unreadable(path, error)))
            continue
        if reason := _without_uid(instance, study_uid):
            unreadable.append((path, reason))
        elif instance.sop_instance_uid in seen:
            reason = f"instance {instance.sop_instance_uid} was already read from another file"
            unreadable.append((path, reason))
        else:
            seen.add(instance.sop_instance_uid)
            studies[study_uid].append(instance)
    return dict(studies), unreadable


def _identify(path: Path) -> tuple[StoredInstance, str]:
    """The instance in a file, and its study; a UID that is not there is empty."""
    check_inflated(path)
    keywords = ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID"]
    header = read_header(path, keywords)
    sop_instance_uid, sop_class_uid, study_uid = (str(header.get(key, "")) for key in keywords)
    return StoredInstance(sop_instance_uid, sop_class_uid, path.resolve()), study_uid


def _why_unreadable(path: Path, error: Exception) -> str:
    with suppress(OSError), path.open("rb") as file:
        start = file.read(MOST_START_BYTES)
        for name, (place, mark) in OTHER_FILES.items():
            if start.startswith(mark, place):
                return f"{name}, not DICOM: let the scanner or its app send or export DICOM"
    return f"not a readable DICOM file ({type(error).__name__})"


def _without_uid(instance: StoredInstance, study_uid: str) -> str:
    """Which UID the scanner left out, or wrote as something else; "" where all are there."""
    for name, uid in (
        ("Study Instance UID (0020,000D)", study_uid),
        ("SOP Instance UID (0008,0018)", instance.sop_instance_uid),
        ("SOP Class UID (0008,0016)", instance.sop_class_uid),
    ):
        if not uid:
            return f"the scanner wrote no {name}"
        if len(uid) > 64 or not UID_FORM.fullmatch(uid):
            return f"the scanner wrote a {name} that is no UID: {uid[:70]!r}"
    return ""


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(item for item in path.rglob("*") if item.is_file())
        else:
            yield path


@dataclass(frozen=True, slots=True)
class _Bench:
    """What every study needs: the settings, the loaded analyses, and where to show progress."""

    settings: Settings
    analyses: Sequence[Analysis]
    console: Console

    def process(self, study_uid: str, instances: Sequence[StoredInstance], folder: Path) -> Verdict:
        """Assemble, analyze and report one study; a refusal is a verdict like any other."""
        returned = own_results(instances)
        instances = [item for item in instances if item.sop_instance_uid not in returned]
        if not instances:
            return Verdict(
                study_uid, folder, (), ("there are only results of this program",), False
            )
        self._tell(study_uid, f"assemble {len(instances)} instances")
        largest_bytes = self.settings.assemble.largest_mib * 2**20
        try:
            study = assemble_study(study_uid, 0, instances, self.settings.sources, largest_bytes)
        except StudyError as error:
            ground = Ground(error.code.value, error.reason)
            return self._answer(study_uid, instances, [ground], folder)
        self._tell(study_uid, f"analyze {len(study.acquisitions)} scans")
        outcomes = analyze_study(study, self.analyses)
        if all(outcome.findings is None for outcome in outcomes):
            grounds = list(dict.fromkeys(outcome.ground for outcome in outcomes))
            return self._answer(study_uid, instances, grounds, folder)
        reasons = [outcome.refusal for outcome in outcomes if outcome.findings is None]
        reasons += [f"{item.sop_instance_uid}: {item.reason}" for item in study.unused]
        self._tell(study_uid, "report")
        folder.mkdir(parents=True, exist_ok=True)
        written = write_objects(study, outcomes, folder, self.settings.destinations)
        write_page(study, outcomes, folder)
        names = sort_out(written, folder, self.settings.destinations)
        told = [*study.cautions, *(text for item in written for text in item.cautions)]
        cautions = tuple(dict.fromkeys(told))
        return Verdict(study_uid, folder, names, tuple(reasons), True, cautions)

    def _answer(
        self,
        study_uid: str,
        instances: Sequence[StoredInstance],
        grounds: Sequence[Ground],
        folder: Path,
    ) -> Verdict:
        """The report that a study was not analyzed, where such reports are wanted."""
        names: tuple[str, ...] = ()
        if self.settings.report.refusals:
            folder.mkdir(parents=True, exist_ok=True)
            header = shared_header(study_uid, instances, self.settings.sources)
            unanalyzed = Unanalyzed(study_uid, tuple(grounds), header)
            written = write_answer(unanalyzed, folder, self.settings.destinations)
            names = sort_out(written, folder, self.settings.destinations)
        reasons = tuple(ground.sentence for ground in grounds)
        return Verdict(study_uid, folder, names, reasons, False)

    def _tell(self, study_uid: str, what: str) -> None:
        self.console.print(f"{study_uid}: {what}")


def sort_out(
    written: Sequence[Written], folder: Path, destinations: Sequence[Destination]
) -> tuple[str, ...]:
    """Give each destination a folder with what it would get; returns the files, relative to ``folder``.

    What several get alike is in each of their folders. Without destinations everything stays where it is.
    """
    if not destinations:
        return tuple(item.path.name for item in written)
    places = _folder_names([destination.name for destination in destinations])
    names = []
    for item in written:
        for place in (places[name] for name in item.due):
            (folder / place).mkdir(exist_ok=True)
            shutil.copy2(item.path, folder / place / item.path.name)
            names.append(f"{place}/{item.path.name}")
        item.path.unlink()
    return tuple(sorted(names))


def _folder_names(names: Sequence[str]) -> dict[str, str]:
    """For each destination a name that every file system takes; no two alike, whatever its case."""
    found: dict[str, str] = {}
    for name in names:
        plain = NO_FILE_NAME.sub("_", name).strip(".") or "_"
        taken = {other.lower() for other in found.values()}
        tries = (plain if count == 1 else f"{plain}-{count}" for count in itertools.count(1))
        found[name] = next(each for each in tries if each.lower() not in taken)
    return found


def _write_summary(
    out: Path, verdicts: Sequence[Verdict], unreadable: Sequence[tuple[Path, str]]
) -> None:
    """Complete or create ``findings.json`` so that a script finds every verdict in one place."""
    path = out / "findings.json"
    text = (
        json.loads(path.read_text())
        if [verdict.is_analyzed for verdict in verdicts] == [True]
        else {}
    )
    text["studies"] = [verdict.as_dict() for verdict in verdicts]
    text["refused_files"] = [{"path": str(file), "reason": reason} for file, reason in unreadable]
    path.write_text(json.dumps(text, indent=2), encoding="utf-8")
