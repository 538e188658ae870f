"""What a scanner asks beside storage: commitment and procedure steps, on real associations."""

import queue
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from tests.conftest import RunningNode


@dataclass(frozen=True)
class Scanner:
    """A scanner's side: what it was told about its requests for commitment, in order."""

    title: str = "SCANNER"
    tls_args: tuple[ssl.SSLContext, str] | None = None
    reports: "queue.Queue[tuple[int, Dataset]]" = field(default_factory=queue.Queue)

    def associate(self, node: RunningNode) -> Association:
        """An association for ultrasound images and all services."""
        classes = (
            UltrasoundImageStorage,
            StorageCommitmentPushModel,
            ModalityPerformedProcedureStep,
        )
        association = AE(self.title).associate(
            "127.0.0.1",
            node.node.port,
            [build_context(each, ExplicitVRLittleEndian) for each in classes],
            "DICOM_NODE",
            tls_args=self.tls_args,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._told)],
        )
        assert association.is_established
        return association

    @contextmanager
    def listening(self, port: int, context: ssl.SSLContext | None = None) -> Iterator[None]:
        """Listen for answers until the block ends."""
        entity = AE(self.title)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        server = entity.start_server(
            ("127.0.0.1", port),
            block=False,
            ssl_context=context,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._told)],
        )
        try:
            yield
        finally:
            server.shutdown()

    def report(self) -> tuple[int, list[str], dict[str, int]]:
        """The next answer: event type, what is committed, why the rest is not."""
        event_type, told = self.reports.get(timeout=30)
        committed = [
            str(item.ReferencedSOPInstanceUID) for item in told.get("ReferencedSOPSequence", ())
        ]
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
            for item in told.get("FailedSOPSequence", ())
        }
        return event_type, sorted(committed), failed

    def _told(self, event: Event) -> tuple[int, None]:
        self.reports.put((event.event_type, event.event_information))
        return 0x0000, None


def store(association: Association, *paths: Path) -> None:
    for path in paths:
        assert association.send_c_store(dcmread(path)).Status == 0x0000


def sop_uids(paths: Sequence[Path]) -> list[str]:
    return sorted(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths)


def ask_commitment(association: Association, uids: Sequence[str], sop_class: str = "") -> int:
    """N-ACTION for some instances; its status."""
    asked = Dataset()
    asked.TransactionUID = generate_uid()
    asked.ReferencedSOPSequence = [
        reference(uid, sop_class or str(UltrasoundImageStorage)) for uid in uids
    ]
    answer, _ = association.send_n_action(
        asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(answer.Status)


def reference(sop_uid: str, sop_class: str = str(UltrasoundImageStorage)) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
    return item


def begin_step(
    association: Association, step_uid: str, study_uid: str, status: str = "IN PROGRESS"
) -> int:
    """N-CREATE of a performed procedure step; its status."""
    step, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID = study_uid
    step.PerformedProcedureStepStatus = status
    step.ScheduledStepAttributesSequence = [scheduled]
    answer, _ = association.send_n_create(step, ModalityPerformedProcedureStep, step_uid)
    return int(answer.Status)


def end_step(
    association: Association, step_uid: str, uids: Sequence[str], status: str = "COMPLETED"
) -> int:
    """N-SET of a performed procedure step with its series; its status."""
    changes, series = Dataset(), Dataset()
    series.SeriesInstanceUID = generate_uid()
    series.ReferencedImageSequence = [reference(uid) for uid in uids]
    changes.PerformedProcedureStepStatus = status
    changes.PerformedSeriesSequence = [series]
    answer, _ = association.send_n_set(changes, ModalityPerformedProcedureStep, step_uid)
    return int(answer.Status)
