"""subjects.csv: who was scanned in which study, and the group they belong to."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import SettingsError

PAIN, CONTROL = "pain", "control"
COLUMNS = ("study", "subject", "group")


@dataclass(frozen=True, slots=True)
class Subjects:
    """Subject and group by Study Instance UID; a group is pain, control or empty."""

    subject: dict[str, str] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)


def read_subjects(path: Path | None) -> Subjects:
    """Read the file (None: nobody is named). Raises SettingsError naming the line, never the subject."""
    subjects = Subjects()
    if path is None:
        return subjects
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            head = [name.strip().lower() for name in reader.fieldnames or ()]
            if not {"study", "subject"} <= set(head) <= set(COLUMNS):
                raise SettingsError(
                    f"{path}: the first line must be study,subject or study,subject,group, got "
                    f"{','.join(head)[:80]!r}"
                )
            reader.fieldnames = head
            for number, line in enumerate(reader, start=2):
                _take(line, f"{path}, line {number}", subjects)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path}: no CSV file in UTF-8: {error}") from error
    return subjects


def _take(line: dict[str, str | None], where: str, subjects: Subjects) -> None:
    study, subject, group = ((line.get(name) or "").strip() for name in COLUMNS)
    group = group.lower()
    if not study or not subject:
        raise SettingsError(f"{where}: study and subject must both be given")
    if group not in ("", PAIN, CONTROL):
        raise SettingsError(f"{where}: the group must be {PAIN}, {CONTROL} or empty")
    if subjects.subject.setdefault(study, subject) != subject:
        raise SettingsError(f"{where}: this study belongs to another subject in a line above")
    if group and subjects.group.setdefault(study, group) != group:
        raise SettingsError(f"{where}: this study is in another group in a line above")


@dataclass(frozen=True, slots=True)
class People:
    """Who is who: the person behind a study or a patient, and each person's group."""

    by_study: dict[str, str]
    by_patient: dict[str, str]
    groups: dict[str, str]
    torn: frozenset[str]

    def person(self, study_uid: str, patient: str) -> str:
        """A key of the person, empty when nobody can say who it is."""
        if patient in self.torn:
            return ""
        return self.by_study.get(study_uid) or self.by_patient.get(patient, patient)

    def group(self, person: str) -> str:
        return self.groups.get(person, "")


def identify(subjects: Subjects, studies: Iterable[tuple[str, str]]) -> People:
    """Join the subjects of the file with the patients of the reports, given as (study, hashed patient).

    A study in the file is its subject's; a patient with such a study is that subject in every study. A
    patient with two subjects is torn: nobody can say who it is. Raises SettingsError when a subject has two
    groups.
    """
    by_study = {study: f"subject {name}" for study, name in subjects.subject.items()}
    named: defaultdict[str, set[str]] = defaultdict(set)
    for study, patient in studies:
        if patient and study in by_study:
            named[patient].add(by_study[study])
    groups: dict[str, str] = {}
    for study, group in subjects.group.items():
        if groups.setdefault(by_study[study], group) != group:
            raise SettingsError(
                f"a subject is in both groups, by study {study}; correct the file of subjects"
            )
    return People(
        by_study,
        {patient: min(names) for patient, names in named.items() if len(names) == 1},
        groups,
        frozenset(patient for patient, names in named.items() if len(names) > 1),
    )
