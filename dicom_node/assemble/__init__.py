"""assemble: the instances of a study become a Study with its Scans.

Read the headers, group frames into stacks, place each stack in space, decide which elasticity map belongs to
which B-mode volume, and only then decode, once, into the arrays of the Scans.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dicom_node.assemble.facts import declaration
from dicom_node.assemble.grouping import Stack, group
from dicom_node.assemble.identity import choose_spokesman, one_patient
from dicom_node.assemble.instances import Instance, malformed, read
from dicom_node.assemble.pairing import pair
from dicom_node.assemble.placement import Placed, place
from dicom_node.assemble.scans import assemble_scan
from dicom_node.errors import NotUltrasound, StudyError
from dicom_node.patient import read_as
from dicom_node.settings import LARGEST_MIB, Source
from dicom_node.study import Acquisition, StoredInstance, Study, Unused

__all__ = ["assemble_study"]

LARGEST_BYTES = LARGEST_MIB * 2**20
AMBIGUOUS = "several elasticity maps lie on the grid of one B-mode volume"


@dataclass(frozen=True, slots=True, eq=False)
class _Desk:
    """The study on the table: what it is, what the site declares, and what could not be used so far."""

    study_uid: str
    sources: Sequence[Source]
    largest_bytes: int
    failures: list[tuple[Unused, StudyError]] = field(default_factory=list)

    def put_aside(self, stack: Stack, error: StudyError) -> None:
        self.failures.extend((unused, error) for unused in stack.unused(error.reason))

    def declared(self, stack: Stack) -> Source | None:
        with malformed(self.study_uid, "manufacturer, model or station cannot be read"):
            return declaration(stack.frames[0].instance, self.sources)


def assemble_study(
    study_uid: str,
    generation: int,
    instances: Sequence[StoredInstance],
    sources: Sequence[Source],
    largest_bytes: int = LARGEST_BYTES,
) -> Study:
    """Make all Scans that the instances of one study give; the order of ``instances`` does not matter.

    Every instance ends in a Scan or in ``Study.unused`` with a reason. B-mode and elasticity on one grid are
    channels of one Scan. ``sources`` fill in geometry that no object states. All Scans together take at most
    ``largest_bytes``; a sweep for which there is no room is unused.

    Raises SeveralPatients where the instances name more than one patient, UnusableIdentifier where a Patient
    ID cannot be carried; when not one Scan can be made, the StudyError that is the cause (NotUltrasound,
    GeometryUnknown, UnsupportedPixels, TooLarge, Incomplete, or itself).
    """
    with warnings.catch_warnings():
        # pydicom warns of odd headers by quoting their values, and those can be a patient's.
        warnings.simplefilter("ignore")
        cautions = one_patient(study_uid, instances, sources)
        desk = _Desk(study_uid, sources, largest_bytes)
        found, rejected = read(study_uid, instances, largest_bytes)
        images = [image for image in found if _is_decoded(image, desk, rejected)]
        stacks, unclear = group(study_uid, images)
        placed = _place_all(desk, stacks)
        tissue = [item for item in placed if item.stack.kind == "b-mode"]
        elastic = [item for item in placed if item.stack.kind == "elasticity"]
        acquisitions = _acquire(desk, tissue, _partners(desk, tissue, elastic))
        spokesman = choose_spokesman(acquisitions)
    failures = desk.failures + unclear + rejected
    if not acquisitions:
        raise _cause(study_uid, [error for _, error in rejected], [error for _, error in failures])
    unused = _unused(failures, acquisitions, instances)
    return Study(study_uid, generation, acquisitions, unused, cautions, spokesman)


def _is_decoded(image: Instance, desk: _Desk, rejected: list[tuple[Unused, StudyError]]) -> bool:
    """Have the text of an image in the characters that the site declares; put it aside if it is damaged."""
    try:
        with malformed(desk.study_uid, "manufacturer, model or station cannot be read"):
            declared = declaration(image, desk.sources)
            read_as(image.header, declared.character_set if declared else "")
    except StudyError as error:
        rejected.append((Unused(image.stored.sop_instance_uid, error.reason), error))
        return False
    return True


def _place_all(desk: _Desk, stacks: Sequence[Stack]) -> list[Placed]:
    placed = []
    for stack in stacks:
        try:
            with malformed(desk.study_uid, "the geometry cannot be read"):
                placed.append(place(desk.study_uid, stack, desk.declared(stack)))
        except StudyError as error:
            desk.put_aside(stack, error)
    return placed


def _partners(
    desk: _Desk, tissue: Sequence[Placed], elastic: Sequence[Placed]
) -> dict[int, Placed]:
    """The elasticity map of each B-mode volume that has exactly one."""
    with malformed(desk.study_uid, "references of an elasticity map cannot be read"):
        pairs = [(item, *pair(tissue, item)) for item in elastic]
    maps = Counter(number for _, number, _ in pairs)
    partners = {}
    for item, number, reason in pairs:
        if number is not None and maps[number] == 1:
            partners[number] = item
        else:
            desk.put_aside(item.stack, StudyError(desk.study_uid, reason or AMBIGUOUS))
    return partners


def _acquire(
    desk: _Desk, tissue: Sequence[Placed], partners: dict[int, Placed]
) -> tuple[Acquisition, ...]:
    acquisitions = []
    left_bytes = desk.largest_bytes
    for number, item in enumerate(tissue):
        elastic = partners.get(number)
        try:
            declared = desk.declared(elastic.stack if elastic else item.stack)
            made = assemble_scan(desk.study_uid, item, elastic, declared, left_bytes)
        except StudyError as error:
            desk.put_aside(item.stack, error)
            if elastic:
                desk.put_aside(elastic.stack, StudyError(desk.study_uid, "its B-mode was not used"))
            continue
        acquisitions.append(made.acquisition)
        left_bytes -= made.acquisition.scan.voxels.nbytes
        if elastic and made.left_out:
            desk.put_aside(elastic.stack, StudyError(desk.study_uid, made.left_out))
    return tuple(acquisitions)


def _cause(
    study_uid: str, rejected: Sequence[StudyError], failures: Sequence[StudyError]
) -> StudyError:
    """A damaged instance before the gap that it leaves, and both before what is no ultrasound at all."""
    damaged = [error for error in rejected if type(error) not in (StudyError, NotUltrasound)]
    return next(iter((*damaged, *failures)), StudyError(study_uid, "the study has no instances"))


def _unused(
    failures: Sequence[tuple[Unused, StudyError]],
    acquisitions: Sequence[Acquisition],
    instances: Sequence[StoredInstance],
) -> tuple[Unused, ...]:
    """One reason for each instance that is in no Scan, in a fixed order."""
    used_paths = {path for one in acquisitions for source in one.sources for path in source.paths}
    used = {item.sop_instance_uid for item in instances if item.path in used_paths}
    reasons = {unused.sop_instance_uid: unused for unused, _ in reversed(failures)}
    return tuple(reasons[uid] for uid in sorted(reasons) if uid not in used)
