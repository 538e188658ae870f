"""deliver: the Storage SCU. Delivered means: the peer answered 0x0000, or a warning, for each instance."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import pack_bits
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE, _config, evt, timer
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_node.access.tls import client_arguments, handshake_failure
from dicom_node.checkpoint import stand_aside
from dicom_node.clock import STEADY
from dicom_node.errors import Busy, Declined, SettingsError, Unreachable
from dicom_node.settings import Destination

CONNECT_SECONDS, ACSE_SECONDS, NETWORK_SECONDS = 5, 30, 60
DIMSE_SECONDS = 120
"""An archive may write a large object to tape-slow storage before it answers."""

SUCCESS = 0x0000
TRY_AGAIN = (0x0110, 0x0213)
"""Processing failure, resource limitation: PS3.7 annex C."""
OUT_OF_RESOURCES = 0xA7
NOT_SUPPORTED = 0x0122
"""SOP class not supported, PS3.7 table C-1: here also for a presentation context that was not accepted."""

SIMPLER: Mapping[UID, tuple[UID, ...]] = MappingProxyType(
    {
        ExplicitVRLittleEndian: (ImplicitVRLittleEndian,),
        DeflatedExplicitVRLittleEndian: (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        JPEG2000Lossless: (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    }
)
"""What a file may be converted to for a peer that does not take it as it is."""

REPORT_SECONDS = 2.0
"""Who answers a request for commitment on its own association does so at once; others open a new one."""

VERIFICATION = UID("1.2.840.10008.1.1")
MAXIMUM_PDU_BYTES = 131072


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination answered for one instance."""

    sop_instance_uid: str
    status: int

    @property
    def is_delivered(self) -> bool:
        """Success, or a warning: the object was stored."""
        return self.status == SUCCESS or self.is_warning

    @property
    def is_warning(self) -> bool:
        """0xBxxx, PS3.4 table B.2-1: stored, with a change or a doubt."""
        return self.status >> 12 == 0xB


@dataclass(frozen=True, slots=True)
class _Outgoing:
    path: Path
    sop_class: UID
    sop_instance: UID
    transfer_syntax: UID


def deliver(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    answered: Callable[[Receipt], None] = lambda _receipt: None,
) -> tuple[Receipt, ...]:
    """Send files over one association; ``answered`` is called at each answer, before the next is sent.

    One object that the destination declines does not keep the others from it; Declined is raised at the end.
    Raises Unreachable (no association, or it broke), Busy (0xA7xx, transient rejection), Declined (0xA9xx,
    0xCxxx, no presentation context, permanent rejection). Statuses: PS3.4 table B.2-1.
    """
    outgoing = [_describe(path) for path in paths]
    receipts = []
    with _associate(destination, calling_ae, _contexts(outgoing)) as association:
        for item in outgoing:
            receipt = Receipt(item.sop_instance, _send(association, item, destination))
            answered(receipt)
            receipts.append(receipt)
    declined = [receipt for receipt in receipts if not receipt.is_delivered]
    if declined:
        raise Declined(destination.name, "; ".join(_sentence(receipt) for receipt in declined))
    return tuple(receipts)


def _sentence(receipt: Receipt) -> str:
    if receipt.status == NOT_SUPPORTED:
        return f"instance {receipt.sop_instance_uid}: it takes no such objects"
    return f"instance {receipt.sop_instance_uid}: answered 0x{receipt.status:04X}"


def echo(destination: Destination, calling_ae: str) -> None:
    """C-ECHO a destination. Raises Unreachable, Busy, Declined."""
    with _associate(destination, calling_ae, [build_context(VERIFICATION)]) as association:
        if not association.accepted_contexts:
            raise Declined(destination.name, "it does not take C-ECHO")
        answer = association.send_c_echo()
        if "Status" not in answer:
            raise Unreachable(destination.name, "no answer to C-ECHO")
        if answer.Status != SUCCESS:
            raise Declined(destination.name, f"C-ECHO answered with 0x{answer.Status:04X}")


