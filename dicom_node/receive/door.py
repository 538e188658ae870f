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
from dicom_node.receive.server import HardServer

LOGGER = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 3.0
"""For the whole of it; two round trips and a signature need a tenth of this on a slow line."""

FAULT = unproven_user("a fault of ours while looking at it")


class DoorServer(HardServer):
    """A HardServer that hears only some networks and, with an ``ssl_context``, only TLS."""

    networks: tuple[Network, ...] = ()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Look at the address before any byte is read."""
        if not admits(self.networks, client_address[0]):
            _log(
                "connection refused", client_address[0], "its address is in none of access.networks"
            )
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
            reason = said(error) if isinstance(error, ssl.SSLError) else str(error)
            _log("connection refused", address, f"TLS: {reason}")
            request.close()
            return None
        secured.settimeout(None)
        return secured


class Doorkeeper:
    """Bound to EVT_REQUESTED: rejects an association that the rules do not let in."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def on_requested(self, event: Event) -> None:
        """Reject, or say nothing. What goes wrong here keeps the peer out: pynetdicom would let it in."""
        refusal: Refusal | None = FAULT
        try:
            refusal = self._refusal(_calling(event))
        finally:
            if refusal and not event.assoc.is_rejected:
                _reject(event, refusal)

    def _refusal(self, calling: Calling) -> Refusal | None:
        try:
            return self._rules.refusal(calling)
        except SettingsError as error:
            return unproven_user(str(error))


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


def _title(event: Event) -> str:
    """While an association is requested, the requestor's own field is still empty."""
    return str(event.assoc.requestor.primitive.calling_ae_title or "")  # type: ignore[union-attr]


def _reject(event: Event, refusal: Refusal) -> None:
    association = event.assoc
    association.acse.send_reject(refusal.result, refusal.source, refusal.diagnostic)
    association.kill()  # waits until the rejection is on its way; else the closing socket overtakes it
    _log(
        "association rejected",
        association.requestor.address or "",
        refusal.reason,
        calling_ae=_title(event),
    )


def _log(event: str, peer: str, reason: str, **more: str) -> None:
    LOGGER.warning(event, extra={"fields": {**more, "peer": peer, "reason": reason}})
