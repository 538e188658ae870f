"""The acceptor, hardened: no slow, silent or lying client may stop, fill or slow down the listener.

pynetdicom 3.0.4 waits for ever for the rest of a PDU, buffers whatever length a PDU announces, and polls
with ``select``, which fails above 1024 descriptors. Relies on ``Association.dul.socket`` being an
AssociationSocket, and on its ``_is_connected`` and ``event_queue``: therefore pynetdicom's exact pin.
"""

import select
import socket
import socketserver
import ssl
import time
from typing import Any

from pynetdicom import transport
from pynetdicom.events import Event

from dicom_node.counters import ASSOCIATIONS

MAX_PDU_BYTES = 1 << 20
"""No honest sender comes near: we advertise 131072."""

PDU_SECONDS = 5.0
"""For one PDU; 128 kB in 5 s still allows 26 kB/s."""

SEND_SECONDS = 30.0
"""A peer that does not take our answer for this long is gone."""

ASSOCIATIONS_PER_ADDRESS = 32
"""Half of all slots: one machine cannot lock out the others."""


class HardSocket(transport.AssociationSocket):
    """Reads a PDU within a deadline and a size, and polls without a limit on descriptors."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read one part of a PDU (header, then body). Raises OSError when it is too large or too late."""
        if nr_bytes > MAX_PDU_BYTES:
            raise OSError(f"PDU of {nr_bytes} bytes refused")
        buffer, got, end = bytearray(nr_bytes), 0, time.monotonic() + PDU_SECONDS
        connection = self.socket
        if connection is None:
            return bytearray()
        with memoryview(buffer) as view:
            try:
                while got < nr_bytes:
                    left = end - time.monotonic()
                    if left <= 0:
                        raise TimeoutError("PDU not completed in time")
                    connection.settimeout(left)
                    count = connection.recv_into(view[got:])
                    if not count:
                        break
                    got += count
            finally:
                _restore_timeout(connection)
        return buffer if got == nr_bytes else buffer[:got]

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        if self.socket is None or not self._is_connected:
            return False
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        try:
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed, PS3.8 table 9-10
            return False


def _restore_timeout(connection: socket.socket) -> None:
    """Without this the few milliseconds left of a PDU's deadline would apply to the next send."""
    try:
        connection.settimeout(SEND_SECONDS)
    except OSError:
        return  # closed meanwhile; the read has already said so


def harden(event: Event) -> None:
    """Turn the socket of a new connection into a HardSocket; bound to EVT_CONN_OPEN."""
    event.assoc.dul.socket.__class__ = HardSocket


class HardServer(transport.ThreadedAssociationServer):
    """Accepts fast, one thread per connection, and not too many from one address."""

    request_queue_size = 128
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one connection; small answers leave at once, dead peers are noticed."""
        connection, address = self.socket.accept()  # type: ignore[union-attr]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Count before any DICOM byte is read; approximate, since threads start after the count."""
        if self.connections_from(client_address[0]) < ASSOCIATIONS_PER_ADDRESS:
            return True
        ASSOCIATIONS.labels("rejected", "too many from one address").inc()
        return False

    def connections_from(self, address: str) -> int:
        """How many of one address are open."""
        return sum(
            association.requestor.address == address for association in self.active_associations
        )

    def shutdown(self) -> None:
        """Stop listening; the stock one fails on a server made by ``AE.make_server``."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()
