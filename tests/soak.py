"""Thousands of associations of every kind against one receiver: does it keep anything of them? ``make soak``.

``python -m tests.soak [--associations N]`` sends over TLS, from several processes: C-ECHO, small C-STORE,
aborts and resets in the middle of an instance, TLS handshakes that are begun and left, and callers that are
turned away. Prints resident memory, threads and descriptors at every tenth, each when all lines are closed,
and exits with 1 when threads or descriptors stay, or memory goes on growing over the last half.
"""

import argparse
import contextlib
import multiprocessing
import os
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, linear_regression

from pydicom.uid import generate_uid
from rich.console import Console
from rich.table import Table

from tests.attack import (
    ABORT,
    ACCEPT,
    EXPLICIT,
    REJECT,
    US,
    data,
    element,
    holding,
    item,
    pdu,
    store,
)
from tests.certificates import Authority
from tests.conftest import RunningNode, start_node, wait_for

SENDERS, POINTS = 4, 40
VERIFICATION, RELEASE = "1.2.840.10008.1.1", 5
KINDS = ("store", "echo", "store", "abort", "reset", "handshake", "rejected", "echo")
"""In turn; what makes a receiver remember most comes most often."""

PIXELS = bytes(2000)
MOST_KB_PER_THOUSAND = 100.0
"""Growth that counts as one; while each thread had a heap of its own it was more. A thread's remains would
be 1,000 and more."""

SETTLE_SECONDS = 3.0
FIRST_FRACTION = 0.5
"""Of the points, those that are left out: pools and caches fill."""


@dataclass(frozen=True)
class Seen:
    """What the receiver held after so many associations."""

    associations: int
    resident_kb: float
    threads: int
    descriptors: int


def request(calling: str = "SCANNER") -> bytes:
    """An A-ASSOCIATE-RQ PDU for C-ECHO (context 1) and ultrasound images (context 3)."""
    contexts = b"".join(
        item(0x20, struct.pack(">BBBB", n, 0, 0, 0) + item(0x30, uid.encode()) + item(0x40, syntax))
        for n, uid, syntax in (
            (1, VERIFICATION, b"1.2.840.10008.1.2"),
            (3, US, EXPLICIT.encode()),
        )
    )
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4")
    content = struct.pack(">HH16s16s32x", 1, 0, b"DICOM_NODE".ljust(16), calling.ljust(16).encode())
    content += item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + item(0x50, user)
    return pdu(1, content)


def on_context(sent: bytes, number: int) -> bytes:
    """A P-DATA-TF PDU of ``tests.attack``, on another presentation context."""
    return sent[:10] + bytes([number]) + sent[11:]


def echo() -> bytes:
    """C-ECHO-RQ, PS3.7 section 9.3.5.1."""
    uid = VERIFICATION.encode() + b"\0"
    body = element(0, 2, uid) + element(0, 0x0100, struct.pack("<H", 0x30))
    body += element(0, 0x0110, struct.pack("<H", 1)) + element(0, 0x0800, struct.pack("<H", 0x101))
    return data(element(0, 0, struct.pack("<L", len(body))) + body, 3)


def image(sop_uid: str, study_uid: str) -> bytes:
    """A data set in explicit VR little endian; of a study, so that the receiver remembers both."""

    def short(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += (b" ", b"\0")[vr == b"UI"] * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, len(PIXELS)) + PIXELS
    return (
        short(8, 0x16, b"UI", US.encode())
        + short(8, 0x18, b"UI", sop_uid.encode())
        + short(0x10, 0x20, b"LO", b"SOAK")
        + short(0x20, 0x0D, b"UI", study_uid.encode())
        + pixels
    )


class Sender:
    """One process: so many associations, one after the other; counts what came of each."""

    def __init__(self, port: int, ca: Path, number: int) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca))
        self._study = str(generate_uid(prefix=None))
        self._sent = number
        self.heard: Counter[str] = Counter()

    def run(self, count: int) -> None:
        for _ in range(count):
            self._sent += 1
            kind = KINDS[self._sent % len(KINDS)]
            if not self._sent % 50:
                self._study = str(generate_uid(prefix=None))
            try:
                self.heard[f"{kind} {getattr(self, f'_{kind}')()}"] += 1
            except OSError as error:
                self.heard[f"{kind} {type(error).__name__}"] += 1

    def _connect(self, calling: str = "SCANNER") -> tuple[ssl.SSLSocket, int]:
        raw = socket.create_connection(("127.0.0.1", self._port), 30)
        line = self._context.wrap_socket(raw, server_hostname="127.0.0.1")
        line.sendall(request(calling))
        return line, hear(line)[0]

    def _end(self, line: ssl.SSLSocket) -> str:
        line.sendall(pdu(RELEASE, bytes(4)))
        said, _ = hear(line)
        line.close()
        return "released" if said == RELEASE + 1 else f"PDU {said}"

    def _echo(self) -> str:
        line, _ = self._connect()
        line.sendall(echo())
        hear(line)
        return self._end(line)

    def _store(self) -> str:
        line, _ = self._connect()
        uid = str(generate_uid(prefix=None))
        line.sendall(on_context(store(uid), 3) + on_context(data(image(uid, self._study), 2), 3))
        _, told = hear(line)
        status = int.from_bytes(told.split(struct.pack("<HHL", 0, 0x0900, 2))[1][:2], "little")
        return f"0x{status:04X} {self._end(line)}"

    def _begin(self) -> ssl.SSLSocket:
        line, _ = self._connect()
        line.sendall(on_context(store(str(generate_uid(prefix=None))), 3))
        line.sendall(on_context(data(bytes(9000), 0), 3))
        return line

    def _abort(self) -> str:
        line = self._begin()
        line.sendall(pdu(ABORT, bytes(4)))
        line.close()
        return "sent"

    def _reset(self) -> str:
        line = self._begin()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.close()
        return "sent"

    def _handshake(self) -> str:
        """The first bytes of a ClientHello, and then the end; every other one without a word of it."""
        line = socket.create_connection(("127.0.0.1", self._port), 30)
        line.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01")
        if self._sent % 2:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.close()
        return "left"

    def _rejected(self) -> str:
        line, said = self._connect("STRANGER")
        line.close()
        return "rejected" if said == REJECT else f"PDU {said}, not {ACCEPT}"


