"""The subjects of a cohort: who was scanned in which study, and the group they belong to."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import SettingsError
from models.subjects import SubjectsError, read_pain_words, read_table

PAIN, CONTROL = "pain", "control"


@dataclass(frozen=True, slots=True)
class Subjects:
    """Subject and group by Study Instance UID; a group is pain, control or empty."""

    subject: dict[str, str] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)


def read_subjects(path: Path | None) -> Subjects:
    """Read the table of ``train --data`` (None: nobody is named), with ``layers.toml`` beside it.

    Raises SettingsError naming the line, never the subject.
    """
    if path is None:
        return Subjects()
    try:
        rows = read_table(path, read_pain_words(path.parent)).values()
    except SubjectsError as error:
        raise SettingsError(str(error)) from error
    groups = {row.study: PAIN if row.pain else CONTROL for row in rows if row.pain is not None}
    return Subjects({row.study: row.subject for row in rows}, groups)


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
