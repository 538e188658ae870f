"""The first PDU of a connection: an association request that can be answered, or a line about what it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_node.errors import MalformedRequest
from dicom_node.receive.proposal import Proposal, read
from dicom_node.receive.refusals import (
    MALFORMED,
    NO_REQUEST,
    NO_TLS_HERE,
    TurnedAway,
    turned_away,
)

HEADER_BYTES = 6
REQUEST = 0x01
"""PDU type of A-ASSOCIATE-RQ, PS3.8 table 9-11."""

TLS_HANDSHAKE = b"\x16\x03"
"""Content type and major version of a TLS record, RFC 8446 section 5.1."""

METHODS = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTION", b"DELETE", b"PRI *", b"CONNEC")

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError)
"""What pynetdicom's setters raise at a value that was thought to be good."""


@dataclass(frozen=True, slots=True)
class Indication:
    """What pynetdicom's state machine asks of a decoded request, in action AE-6 (PS3.8 table 9-6)."""

    primitive: A_ASSOCIATE
    protocol_version: int = 1

    def to_primitive(self) -> A_ASSOCIATE:
        return self.primitive


class Opening:
    """Of one connection; used by its own thread. ``proposal`` is there once a request was read."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._decode: Callable[[bytearray], tuple[Any, str]] = association.dul._decode_pdu
        self._has_begun = self._is_over = False
        self.proposal: Proposal | None = None
        association.dul._decode_pdu = self.decode  # type: ignore[method-assign, assignment]

    def take(self, part: bytes | bytearray, wanted: int) -> None:
        """Another part of a PDU has come, or less than was wanted: the peer has closed."""
        if self._is_over:
            return
        if self._has_begun and len(part) < wanted:
            self.break_off(f"it was closed after {len(part)} of {wanted} bytes")
        elif not self._has_begun and part:  # nothing: a probe of the port, as of a health check
            self._has_begun = True
            self._begin(bytes(part))

    def _begin(self, header: bytes) -> None:
        if len(header) == HEADER_BYTES and header[0] == REQUEST:
            return
        self._is_over = True
        if header.startswith(TLS_HANDSHAKE):
            self._tell(
                NO_TLS_HERE,
                "it speaks TLS, and this node does not",
                "switch TLS off at the sender, or give this node a certificate ([tls])",
            )
        elif header.startswith(METHODS):
            advice = "STOW-RS has a port of its own (receive.web_port)"
            self._tell(NO_REQUEST, "it speaks HTTP on the DICOM port", advice)
        elif len(header) < HEADER_BYTES:
            self._tell(MALFORMED, f"it was closed after {len(header)} bytes")
        else:
            what = f"it begins with 0x{header[0]:02X}, not with an association request"
            self._tell(NO_REQUEST, what, "is the sender a DICOM application?")

    def break_off(self, reason: str) -> None:
        """The request did not come whole."""
        if not self._is_over:
            self._is_over = True
            self._tell(MALFORMED, reason)

    def decode(self, pdu: bytearray) -> tuple[Any, str]:
        """In place of ``DULServiceProvider._decode_pdu``. Raises MalformedRequest, answered by an A-ABORT."""
        if self._is_over or pdu[0] != REQUEST:
            return self._decode(pdu)
        self._is_over = True
        try:
            try:
                self.proposal = read(bytes(pdu))
            except UNREADABLE as error:
                raise MalformedRequest(f"{type(error).__name__} while decoding") from error
        except MalformedRequest as error:
            advice = "this is a fault of the sender: tell its manufacturer the reason"
            self._tell(MALFORMED, str(error), advice)
            raise
        return Indication(self.proposal.primitive), "Evt6"

    def _tell(self, count: str, reason: str, advice: str = "") -> None:
        association = self._association
        address = association.requestor.address or ""
        who = TurnedAway("association aborted", address, reason, advice)
        turned_away(who, count, association.ae.ae_title)