def request_commitment(
    destination: Destination,
    calling_ae: str,
    transaction_uid: str,
    delivered: Sequence[tuple[str, str]],
    report: Callable[[Dataset], int],
) -> None:
    """Ask a destination to commit to instances (class, instance), PS3.4 annex J.

    An answer that comes at once is given to ``report``, which returns the status of its response; one that
    comes later does so on an association of the destination's own. Raises Unreachable, Busy, Declined.
    """
    asked, answered, serving = Dataset(), threading.Event(), list[threading.Thread]()
    asked.TransactionUID = transaction_uid
    asked.ReferencedSOPSequence = [_reference(*each) for each in delivered]

    def take(event: Event) -> tuple[int, None]:
        serving.append(threading.current_thread())
        status = report(event.event_information)
        answered.set()
        return status, None

    contexts = [build_context(StorageCommitmentPushModel)]
    handlers = ((evt.EVT_N_EVENT_REPORT, take),)
    with _associate(destination, calling_ae, contexts, handlers) as association:
        if not association.accepted_contexts:
            raise Declined(destination.name, "it does not offer storage commitment")
        try:
            answer, _ = association.send_n_action(
                asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        except RuntimeError as error:  # pynetdicom's word for an association that has just ended
            raise Unreachable(destination.name, "the association broke") from error
        if "Status" not in answer:
            raise Unreachable(destination.name, "no answer to the request for storage commitment")
        if answer.Status != SUCCESS:
            sentence = f"request for storage commitment answered with 0x{answer.Status:04X}"
            raise (Busy if answer.Status in TRY_AGAIN else Declined)(destination.name, sentence)
        answered.wait(REPORT_SECONDS)
        for thread in serving:
            thread.join()  # released before our response has left, the association would hang


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
    return item


def _describe(path: Path) -> _Outgoing:
    meta = read_file_meta_info(path)
    return _Outgoing(
        path, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID
    )


def _contexts(outgoing: Sequence[_Outgoing]) -> list[PresentationContext]:
    """One per kind of file; what is not lossy may also travel in DICOM's default, PS3.5 section 10.1."""
    offers = dict.fromkeys((item.sop_class, item.transfer_syntax) for item in outgoing)
    for sop_class, transfer_syntax in list(offers):
        for simpler in SIMPLER.get(transfer_syntax, ()):
            offers[sop_class, simpler] = None
    return [build_context(sop_class, transfer_syntax) for sop_class, transfer_syntax in offers]


@contextmanager
def _associate(
    destination: Destination,
    calling_ae: str,
    contexts: list[PresentationContext],
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """An established association, released at the end, aborted on an error."""
    # pynetdicom sends a file in pieces, without reading it whole, only by a switch of the whole process.
    _config.STORE_SEND_CHUNKED_DATASET = True
    timer.time = STEADY  # type: ignore[assignment]
    entity = AE(calling_ae)
    entity.connection_timeout, entity.acse_timeout = CONNECT_SECONDS, ACSE_SECONDS
    entity.network_timeout, entity.dimse_timeout = NETWORK_SECONDS, DIMSE_SECONDS
    name, where = destination.name, f"{destination.host}:{destination.port}"
    try:
        secured = client_arguments(destination)
        association = entity.associate(
            destination.host,
            destination.port,
            contexts,
            destination.ae_title,
            max_pdu=MAXIMUM_PDU_BYTES,
            tls_args=secured,
            evt_handlers=[(evt.EVT_CONN_OPEN, _on_open), *handlers],
        )
    except SettingsError as error:  # a certificate that was there at the start; it may come back
        raise Unreachable(name, str(error)) from error
    except OSError as error:
        raise Unreachable(name, f"{where} cannot be resolved: {error.strerror}") from error
    answer = association.acceptor.primitive
    if answer is not None and association.is_rejected:
        reason = f"association rejected: {answer.reason_str}"
        raise (Busy if answer.result == 0x02 else Declined)(name, reason)  # transient, PS3.8 9.3.4
    if answer is None or (not association.is_established and association.accepted_contexts):
        why = secured and handshake_failure(destination.host, destination.port, secured)
        raise Unreachable(name, f"no association with {where}{': ' if why else ''}{why or ''}")
    if not association.is_established:
        raise Declined(name, f"it takes none of the kinds of objects: {_offered(contexts)}")
    try:
        yield association
        association.release()
    finally:
        if association.is_established:
            association.abort()


def _offered(contexts: Sequence[PresentationContext]) -> str:
    return ", ".join(dict.fromkeys(UID(str(each.abstract_syntax)).name for each in contexts))


def _on_open(event: Event) -> None:
    """Answers are left for who waits for them. Nagle's algorithm would hold back the end of each instance
    for 40 ms."""
    stand_aside(event.assoc)
    connection: socket.socket = event.assoc.dul.socket.socket  # type: ignore[union-attr,assignment]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _uncompressed(dataset: Dataset) -> Dataset:
    """The data set with plain pixels; without loss, so it stays the same instance (PS3.5 section 8.2)."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return dataset
    pixels = dataset.pixel_array
    dataset.decompress(generate_instance_uid=False)
    if dataset.BitsAllocated == 1:
        # pydicom 3.0 leaves a byte for each bit.
        dataset.PixelData = pack_bits(pixels)
    return dataset


def _send(association: Association, item: _Outgoing, destination: Destination) -> int:
    """The status of one C-STORE. Raises Unreachable, Busy."""
    if not association.is_established:
        raise Unreachable(destination.name, "the association broke")
    taken = {
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.abstract_syntax == item.sop_class
    }
    what = f"instance {item.sop_instance} ({item.sop_class.name})"
    if not taken:
        return NOT_SUPPORTED
    # A file that the peer takes as it is goes out unread; another one is converted to what it takes.
    as_it_is = item.transfer_syntax in taken
    source: Path | Dataset = item.path if as_it_is else _uncompressed(dcmread(item.path))
    try:
        answer = association.send_c_store(source)
    except RuntimeError as error:  # pynetdicom's word for an association that has just ended
        raise Unreachable(destination.name, f"the association broke before {what}") from error
    if "Status" not in answer:
        raise Unreachable(destination.name, f"no answer for {what}")
    status = int(answer.Status)
    if status >> 8 == OUT_OF_RESOURCES:
        raise Busy(destination.name, f"out of resources (0x{status:04X}) at {what}")
    return status