def hear(line: ssl.SSLSocket) -> tuple[int, bytes]:
    """The type and the content of the next PDU; 0 where the line was closed instead."""

    def whole(count: int) -> bytes:
        got = b""
        while len(got) < count and (more := line.recv(count - len(got))):
            got += more
        return got

    header = whole(6)
    if len(header) < 6:
        return 0, b""
    kind, length = struct.unpack(">BxL", header)
    return kind, whole(length)


def _work(port: int, ca: Path, number: int, line: "multiprocessing.connection.Connection") -> None:
    sender = Sender(port, ca, number)
    with contextlib.suppress(EOFError):
        while True:
            sender.run(line.recv())
            line.send(sender.heard)


def seen(node: RunningNode, associations: int, idle_threads: int) -> Seen:
    """When all lines are closed; after some seconds as it is."""
    pid = node.node.pid("receive")
    with contextlib.suppress(AssertionError):
        wait_for(
            lambda: holding(node).threads <= idle_threads, "the threads to end", SETTLE_SECONDS
        )
    count = len(os.listdir(f"/proc/{pid}/fd"))
    now = holding(node)
    return Seen(associations, now.resident * 1000, now.threads, count)


def soak(node: RunningNode, ca: Path, associations: int) -> tuple[list[Seen], Counter[str]]:
    """What the receiver held at each point, and what the senders heard."""
    context = multiprocessing.get_context("spawn")
    lines, heard = [], Counter[str]()
    for number in range(SENDERS):
        mine, theirs = context.Pipe()
        of = (node.node.port, ca, number * 1_000_003, theirs)
        context.Process(target=_work, args=of, daemon=True).start()
        lines.append(mine)
    _let_send(lines, len(KINDS))  # what is made once, at the first of each kind, is made
    points = [seen(node, 0, 0)]
    each = max(1, associations // POINTS // SENDERS)
    for point in range(1, POINTS + 1):
        heard = _let_send(lines, each)
        points.append(seen(node, point * each * SENDERS, points[0].threads))
    return points, heard


def _let_send(lines: "list[multiprocessing.connection.Connection]", each: int) -> Counter[str]:
    """So many associations from each sender; what they have heard so far."""
    for line in lines:
        line.send(each)
    return sum((line.recv() for line in lines), Counter())


def slope(points: list[Seen]) -> tuple[float, float]:
    """kB per 1,000 associations over the last half, and its standard error."""
    last = points[int(len(points) * FIRST_FRACTION) :]
    x = [each.associations / 1000 for each in last]
    y = [each.resident_kb for each in last]
    found = linear_regression(x, y)
    rest = [b - found.slope * a - found.intercept for a, b in zip(x, y, strict=True)]
    spread = sum((a - fmean(x)) ** 2 for a in x)
    error = (sum(each**2 for each in rest) / max(len(x) - 2, 1) / spread) ** 0.5
    return found.slope, error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--associations", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        authority = Authority(folder / "certificates")
        more = f"[tls]\n{authority.issue('node').toml}\nclient_certificates = false\n"
        more += '[access]\ncallers = [{ ae_title = "SCANNER" }]\n'
        limits = "[receive.limits]\nfree_mib = 0"
        with start_node(
            folder, roles=("receive",), quiet_seconds=3600.0, receive=limits, more=more
        ) as node:
            began = time.monotonic()
            points, heard = soak(node, authority.path, arguments.associations)
            seconds = time.monotonic() - began
            taken = node.rows("select count(*) from instances")[0][0]
    table = Table("associations", "RSS MB", "threads", "descriptors")
    for each in points[:: POINTS // 10]:
        row = (each.associations, f"{each.resident_kb / 1000:.1f}", each.threads, each.descriptors)
        table.add_row(*map(str, row))
    console = Console(width=110)
    console.print(table)
    for what, count in sorted(heard.items()):
        console.print(f"{count:6} {what}")
    growth, error = slope(points)
    last, middle = points[-1], len(points) // 2
    grows = growth - 2 * error > MOST_KB_PER_THOUSAND
    # Connections of the database's pool come and go: what stays is more than there ever was before.
    stay = any(
        min(getattr(each, what) for each in points[middle:])
        > max(getattr(each, what) for each in points[:middle])
        for what in ("threads", "descriptors")
    )
    acknowledged = sum(count for what, count in heard.items() if what.startswith("store 0x0000"))
    lost = taken < acknowledged
    console.print(
        f"{last.associations} associations in {seconds:.0f} s; over the last half RSS grows by "
        f"{growth:.0f} ± {error:.0f} kB per 1,000; {acknowledged} acknowledged, {taken} in the index"
    )
    words = {"memory grows": grows, "threads or descriptors stay": stay, "instances lost": lost}
    bad = [word for word, is_so in words.items() if is_so]
    console.print(", ".join(bad) or "nothing is kept of them")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
