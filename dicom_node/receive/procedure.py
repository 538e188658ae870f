"""Performed procedure steps (MPPS), PS3.4 section F.7: a scanner says what it does, and when it is done."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import sqlalchemy as sa
from pydicom import Dataset
from pynetdicom.dimse_primitives import N_CREATE, N_SET
from pynetdicom.events import Event

from dicom_node import index
from dicom_node.receive.store import is_uid

LOGGER = logging.getLogger(__name__)

SUCCESS, INVALID_VALUE, PROCESSING_FAILURE = 0x0000, 0x0106, 0x0110
DUPLICATE, NO_SUCH_INSTANCE, MISSING_ATTRIBUTE = 0x0111, 0x0112, 0x0120
MAY_NO_LONGER_BE_UPDATED = 0xA710
"""Error ID (0000,0903) of an ended step, PS3.4 table F.7.2-2."""

REFERENCES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")

Answer = tuple[int | Dataset, None]


class ProcedureSteps:
    """The SCP's two handlers."""

    def __init__(self, engine: sa.Engine, stir: Callable[[str], None]) -> None:
        self._engine = engine
        self._stir = stir

    def on_create(self, event: Event) -> Answer:
        """N-CREATE: a step begins, and holds its studies open."""
        step_uid = str(cast(N_CREATE, event.request).AffectedSOPInstanceUID or "")
        step = event.attribute_list
        status = str(step.get("PerformedProcedureStepStatus", ""))
        scheduled = _items(step, "ScheduledStepAttributesSequence")
        study_uids = {str(item.get("StudyInstanceUID", "")) for item in scheduled}
        if not is_uid(step_uid) or not study_uids:
            return MISSING_ATTRIBUTE, None
        if status != index.IN_PROGRESS or not all(map(is_uid, study_uids)):
            return INVALID_VALUE, None
        try:
            if not index.create_step(self._engine, step_uid, study_uids):
                return DUPLICATE, None
        except index.DATABASE_AWAY:
            return _away(step_uid)
        self._tell(step_uid, status, study_uids, 0)
        return SUCCESS, None

    def on_set(self, event: Event) -> Answer:
        """N-SET: a step goes on or ends; what it names belongs to its studies."""
        step_uid = str(cast(N_SET, event.request).RequestedSOPInstanceUID or "")
        changes = event.modification_list
        try:
            before, study_uids = index.step_status(self._engine, step_uid)
            if not before:
                return NO_SUCH_INSTANCE, None
            if before != index.IN_PROGRESS:
                return _ended(), None
            status = str(changes.get("PerformedProcedureStepStatus", before))
            if status not in (index.IN_PROGRESS, index.COMPLETED, index.DISCONTINUED):
                return INVALID_VALUE, None
            named = [sop_uid for sop_uid in _named(changes) if is_uid(sop_uid)]
            index.change_step(self._engine, step_uid, status, named)
        except index.DATABASE_AWAY:
            return _away(step_uid)
        self._tell(step_uid, status, study_uids, len(named))
        return SUCCESS, None

    def _tell(self, step_uid: str, status: str, study_uids: Any, named: int) -> None:
        for study_uid in sorted(study_uids):
            what = {"study": study_uid, "step": step_uid, "status": status, "named": named}
            LOGGER.info("procedure step", extra={"fields": what})
            self._stir(study_uid)


def _named(step: Dataset) -> Iterator[str]:
    """The instances of every performed series."""
    for series in _items(step, "PerformedSeriesSequence"):
        for keyword in REFERENCES:
            for item in _items(series, keyword):
                yield str(item.get("ReferencedSOPInstanceUID", ""))


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or ())


def _ended() -> Dataset:
    status = Dataset()
    status.Status, status.ErrorID = PROCESSING_FAILURE, MAY_NO_LONGER_BE_UPDATED
    return status


def _away(step_uid: str) -> Answer:
    what = {"step": step_uid, "reason": "the database is away or busy"}
    LOGGER.info("procedure step refused", extra={"fields": what})
    return PROCESSING_FAILURE, None
