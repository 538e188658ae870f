"""An association to a peer, as its initiator; and where there is none, for which of its causes."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, _config, evt, timer
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.presentation import PresentationContext

from dicom_node.access.tls import client_arguments
from dicom_node.checkpoint import stand_aside
from dicom_node.clock import STEADY
from dicom_node.deliver import causes
from dicom_node.deliver.causes import Call, Cause
from dicom_node.errors import Busy, Declined, Rejected, SettingsError, Unreachable
from dicom_node.settings import Destination

CONNECT_SECONDS, ACSE_SECONDS, NETWORK_SECONDS = 5, 30, 60
DIMSE_SECONDS = 120
"""An archive may write a large object to tape-slow storage before it answers."""

MAXIMUM_PDU_BYTES = 131072
TRANSIENT = 0x02
"""Result of a rejection, PS3.8 table 9-21."""


@dataclass(slots=True)
class _Heard:
    """How far an association came."""

    is_open: bool = False
    is_aborted: bool = False
    started: float = field(default_factory=time.monotonic)

    def open(self, event: Event) -> None:
        """Answers are left for who waits for them. Nagle's algorithm would hold back the end of each instance
        for 40 ms."""
        self.is_open = True
        stand_aside(event.assoc)
        connection: socket.socket = event.assoc.dul.socket.socket  # type: ignore[union-attr,assignment]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pdu(self, event: Event) -> None:
        self.is_aborted |= isinstance(event.pdu, A_ABORT_RQ)

    def failure(self, call: Call, secured: Any) -> Cause:
        """Why there is no answer to the request for an association."""
        if not self.is_open:
            return causes.of_connection(call, secured)
        if secured and (mistrust := causes.of_handshake(call, secured)):
            return mistrust
        if not secured and causes.speaks_tls(call):
            return causes.speaks_tls_sentence(call)
        if self.is_aborted:
            return causes.aborted(call)
        is_silent = time.monotonic() - self.started >= ACSE_SECONDS
        return causes.silent(call, ACSE_SECONDS) if is_silent else causes.closed(call)


@contextmanager
def associate(
    destination: Destination,
    calling_ae: str,
    contexts: list[PresentationContext],
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """An established association, released at the end, aborted on an error.

    Raises Unreachable (no connection or no answer), Busy (transient rejection), Rejected (permanent one),
    Declined (no presentation context accepted), each with its cause.
    """
    # pynetdicom sends a file in pieces, without reading it whole, only by a switch of the whole process.
    _config.STORE_SEND_CHUNKED_DATASET = True
    timer.time = STEADY  # type: ignore[assignment]
    association = _request(destination, calling_ae, contexts, handlers)
    try:
        yield association
        if association.is_established:
            association.release()
    finally:
        if association.is_established:
            association.abort()


def _request(
    destination: Destination,
    calling_ae: str,
    contexts: list[PresentationContext],
    handlers: Sequence[Any],
) -> Association:
    entity = AE(calling_ae)
    entity.connection_timeout, entity.acse_timeout = CONNECT_SECONDS, ACSE_SECONDS
    entity.network_timeout, entity.dimse_timeout = NETWORK_SECONDS, DIMSE_SECONDS
    name, call, heard = destination.name, Call.of(destination, calling_ae), _Heard()
    try:
        secured = client_arguments(destination)
        association = entity.associate(
            destination.host,
            destination.port,
            contexts,
            destination.ae_title,
            max_pdu=MAXIMUM_PDU_BYTES,
            tls_args=secured,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, heard.open),
                (evt.EVT_PDU_RECV, heard.pdu),
                *handlers,
            ],
        )
    except SettingsError as error:  # a certificate that was there at the start; it may come back
        raise Unreachable(name, str(error), causes.SETTINGS) from error
    except OSError as error:
        cause = causes.unresolved(call, error)
        raise Unreachable(name, cause.sentence, cause.word) from error
    answer = association.acceptor.primitive
    if answer is not None and association.is_rejected:
        cause = causes.rejected(call, answer)
        kind = Busy if answer.result == TRANSIENT else Rejected
        raise kind(name, cause.sentence, cause.word)  # PS3.8 section 9.3.4
    if answer is None or (not association.is_established and association.accepted_contexts):
        cause = heard.failure(call, secured)
        raise Unreachable(name, cause.sentence, cause.word)
    if not association.is_established:
        offered = ", ".join(dict.fromkeys(UID(str(each.abstract_syntax)).name for each in contexts))
        raise Declined(name, f"it takes none of the kinds of objects: {offered}", causes.CONTEXTS)
    return association
