"""The sentence on a folder: assemble, analyze, report in one process, without network or database."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from rich.console import Console
from rich.markup import escape

from dicom_node.analyze import analyze_study, load_analyses
from dicom_node.assemble import assemble_study
from dicom_node.assemble.instances import MALFORMED
from dicom_node.deliver import deliver
from dicom_node.errors import SettingsError, StudyError
from dicom_node.report import write_objects
from dicom_node.report.page import write_page
from dicom_node.settings import Destination, Settings
from dicom_node.study import StoredInstance

REFUSED = 3
"""Exit status when nothing could be analyzed; 2 is wrong usage, 1 an error."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one study: its folder, the objects written, the reasons of what was refused."""

    study_uid: str
    folder: Path
    objects: tuple[str, ...]
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        status = "analyzed" if self.objects else "refused"
        return {
            "study_instance_uid": self.study_uid,
            "status": status,
            "folder": str(self.folder),
            "objects": list(self.objects),
            "reasons": list(self.reasons),
        }


def process(paths: Sequence[Path], out: Path, settings: Settings) -> int:
    """Analyze every study found in files and folders; returns the exit status (0 or 3).

    One study writes straight into ``out``, several into one folder each; ``out/findings.json`` always exists.
    """
    console = Console(stderr=True, soft_wrap=True)
    studies, unreadable = find_studies(paths)
    out.mkdir(parents=True, exist_ok=True)
    with console.status("loading the analyses"):
        analyses = load_analyses(settings.node.analyses, settings.analyze) if studies else ()
    verdicts = []
    for study_uid, instances in studies.items():
        folder = out if len(studies) == 1 else out / study_uid
        folder.mkdir(parents=True, exist_ok=True)

        def tell(word: str, uid: str = study_uid) -> None:
            console.print(f"{uid}: {word}")

        verdicts.append(_process_study((study_uid, instances), (settings, analyses), folder, tell))
    for path, reason in unreadable:
        console.print(f"[yellow]refused[/] {escape(str(path))}: {escape(reason)}")
    for verdict in verdicts:
        for reason in verdict.reasons:
            console.print(f"[yellow]refused[/] {verdict.study_uid}: {escape(reason)}")
        for name in verdict.objects:
            console.print(f"wrote {escape(str(verdict.folder / name))}")
    _write_summary(out, verdicts, unreadable)
    return 0 if any(verdict.objects for verdict in verdicts) else REFUSED


def find_studies(
    paths: Iterable[Path],
) -> tuple[dict[str, list[StoredInstance]], list[tuple[Path, str]]]:
    """Sort DICOM files by study; the second value says which files were not taken, and why."""
    studies: dict[str, list[StoredInstance]] = defaultdict(list)
    unreadable: list[tuple[Path, str]] = []
    seen: set[str] = set()
    for path in _files(paths):
        try:
            header = dcmread(
                path,
                stop_before_pixels=True,
                specific_tags=["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"],
            )
            uids = [
                str(header[key].value)
                for key in ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID")
            ]
        except MALFORMED as error:
            unreadable.append((path, f"not a readable DICOM instance ({type(error).__name__})"))
            continue
        # Not only dots: a study's UID names its folder.
        if bad := [
            uid for uid in uids if len(uid) > 64 or not re.fullmatch(r"[0-9]+(\.[0-9]+)*", uid)
        ]:
            unreadable.append((path, f"{bad[0][:70]!r} is not a valid UID"))
        elif uids[0] in seen:
            unreadable.append(
                (path, f"SOP Instance UID {uids[0]} was already read from another file")
            )
        else:
            seen.add(uids[0])
            studies[uids[2]].append(StoredInstance(uids[0], uids[1], path.resolve()))
    return dict(studies), unreadable


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(item for item in path.rglob("*") if item.is_file())
        else:
            yield path


def _process_study(
    found: tuple[str, list[StoredInstance]],
    means: tuple[Settings, Sequence[Any]],
    folder: Path,
    tell: Callable[[str], None],
) -> Verdict:
    (study_uid, instances), (settings, analyses) = found, means
    tell(f"assemble {len(instances)} instances")
    try:
        study = assemble_study(study_uid, 0, instances, settings.sources)
    except StudyError as error:
        return Verdict(study_uid, folder, (), (error.reason,))
    tell(f"analyze {len(study.acquisitions)} scans")
    outcomes = analyze_study(study, analyses)
    reasons = [outcome.refusal for outcome in outcomes if outcome.findings is None]
    reasons += [f"{item.sop_instance_uid}: {item.reason}" for item in study.unused]
    if all(outcome.findings is None for outcome in outcomes):
        return Verdict(study_uid, folder, (), tuple(reasons))
    tell("report")
    written = write_objects(study, outcomes, folder)
    write_page(study, outcomes, folder)
    return Verdict(study_uid, folder, tuple(item.path.name for item in written), tuple(reasons))


def _write_summary(
    out: Path, verdicts: Sequence[Verdict], unreadable: Sequence[tuple[Path, str]]
) -> None:
    """Complete or create ``findings.json`` so that a script finds every verdict in one place."""
    path = out / "findings.json"
    text = json.loads(path.read_text()) if len(verdicts) == 1 and verdicts[0].objects else {}
    text["studies"] = [verdict.as_dict() for verdict in verdicts]
    text["refused_files"] = [{"path": str(file), "reason": reason} for file, reason in unreadable]
    path.write_text(json.dumps(text, indent=2), encoding="utf-8")


def send(paths: Sequence[Path], to: str, calling_ae: str) -> int:
    """Send every DICOM file below ``paths`` to AET@HOST:PORT; returns how many were acknowledged.

    Raises SettingsError when the address cannot be read or there is nothing to send, DeliveryError when the
    peer does not take everything.
    """
    match = re.fullmatch(r"(?P<aet>[^@]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})", to)
    if not match or not 0 < int(match["port"]) < 65536:
        raise SettingsError(f"--to {to!r} is not AET@HOST:PORT, for example ORTHANC@127.0.0.1:4242")
    studies, unreadable = find_studies(paths)
    for path, reason in unreadable:
        Console(stderr=True, soft_wrap=True).print(
            f"not sent: {escape(str(path))}: {escape(reason)}"
        )
    files = [instance.path for instances in studies.values() for instance in instances]
    if not files:
        raise SettingsError("there is no DICOM instance in what was named; nothing was sent")
    deliver(files, Destination(to, match["aet"], match["host"], int(match["port"])), calling_ae)
    return len(files)
