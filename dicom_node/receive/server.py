"""The acceptor, hardened: no slow, silent or lying client may stop, fill or slow down the listener.

pynetdicom 3.0.4 waits for ever for the rest of a PDU, buffers whatever length a PDU announces, and polls
with ``select``, which fails above 1024 descriptors. Relies on ``Association.dul.socket`` being an
AssociationSocket, and on its ``_is_connected`` and ``event_queue``: therefore pynetdicom's exact pin, and
``tests/test_receive_contract.py``.
"""

import select
import socket
import socketserver
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pynetdicom import transport
from pynetdicom.events import Event

from dicom_node.counters import ASSOCIATIONS
from dicom_node.receive.opening import Opening
from dicom_node.receive.reactor import LOOK_SECONDS, Bell, quicken
from dicom_node.receive.refusals import CONNECTIONS
from dicom_node.settings import Limits

MAX_PDU_BYTES = 1 << 20
"""No honest sender comes near: we advertise 131072."""

GONE_SECONDS = 0.001
"""Between two looks at a connection that is closed, while its threads end."""


CONNECTIONS_PER_ASSOCIATION = 2
"""So many connections per association that may be open: the rest hears a rejection, the flood nothing."""


class HardSocket(transport.AssociationSocket):
    """Reads a PDU within a deadline and a size, and polls without a limit on descriptors."""

    limits: Limits
    bell: Bell
    opening: Opening

    def recv(self, nr_bytes: int) -> bytearray:
        """Read one part of a PDU (header, then body). Raises OSError when it is too large or too late."""
        try:
            part = self._fill(nr_bytes)
        except OSError as error:
            late = isinstance(error, TimeoutError)
            self.opening.break_off("PDU not completed in time" if late else str(error))
            raise
        self.opening.take(part, nr_bytes)
        return part

    def _fill(self, nr_bytes: int) -> bytearray:
        if nr_bytes > MAX_PDU_BYTES:
            raise OSError(f"PDU of {nr_bytes} bytes refused")
        buffer, got, end = bytearray(nr_bytes), 0, time.monotonic() + self.limits.pdu_seconds
        connection = self.socket
        if connection is None:
            return bytearray()
        with memoryview(buffer) as view:
            try:
                while got < nr_bytes:
                    left = end - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    connection.settimeout(left)
                    count = connection.recv_into(view[got:])
                    if not count:
                        break
                    got += count
            finally:
                _restore_timeout(connection, self.limits.send_seconds)
        return buffer if got == nr_bytes else buffer[:got]

    @property
    def ready(self) -> bool:
        """Whether there is something to read; waits a moment for it, less when more is to be done."""
        connection = self.socket
        if connection is None or not self._is_connected:
            time.sleep(GONE_SECONDS)
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True  # decrypted already, so that no poll sees it
        try:
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            poll.register(self.bell, select.POLLIN)
            # Events are handled one a look: the request may have come before the connection's own was.
            seconds = LOOK_SECONDS if self.event_queue.empty() else 0.0
            reported = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
            if self.bell.fileno() in reported:
                self.bell.silence()
                reported.remove(self.bell.fileno())
            return bool(reported)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed, PS3.8 table 9-10
            return False


def _restore_timeout(connection: socket.socket, seconds: float) -> None:
    """Without this the few milliseconds left of a PDU's deadline would apply to the next send."""
    try:
        connection.settimeout(seconds)
    except OSError:
        return  # closed meanwhile; the read has already said so


def hardener(limits: Limits) -> Callable[[Event], None]:
    """What turns the socket of a new connection into a HardSocket; to be bound to EVT_CONN_OPEN."""

    def harden(event: Event) -> None:
        line: Any = event.assoc.dul.socket
        line.__class__ = HardSocket
        line.limits = limits
        line.bell = quicken(event.assoc)
        line.opening = Opening(event.assoc)

    return harden


def release(event: Event) -> None:
    """Give back what a connection took beside its socket; to be bound to EVT_CONN_CLOSE."""
    line: Any = event.assoc.dul.socket
    line.bell.close()


class HardServer(transport.ThreadedAssociationServer):
    """Accepts fast, one thread per connection, and not too many from one address."""

    request_queue_size = 128
    daemon_threads = True
    limits = Limits()

    def __init__(self, *args: Any, listener: socket.socket | None = None, **options: Any) -> None:
        self._listener = listener
        self._starting: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(*args, **options)

    def server_bind(self) -> None:
        """Bind, or take the socket on which other processes listen as well."""
        if self._listener is None:
            super().server_bind()
            return
        assert self.socket is not None
        self.socket.close()
        self.socket = self._listener
        self.socket.setblocking(False)  # all hear of a connection, and one gets it
        self.server_address = self.socket.getsockname()

    def server_close(self) -> None:
        """Stop listening; the stock one would do so for the other processes too."""
        if self._listener is None:
            super().server_close()
        else:
            self._listener.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one connection; small answers leave at once, dead peers are noticed."""
        connection, address = self.socket.accept()  # type: ignore[union-attr]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Count before any DICOM byte is read, those included whose thread has not come so far."""
        address = client_address[0]
        running = [each.requestor.address for each in self.active_associations]
        with self._lock:
            mine = running.count(address) + self._starting[address]
            total = len(running) + self._starting.total()
            taken = (
                mine < self.limits.associations_per_address
                and total < CONNECTIONS_PER_ASSOCIATION * self.limits.associations
            )
            self._starting[address] += taken
        if not taken:
            ASSOCIATIONS.labels("rejected", CONNECTIONS).inc()
        return taken

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """What a connection's own thread does: all that comes before its association runs."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._starting[client_address[0]] -= 1
                self._starting += Counter()  # forgets who has none left

    def shutdown(self) -> None:
        """Stop listening; the stock one fails on a server made by ``AE.make_server``."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()
