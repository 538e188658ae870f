"""What hostile, broken and unlucky senders do to the receiver, printed as a table: ``make attack``.

Each attack comes from 127.0.0.2 while a client at 127.0.0.1 asks C-ECHO again and again. Afterwards the
receiver must hold as many threads, connections and unfinished files as before.
"""

import contextlib
import itertools
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dicom_node.deliver import echo
from dicom_node.errors import DeliveryError
from tests.conftest import RunningNode, start_node, wait_for

LIMITS = """
[receive.limits]
request_seconds = 3.0
pdu_seconds = 3.0
idle_seconds = 6.0
send_seconds = 3.0
free_mib = 0
"""
"""Shorter than the defaults, so that attacks end sooner; the numbers of associations are the defaults."""

US, EXPLICIT = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.1.2.1"
ACCEPT, REJECT, ABORT, DATA = 2, 3, 7, 4
NAMES = {ACCEPT: "accepted", REJECT: "rejected", ABORT: "aborted", DATA: "answered", 0: "closed"}


def item(kind: int, content: bytes) -> bytes:
    """One item of an A-ASSOCIATE-RQ PDU, PS3.8 section 9.3.2."""
    return struct.pack(">BBH", kind, 0, len(content)) + content


def pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(content)) + content


def request(called: str = "DICOM_NODE") -> bytes:
    """An A-ASSOCIATE-RQ PDU for ultrasound images."""
    context = item(0x30, US.encode()) + item(0x40, EXPLICIT.encode())
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4")
    content = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), b"ATTACKER".ljust(16))
    content += item(0x10, b"1.2.840.10008.3.1.1.1")
    content += item(0x20, struct.pack(">BBBB", 1, 0, 0, 0) + context) + item(0x50, user)
    return pdu(1, content)


