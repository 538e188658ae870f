"""The door of the SCP: address, TLS handshake, who asks for an association; a refusal is logged once."""

import logging
import socket
import ssl
from typing import Any

from pynetdicom.events import Event

from dicom_node.access.rules import (
    Calling,
    Network,
    Refusal,
    Rules,
    admits,
    names_of,
    unproven_user,
)
from dicom_node.access.tls import said
from dicom_node.errors import SettingsError
from dicom_node.receive.proposal import Proposal
from dicom_node.receive.refusals import (
    HANDSHAKE,
    NETWORK,
    TurnedAway,
    rejection,
    tell,
    turned_away,
)
from dicom_node.receive.server import HardServer

LOGGER = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 3.0
"""For the whole of it; two round trips and a signature need a tenth of this on a slow line."""

ADVICE = {
    "wrong version number": "it speaks plain DICOM, or no DICOM at all: switch TLS on at the sender",
    "http request": "it speaks plain HTTP; STOW-RS has a port of its own (receive.web_port)",
    "peer did not return a certificate": "give the sender a certificate signed by [tls] ca",
    "local issuer": "[tls] ca must hold the authority of the sender's certificate",
    "self-signed": "have the sender's certificate signed by [tls] ca, or add it there",
    "certificate has expired": "the sender needs a new certificate",
    "not yet valid": "is the clock right, here and at the sender?",
    "certificate revoked": "the sender's certificate is revoked: it needs a new one",
    "get certificate CRL": "[tls] crl must hold a list of the authority of the sender's certificate",
    "CRL has expired": "fetch the current revocation list ([tls] crl)",
    "unknown ca": "the sender does not trust our certificate: give it our authority's",
    "bad certificate": "the sender does not take our certificate: give it our authority's",
    "certificate unknown": "the sender does not take our certificate: give it our authority's",
    "no shared cipher": "the sender must offer TLS 1.3, or 1.2 with ECDHE and AES-GCM (BCP 195)",
    "unsupported protocol": "the sender must speak TLS 1.2 or 1.3",
    "timed out": "it connected and did not begin TLS in time: is TLS switched on at the sender?",
}
OTHER_ADVICE = "compare the TLS settings of the sender with [tls]"

FAULT = unproven_user("a fault of ours while looking at it")


class DoorServer(HardServer):
    """A HardServer that hears only some networks and, with an ``ssl_context``, only TLS."""

    networks: tuple[Network, ...] = ()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Look at the address before any byte is read."""
        if not admits(self.networks, client_address[0]):
            reason = "its address is in none of access.networks"
            advice = "if it is one of yours, add its address there"
            tell(TurnedAway("connection refused", client_address[0], reason, advice), NETWORK)
            return False
        return super().verify_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread: a silent client must not hold the listener."""
        if self.ssl_context:
            secured = self._shake_hands(request, client_address[0])
            if secured is None:
                return
            request = secured
        super().finish_request(request, client_address)

    def _shake_hands(self, request: socket.socket, address: str) -> ssl.SSLSocket | None:
        assert self.ssl_context is not None
        request.settimeout(HANDSHAKE_SECONDS)
        try:
            if not request.recv(1, socket.MSG_PEEK):  # a probe of the port, as of a health check
                request.close()
                return None
            secured = self.ssl_context.wrap_socket(request, server_side=True)
        except OSError as error:
            self._tell_failed(error, address)
            request.close()
            return None
        secured.settimeout(None)
        return secured

    def _tell_failed(self, error: OSError, address: str) -> None:
        reason = said(error) if isinstance(error, ssl.SSLError) else str(error)
        who = TurnedAway("connection refused", address, f"TLS: {reason}", advice_for(reason))
        turned_away(who, HANDSHAKE, self.ae.ae_title)


class Doorkeeper:
    """Bound to EVT_REQUESTED: rejects an association that the rules do not let in."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def on_requested(self, event: Event) -> None:
        """Reject, or say nothing. What goes wrong here keeps the peer out: pynetdicom would let it in."""
        refusal: Refusal | None = FAULT
        try:
            refusal = self._refusal(event)
        finally:
            if refusal and not event.assoc.is_rejected:
                _reject(event, refusal)

    def _refusal(self, event: Event) -> Refusal | None:
        proposal = _proposal(event)
        if proposal and proposal.refusal:
            return proposal.refusal
        if proposal and proposal.mended:
            fields = {"calling_ae": _title(event), "peer": event.assoc.requestor.address}
            fields["what"] = "; ".join(proposal.mended)
            LOGGER.info("association request mended", extra={"fields": fields})
        try:
            return self._rules.refusal(_calling(event))
        except SettingsError as error:
            return unproven_user(str(error))


def advice_for(reason: str) -> str:
    """What can be done about a handshake that failed, by OpenSSL's word for it."""
    return next((advice for word, advice in ADVICE.items() if word in reason), OTHER_ADVICE)


def _calling(event: Event) -> Calling:
    requestor = event.assoc.requestor
    connection = event.assoc.dul.socket.socket  # type: ignore[union-attr]
    peer = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    identity = requestor.user_identity
    calling = Calling(_title(event), requestor.address or "", tuple(names_of(peer or {})))
    if identity is None:
        return calling
    return Calling(
        calling.ae_title,
        calling.address,
        calling.certificate_names,
        identity.user_identity_type,
        identity.primary_field or b"",
        identity.secondary_field or b"",
    )


def _proposal(event: Event) -> Proposal | None:
    opening = getattr(event.assoc.dul.socket, "opening", None)
    return opening.proposal if opening else None


def _title(event: Event) -> str:
    """As it came. While an association is requested, the requestor's own field is still empty."""
    proposal = _proposal(event)
    if proposal:
        return proposal.calling_ae
    return str(event.assoc.requestor.primitive.calling_ae_title or "")  # type: ignore[union-attr]


def _reject(event: Event, refusal: Refusal) -> None:
    association = event.assoc
    association.acse.send_reject(refusal.result, refusal.source, refusal.diagnostic)
    association.kill()  # waits until the rejection is on its way; else the closing socket overtakes it
    who = TurnedAway(
        "association rejected",
        association.requestor.address or "",
        refusal.reason,
        calling_ae=_title(event),
    )
    turned_away(who, rejection(association), association.ae.ae_title)
