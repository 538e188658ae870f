"""deliver: the Storage SCU. Delivered means: the peer answered 0x0000, or a warning, for each instance."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

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
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.deliver import association as limits
from dicom_node.deliver import causes
from dicom_node.deliver.association import (
    ACSE_SECONDS,
    CONNECT_SECONDS,
    DIMSE_SECONDS,
    MAXIMUM_PDU_BYTES,
    NETWORK_SECONDS,
    associate,
)
from dicom_node.deliver.commitment import REPORT_SECONDS, request_commitment
from dicom_node.deliver.statuses import DUPLICATE, NOT_SUPPORTED, SUCCESS, Receipt
from dicom_node.errors import Busy, Declined, DeliveryError, Unreachable
from dicom_node.settings import Destination

__all__ = [
    "ACSE_SECONDS",
    "CONNECT_SECONDS",
    "DIMSE_SECONDS",
    "DUPLICATE",
    "MAXIMUM_PDU_BYTES",
    "MOST_SILENT",
    "NETWORK_SECONDS",
    "NOT_SUPPORTED",
    "REPORT_SECONDS",
    "SIMPLER",
    "SUCCESS",
    "Receipt",
    "accepted_by",
    "deliver",
    "echo",
    "offers",
    "request_commitment",
]

SIMPLER: Mapping[UID, tuple[UID, ...]] = MappingProxyType(
    {
        ExplicitVRLittleEndian: (ImplicitVRLittleEndian,),
        DeflatedExplicitVRLittleEndian: (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        JPEG2000Lossless: (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    }
)
"""What a file may be converted to for a peer that does not take it as it is."""

MOST_SILENT = 2
"""Objects in a row that get no answer until the time-out; the rest is left for the next attempt."""

SENTENCES = 3
"""So many objects are named in a reason; of the others it says how many they are."""


@dataclass(frozen=True, slots=True)
class _Outgoing:
    path: Path
    sop_class: UID
    sop_instance: UID
    transfer_syntax: UID

    @property
    def name(self) -> str:
        return f"instance {self.sop_instance} ({self.sop_class.name})"


class _NotSent(Exception):
    """The association ended before an object was begun."""


@dataclass(slots=True)
class _Attempt:
    """What one attempt has come to: answers, objects without one, and how the last association ended."""

    destination: Destination
    answered: Callable[[Receipt], None]
    sending: Callable[[str], bool]
    receipts: list[Receipt] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    silent: int = 0
    end: DeliveryError | None = None

    def send(self, association: Association, item: _Outgoing) -> None:
        """One object, and what is answered. Raises _NotSent."""
        receipt = self._store(association, item)
        if receipt:
            self.silent = 0
            self._take(receipt)

    def _store(self, association: Association, item: _Outgoing) -> Receipt | None:
        if not association.is_established:
            raise _NotSent
        taken = {
            context.transfer_syntax[0]
            for context in association.accepted_contexts
            if context.abstract_syntax == item.sop_class
        }
        if not taken:
            return Receipt(item.sop_instance, NOT_SUPPORTED)
        # A file that the peer takes as it is goes out unread; another one is converted to what it takes.
        as_it_is = item.transfer_syntax in taken
        source: Path | Dataset = item.path if as_it_is else _uncompressed(dcmread(item.path))
        may_be_there, begun = self.sending(item.sop_instance), time.monotonic()
        try:
            answer = association.send_c_store(source)
        except RuntimeError as error:  # pynetdicom's word for an association that has just ended
            raise _NotSent from error
        if "Status" in answer:
            return Receipt(item.sop_instance, int(answer.Status), may_be_there)
        is_late = time.monotonic() - begun >= limits.DIMSE_SECONDS
        self.silent = self.silent + 1 if is_late else 0
        why = f"no answer in {limits.DIMSE_SECONDS} s" if is_late else "the association broke"
        self.unanswered.append(f"{why}: no answer for {item.name}")
        return None

    def stop(self, error: DeliveryError, left: list[_Outgoing]) -> None:
        """There is no further association: of the kinds that are left it takes none, or it is away."""
        if not isinstance(error, Declined):
            self.end = error
            return
        for item in left:
            self._take(Receipt(item.sop_instance, NOT_SUPPORTED))
        left.clear()

    def _take(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
        self.answered(receipt)

    def conclude(self, left: int) -> None:
        """Raises why not all is delivered: first what is to be tried again, then what is refused."""
        name = self.destination.name
        deferred = [each.sentence for each in self.receipts if each.is_deferred]
        declined = [each for each in self.receipts if not (each.is_delivered or each.is_deferred)]
        rest = [f"objects not tried: {left}"] if left else []
        if self.end:
            said = [*self.unanswered, *deferred, self.end.reason, *rest]
            raise type(self.end)(name, _few(said), self.end.cause)
        if self.unanswered or left:
            cause = causes.SILENT if self.silent else causes.BROKEN
            raise Unreachable(name, _few([*self.unanswered, *deferred, *rest]), cause)
        if deferred:
            raise Busy(name, _few(deferred), causes.NOT_NOW)
        if declined:
            raise Declined(name, _few(each.sentence for each in declined), causes.REFUSES)


def deliver(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    answered: Callable[[Receipt], None] = lambda _receipt: None,
    sending: Callable[[str], bool] = lambda _sop_instance_uid: False,
) -> tuple[Receipt, ...]:
    """Send files over one association; ``answered`` is called at each answer, before the next is sent.

    ``sending`` is called before each object, and says whether the peer may have it already (see Receipt). No
    object keeps the others from the peer: one that is declined or deferred is passed over, and after one at
    which the association breaks the others go over a new one. At the end is raised what remains: Unreachable
    (no association, or it broke), Busy (0xA7xx, what else ``statuses.not_now`` knows, transient rejection),
    Rejected (permanent rejection), Declined (any other failure, no presentation context).
    """
    left = [_describe(path) for path in paths]
    attempt = _Attempt(destination, answered, sending)
    while left and not attempt.end and attempt.silent < MOST_SILENT:
        try:
            _send_some(attempt, left, calling_ae)
        except DeliveryError as error:
            if not (attempt.receipts or attempt.unanswered):
                raise
            attempt.stop(error, left)
    attempt.conclude(len(left))
    return tuple(attempt.receipts)


def _send_some(attempt: _Attempt, left: list[_Outgoing], calling_ae: str) -> None:
    """Over one association, until it ends; takes out of ``left`` what was sent. Raises DeliveryError."""
    before, destination = len(left), attempt.destination
    with associate(destination, calling_ae, _contexts(left)) as association:
        try:
            while left and attempt.silent < MOST_SILENT:
                lost = len(attempt.unanswered)
                attempt.send(association, left[0])
                del left[0]
                if len(attempt.unanswered) > lost:
                    return
        except _NotSent:
            if len(left) == before:
                sentence = f"the association broke before {left[0].name}"
                raise Unreachable(destination.name, sentence, causes.BROKEN) from None


def _few(sentences: Iterable[str]) -> str:
    told = list(dict.fromkeys(sentences))
    more = [f"and {len(told) - SENTENCES} more"] if len(told) > SENTENCES else []
    return "; ".join([*told[:SENTENCES], *more])


def echo(destination: Destination, calling_ae: str) -> None:
    """C-ECHO a destination. Raises Unreachable, Busy, Rejected, Declined."""
    with associate(destination, calling_ae, [build_context(causes.VERIFICATION)]) as association:
        _echo(association, destination)


def _echo(association: Association, destination: Destination) -> None:
    answer = association.send_c_echo()
    if "Status" not in answer:
        raise Unreachable(destination.name, "no answer to C-ECHO", causes.SILENT)
    if answer.Status != SUCCESS:
        sentence = f"C-ECHO answered with 0x{answer.Status:04X}"
        raise Declined(destination.name, sentence, causes.REFUSES)


def accepted_by(
    destination: Destination,
    calling_ae: str,
    files: Iterable[tuple[str, str]],
    services: Iterable[str],
) -> tuple[tuple[str, str], ...]:
    """Propose the contexts of files (class, transfer syntax) and of services, and C-ECHO where that is one.

    Sends nothing else; returns abstract and transfer syntax of each context that is accepted.
    Raises Unreachable, Busy, Rejected, Declined.
    """
    contexts = [*offers(files), *map(build_context, services)]
    with associate(destination, calling_ae, contexts) as association:
        accepted = tuple(
            (str(each.abstract_syntax), str(each.transfer_syntax[0]))
            for each in association.accepted_contexts
        )
        if causes.VERIFICATION in dict(accepted):
            _echo(association, destination)
        return accepted


def _describe(path: Path) -> _Outgoing:
    meta = read_file_meta_info(path)
    return _Outgoing(
        path, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID
    )


def _contexts(outgoing: Sequence[_Outgoing]) -> list[PresentationContext]:
    return offers((item.sop_class, item.transfer_syntax) for item in outgoing)


def offers(files: Iterable[tuple[str, str]]) -> list[PresentationContext]:
    """What is proposed for files of a class and transfer syntax: a context for each kind of them.

    What is not lossy may also travel in DICOM's default, PS3.5 section 10.1.
    """
    proposed = dict.fromkeys(files)
    for sop_class, transfer_syntax in list(proposed):
        for simpler in SIMPLER.get(UID(transfer_syntax), ()):
            proposed[sop_class, simpler] = None
    return [build_context(sop_class, transfer_syntax) for sop_class, transfer_syntax in proposed]


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