def element(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", group, number, len(value)) + value


def store(sop_uid: str, sop_class: str = US, has_data: bool = True) -> bytes:
    """A C-STORE command as a P-DATA-TF PDU; a UID that is "" is left out."""
    body = b""
    if sop_class:
        body += element(0, 0x0002, sop_class.encode() + b"\0" * (len(sop_class) % 2))
    body += element(0, 0x0100, struct.pack("<H", 1)) + element(0, 0x0110, struct.pack("<H", 1))
    body += element(0, 0x0700, struct.pack("<H", 0))
    body += element(0, 0x0800, struct.pack("<H", 1 if has_data else 0x0101))
    if sop_uid:
        body += element(0, 0x1000, sop_uid.encode() + b"\0" * (len(sop_uid) % 2))
    return data(element(0, 0, struct.pack("<L", len(body))) + body, 3)


def data(fragment: bytes, control: int) -> bytes:
    return pdu(4, struct.pack(">LBB", len(fragment) + 2, 1, control) + fragment)


@dataclass
class Target:
    """The receiver under attack, and the lines to it that stay open until the attack is over."""

    node: RunningNode
    source: str = "127.0.0.2"
    lines: list[socket.socket] = field(default_factory=list)

    def connect(self, *sent: bytes) -> socket.socket:
        address = ("127.0.0.1", self.node.node.port)
        line = socket.create_connection(address, 20, source_address=(self.source, 0))
        self.lines.append(line)
        push(line, *sent)
        return line

    def associate(self) -> socket.socket:
        line = self.connect(request())
        assert answer(line) == ACCEPT
        return line

    def close(self) -> None:
        for line in self.lines:
            line.close()
        self.lines.clear()


def push(line: socket.socket, *sent: bytes) -> None:
    """Send, unless the receiver has closed the line."""
    with contextlib.suppress(OSError):
        for each in sent:
            line.sendall(each)


def answer(line: socket.socket) -> int:
    """The type of the next PDU, which is read whole; 0 when the line was closed instead."""
    try:
        header = line.recv(6, socket.MSG_WAITALL)
        if len(header) < 6:
            return 0
        kind, length = struct.unpack(">BxL", header)
        line.recv(length, socket.MSG_WAITALL)
    except TimeoutError:
        raise
    except OSError:
        return 0
    return int(kind)


def told(lines: list[socket.socket]) -> str:
    """What all the lines heard, counted."""
    kinds = sorted(answer(line) for line in lines)
    return ", ".join(
        f"{len(list(group))} {NAMES[kind]}" for kind, group in itertools.groupby(kinds)
    )


def garbage(target: Target) -> str:
    return told([target.connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(30)])


def silent(target: Target) -> str:
    return told([target.connect() for _ in range(30)])


def held(target: Target) -> str:
    return told([target.connect(b"\x01\x00\x00") for _ in range(12)])


def dripping(target: Target) -> str:
    line = target.connect()
    with contextlib.suppress(OSError):
        for byte in request():
            line.sendall(bytes([byte]))
            time.sleep(0.1)
    return told([line])


def stalled(target: Target) -> str:
    lines = [target.associate() for _ in range(10)]
    for number, line in enumerate(lines):
        push(line, store(f"1.2.3.{number}") + data(bytes(50_000), 0))
        push(line, data(bytes(50_000), 0)[:20_000])
    return told(lines)


def idle(target: Target) -> str:
    return told([target.associate() for _ in range(10)])


def giant(target: Target) -> str:
    length = struct.pack(">BBL", 1, 0, 0xFFFFFFFF)
    lines = [target.connect(length + bytes(100)) for _ in range(5)]
    for _ in range(5):
        lines.append(target.associate())
        push(lines[-1], struct.pack(">BBL", 4, 0, 0xFFFFFFFF) + bytes(100))
    return told(lines)


def storm(target: Target) -> str:
    return told([target.connect(request()) for _ in range(200)])


def reset(target: Target) -> str:
    for number in range(20):
        line = target.associate()
        push(line, store(f"1.2.4.{number}") + data(bytes(100_000), 0))
        if number % 2:
            push(line, pdu(ABORT, bytes(4)))
        else:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.close()
    return "10 aborted, 10 reset by us"


def pipelined(target: Target) -> str:
    sent = request() + store("1.2.3") + data(bytes(1000), 2)
    return told([target.connect(sent) for _ in range(20)])


def deaf(target: Target) -> str:
    """Asks and asks, and never reads an answer."""
    line = target.associate()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    line.settimeout(15)
    with contextlib.suppress(OSError):
        for _ in range(200_000):
            line.sendall(store("not a UID", has_data=False) * 50)
    return "cut off"


def lying(target: Target) -> str:
    long = "1." + "2" * 70
    uids = ("", "../../../tmp/x", "/etc/passwd", long, "1.2\0/../x")
    lines = [target.associate() for _ in range(len(uids) + 1)]
    for line, uid in zip(lines, uids, strict=False):
        push(line, store(uid) + data(bytes(1000), 2))
    push(lines[-1], store("1.2.3", has_data=False))
    return told(lines)


def lingering(target: Target) -> str:
    """Releases in order, and does not close."""
    lines = [target.associate() for _ in range(10)]
    for line in lines:
        push(line, pdu(5, bytes(4)))
    return f"{sum(answer(line) == 6 for line in lines)} released"


ATTACKS: dict[str, Callable[[Target], str]] = {
    "30 x HTTP": garbage,
    "30 silent connections": silent,
    "12 x 3 bytes, then held": held,
    "a request byte by byte": dripping,
    "10 stalls within P-DATA": stalled,
    "10 idle associations": idle,
    "10 x PDU length 0xFFFFFFFF": giant,
    "200 associations at once": storm,
    "20 cut off within an instance": reset,
    "20 x P-DATA before the answer": pipelined,
    "answers never read": deaf,
    "UIDs that are none, no data set": lying,
    "10 released and not closed": lingering,
}


@dataclass(frozen=True)
class Holding:
    """What a process holds that an attack may leave behind; resident memory in MB."""

    threads: int
    connections: int
    bells: int
    files: int
    resident: float


def holding(node: RunningNode) -> Holding:
    pid = node.node.pid("receive")
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            targets.append(os.readlink(link))
    status = Path(f"/proc/{pid}/status").read_text()
    return Holding(
        int(status.split("Threads:")[1].split()[0]),
        sum(each.startswith("socket:") for each in targets),
        sum("eventfd" in each for each in targets),
        sum("/incoming/" in each for each in targets)
        + len(list((node.data / "incoming").iterdir())),
        int(status.split("VmRSS:")[1].split()[0]) / 1e3,
    )


class Echoes:
    """Asks C-ECHO until the end; how long each took, and how often it failed."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self._over = threading.Event()
        self.seconds: list[float] = []
        self.failures = 0

    def _run(self) -> None:
        while not self._over.wait(0.05):
            start = time.monotonic()
            try:
                echo(self._node.destination, "BYSTANDER")
            except DeliveryError:
                self.failures += 1
            self.seconds.append(time.monotonic() - start)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


@dataclass(frozen=True)
class Outcome:
    """What an attack heard, what the bystander did, and how long the receiver took to be as before."""

    heard: str
    slowest: float
    failures: int
    cured: float
    resident: float


def attack(node: RunningNode, run: Callable[[Target], str]) -> Outcome:
    """One attack, the lines held open until what it took is given back or 30 s have passed."""
    before, target, echoes = holding(node), Target(node), Echoes(node)
    with echoes.running():
        heard = run(target)
        held = time.monotonic()

        def is_cured() -> bool:
            now = holding(node)
            # The bystander's own association may be open at this moment.
            return (
                now.threads <= before.threads + 3
                and now.connections <= before.connections + 1
                and now.bells <= before.bells + 1
                and now.files == 0
            )

        wait_for(is_cured, f"the receiver to be as before: {before}, {holding(node)}", 30)
        cured = time.monotonic() - held
    target.close()
    return Outcome(
        heard, max(echoes.seconds), echoes.failures, cured, holding(node).resident - before.resident
    )


def main() -> None:
    table = Table(
        "attack", "heard", "slowest C-ECHO s", "C-ECHO failed", "cured after s", "RSS + MB"
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        start_node(Path(folder), roles=("receive",), receive=LIMITS) as node,
    ):
        with Echoes(node).running():
            time.sleep(1)
        for name, run in ATTACKS.items():
            done = attack(node, run)
            table.add_row(
                name,
                done.heard,
                f"{done.slowest:.2f}",
                str(done.failures),
                f"{done.cured:.1f}",
                f"{done.resident:+.1f}",
            )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
