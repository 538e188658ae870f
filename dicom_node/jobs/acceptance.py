"""A corrected patient: the instances that name it take the place of those that name the former one.

An archive that corrects a patient sends the study again: under new SOP Instance UIDs, beside the first, or
under the same ones, which are set aside. Either way nothing is analyzed of two patients together, until a
person has said that the newest instances are right.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.assemble.identity import own_results, person_in
from dicom_node.errors import FileLost, NodeError
from dicom_node.files import Files, Local, open_files
from dicom_node.jobs.memory import Memory
from dicom_node.patient import Person, compare
from dicom_node.settings import Settings
from dicom_node.study import StoredInstance


@dataclass(frozen=True, slots=True, eq=False)
class _Named:
    """One instance that is kept or was set aside, and the person that it names."""

    row: Any
    person: Person
    is_kept: bool


def accept_patient(settings: Settings, study_uid: str) -> str:
    """Analyze a study as of the patient that its newest instances name; returns what was done.

    Instances that name another patient go aside, those that were set aside and name this one come back.
    Raises NodeError when all instances name one patient, or some are just arriving.
    """
    files = open_files(settings)
    with Memory(settings) as memory, files.local(study_uid) as local:
        newest = memory.generation(study_uid)
        named = _named(memory, settings, study_uid, local)
        right = _right(study_uid, named)
        former = [each for each in named if each.is_kept and compare(right, each.person).apart]
        if not former:
            raise NodeError(
                f"study {study_uid}: its instances name one patient; there is nothing to accept"
            )
        replaced = {each.row.sop_uid for each in former}
        taken = {  # of several corrections the newest
            each.row.sop_uid: each.row
            for each in named
            if not each.is_kept
            and each.row.sop_uid in replaced
            and not compare(right, each.person).apart
        }
        for row in taken.values():
            _bring_back(files, row)

        def change(connection: sa.Connection) -> None:
            rows = list(taken.values())
            index.exchange(connection, study_uid, newest + 1, rows, replaced)

        memory.reopen(study_uid, newest, change)
        remaining = sum(each.is_kept for each in named) - len(former) + len(taken)
        counts = (
            f"{len(former)} instances of the former patient were set aside, {len(taken)} corrected ones "
            f"took their place; analyzed again with {remaining}, as generation {newest + 1}"
        )
        return f"study {study_uid}: {counts}{_told(memory, study_uid, newest)}"


def _named(memory: Memory, settings: Settings, study_uid: str, local: Local) -> list[_Named]:
    """Every readable instance that is no result of this program, the first first."""
    kept = [
        row
        for row in index.instances_of(memory.engine, study_uid, index.LATEST)
        if row.state == index.KEPT
    ]
    rows = sorted(
        [*kept, *index.aside_of(memory.engine, study_uid)], key=lambda row: row.received_at
    )
    local.gather([(row.path, row.sha256) for row in rows])
    found = []
    for row in rows:
        with contextlib.suppress(FileLost):
            path = local.file(row.path, row.sha256)
            item = StoredInstance(row.sop_uid, row.sop_class, path, row.calling_ae)
            person = None if own_results([item]) else person_in(item, settings.sources)
            if person:
                found.append(_Named(row, person, "state" in row._fields))
    return found


def _right(study_uid: str, named: Sequence[_Named]) -> Person:
    """Whom the newest instance names; what an earlier correction has put aside does not count."""
    counted = [each for each in named if each.is_kept or each.row.reason != index.FORMER_PATIENT]
    if not counted:
        raise NodeError(f"study {study_uid}: no instance of it can be read")
    person = counted[-1].person
    if person.fault:
        raise NodeError(f"study {study_uid}: in its newest instances {person.fault}")
    return person


def _bring_back(files: Files, row: Any) -> None:
    """Into the store; it is there already where an earlier attempt was cut off."""
    if row.path != index.stored(row.sha256) and not files.is_here(index.stored(row.sha256)):
        files.move(row.path, index.stored(row.sha256))


def _told(memory: Memory, study_uid: str, newest: int) -> str:
    """Where results went out under the former patient."""
    names = index.destinations_of(memory.engine, study_uid, newest)
    if not names:
        return ""
    return (
        f". Results of earlier versions name the former patient at {', '.join(names)}: "
        "have them corrected or removed there"
    )
