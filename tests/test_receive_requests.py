"""Association requests as they come in the field: each is answered, or told, audited and counted once."""

import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import MalformedRequest
from dicom_node.receive.proposal import read
from dicom_node.receive.refusals import MALFORMED, NO_REQUEST, NO_TLS_HERE
from tests.attack import ABORT, ACCEPT, EXPLICIT, REJECT, US, item, pdu
from tests.conftest import RunningNode, start_node, wait_for
from tests.guarded import errors_into
from tests.turned_away import audited, counted

CONTEXT_NAME = b"1.2.840.10008.3.1.1.1"
LIMITS = "[receive.limits]\nrequest_seconds = 3.0\npdu_seconds = 1.0\nfree_mib = 0"


def context(number: int = 1, *sub_items: bytes) -> bytes:
    """A presentation context item; without sub-items, for ultrasound images."""
    sub_items = sub_items or (item(0x30, US.encode()), item(0x40, EXPLICIT.encode()))
    return item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + b"".join(sub_items))


LENGTH, CLASS_UID = item(0x51, struct.pack(">L", 16384)), item(0x52, b"1.2.3.4")
NAME = item(0x10, CONTEXT_NAME)


def user(*more: bytes, length: bytes = LENGTH) -> bytes:
    return item(0x50, length + CLASS_UID + b"".join(more))


def request(
    *items: bytes,
    calling: bytes = b"SCANNER".ljust(16),
    called: bytes = b"DICOM_NODE".ljust(16),
    version: int = 1,
) -> bytes:
    """An A-ASSOCIATE-RQ PDU; without items, a right one."""
    items = items or (NAME, context(), user())
    fixed = struct.pack(">HH16s16s32x", version, 0, called, calling)
    return pdu(1, fixed + b"".join(items))


@dataclass(frozen=True)
class Listening:
    """A receiver, and what it says of those it turned away."""

    node: RunningNode
    log: Path

    def ask(self, *sent: bytes, close: bool = False) -> tuple[int, bytes]:
        """Type and content of the answer; (0, b"") where the line was closed instead."""
        with socket.create_connection(("127.0.0.1", self.node.node.port), 20) as line:
            for each in sent:
                line.sendall(each)
            if close:
                line.shutdown(socket.SHUT_WR)
            header = line.recv(6, socket.MSG_WAITALL)
            if len(header) < 6:
                return 0, b""
            kind, length = struct.unpack(">BxL", header)
            content = line.recv(length, socket.MSG_WAITALL)
            if kind == ACCEPT:
                line.sendall(pdu(5, bytes(4)))
                assert line.recv(6, socket.MSG_WAITALL)[0] == 6
            return kind, content

    def told(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"].startswith("association ")]

    def turned_away(self, *sent: bytes, close: bool = False) -> tuple[int, bytes, str, str]:
        """Answer, reason and count of what must be told, audited and counted exactly once."""
        told, messages, counts = self.told(), audited(self.node), counted(self.node)
        kind, content = self.ask(*sent, close=close)
        (line,) = wait_for(lambda: self.told()[len(told) :], "a line")
        (message,) = wait_for(lambda: audited(self.node)[len(messages) :], "an audit message")
        assert line["peer"] == "127.0.0.1"
        assert 'NetworkAccessPointID="127.0.0.1"' in message
        ((count, number),) = (counted(self.node) - counts).items()
        assert number == 1
        return kind, content, line["reason"], count


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    folder = tmp_path_factory.mktemp("node")
    with errors_into(folder / "log"):
        started = start_node(folder, roles=("receive",), quiet_seconds=600.0, receive=LIMITS)
        node = started.__enter__()
    try:
        yield Listening(node, folder / "log")
    finally:
        started.__exit__(None, None, None)


def identity(kind: int, *fields: bytes) -> bytes:
    written = b"".join(struct.pack(">H", len(field)) + field for field in fields)
    return item(0x58, struct.pack(">BB", kind, 0) + written)


def role(uid: bytes, scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(uid)) + uid + bytes([scu, scp]))


COMMITMENT = b"1.2.840.10008.1.20.1"
TAKEN: dict[str, bytes] = {
    "as it should be": request(),
    "NUL padding": request(calling=b"SCANNER\0\0\0\0\0\0\0\0\0", called=b"DICOM_NODE\0\0\0\0\0\0"),
    "NUL, then what was in memory": request(calling=b"SCANNER\0\xfe\xff345678"),
    "leading spaces": request(calling=b"         SCANNER", called=b"      DICOM_NODE"),
    "other versions beside the first": request(version=3),
    "all reserved versions too": request(version=0xFFFF),
    "an unknown item": request(item(0x99, b"x" * 7), NAME, context(), user()),
    "an empty unknown item at the end": request(NAME, context(), user(), item(0x7F, b"")),
    "an unknown item of the user": request(NAME, context(), user(item(0x77, b"what"))),
    "an unknown item of a context": request(
        NAME,
        context(1, item(0x30, US.encode()), item(0x41, b"?"), item(0x40, EXPLICIT.encode())),
        user(),
    ),
    "a version name of 20 characters": request(NAME, context(), user(item(0x55, b"V" * 20))),
    "an empty version name": request(NAME, context(), user(item(0x55, b""))),
    "a version name in another script": request(NAME, context(), user(item(0x55, b"\xb0\xa1"))),
    "no implementation class": request(NAME, context(), item(0x50, LENGTH)),
    "an implementation class of 70": request(NAME, context(), user(item(0x52, b"1." + b"2" * 68))),
    "no user information": request(NAME, context()),
    "an empty user information": request(NAME, context(), item(0x50, b"")),
    "a length of two bytes": request(NAME, context(), user(length=item(0x51, b"\x40\0"))),
    "two lengths": request(NAME, context(), user(LENGTH)),
    "any length": request(NAME, context(), user(length=item(0x51, bytes(4)))),
    "items in another order": request(user(), context(), NAME),
    "two names of one context": request(NAME, NAME, context(), user()),
    "UIDs with padding": request(
        item(0x10, CONTEXT_NAME + b"\0"),
        context(1, item(0x30, US.encode() + b"\0"), item(0x40, EXPLICIT.encode() + b" ")),
        user(),
    ),
    "one context twice": request(NAME, context(), context(), user()),
    "padding behind the items": request(NAME, context(), user(), bytes(3)),
    "a role of neither": request(NAME, context(), user(role(COMMITMENT, 0, 0))),
    "a role of 2": request(NAME, context(), user(role(COMMITMENT, 2, 0))),
    "a role without a UID": request(NAME, context(), user(role(b"", 1, 1))),
    "a role that is cut": request(NAME, context(), user(item(0x54, b"\0\x14x"))),
    "an identity nobody asks for": request(NAME, context(), user(identity(2, b"us1", b"x"))),
    "an identity of type 9": request(NAME, context(), user(identity(9, b"us1", b""))),
    "an identity that is cut": request(NAME, context(), user(item(0x58, b"\x02\0\0\x09us"))),
    "an empty identity": request(NAME, context(), user(item(0x58, b""))),
    "asynchronous operations, odd": request(NAME, context(), user(item(0x53, b"\0\0\0"))),
    "extended negotiation, cut": request(NAME, context(), user(item(0x56, b"\0\xff1.2"))),
    "common extended, cut": request(NAME, context(), user(item(0x57, b"\0\xff1.2"))),
    "128 contexts": request(NAME, *(context(number) for number in range(1, 256, 2)), user()),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_standard_lets_pass_is_accepted(receiver: Listening, name: str) -> None:
    before = counted(receiver.node)
    kind, content = receiver.ask(TAKEN[name])
    assert kind == ACCEPT
    assert _results(content)[1] == 0
    assert counted(receiver.node) == before


def _results(content: bytes) -> dict[int, int]:
    """The answer to each presentation context, PS3.8 table 9-18."""
    at, found = 68, {}
    while at < len(content):
        kind, length = struct.unpack_from(">BxH", content, at)
        if kind == 0x21:
            found[content[at + 4]] = content[at + 6]
        at += 4 + length
    return found


def test_a_context_that_says_nothing_usable_is_rejected_alone(receiver: Listening) -> None:
    abstract, syntax = item(0x30, US.encode()), item(0x40, EXPLICIT.encode())
    odd = {
        3: (syntax,),
        5: (item(0x30, b""), syntax),
        7: (item(0x30, b"1.2." + b"3" * 70), syntax),
        9: (item(0x30, b"1..2"), syntax),
        11: (item(0x30, b"\xff\xfe"), syntax),
        13: (abstract, item(0x30, b"1.2.3"), syntax),
        15: (abstract,),
        17: (abstract, item(0x40, b"")),
        19: (abstract, item(0x40, b"JPEG")),
        21: (abstract, item(0x40, b"JPEG"), syntax),
        23: (item(0x7F, b"?"),),
    }
    contexts = (context(number, *items) for number, items in odd.items())
    kind, content = receiver.ask(request(NAME, context(), *contexts, user()))
    assert kind == ACCEPT
    expected = {1: 0, **dict.fromkeys((3, 5, 7, 9, 11, 13, 23), 3)}
    assert _results(content) == expected | {15: 4, 17: 4, 19: 4, 21: 0}


def test_roles_are_answered(receiver: Listening) -> None:
    """PS3.7 section D.3.3.4: who proposes neither role has its context rejected, not its association."""
    asked = context(3, item(0x30, COMMITMENT), item(0x40, EXPLICIT.encode()))
    for roles, result in (((1, 0), 0), ((1, 1), 0), ((0, 1), 0), ((0, 0), 1)):
        kind, content = receiver.ask(
            request(NAME, context(), asked, user(role(COMMITMENT, *roles)))
        )
        assert (kind, _results(content)) == (ACCEPT, {1: 0, 3: result}), roles
        assert (role(COMMITMENT, *roles) in content) == (result == 0), roles


REJECTED: dict[str, tuple[bytes, tuple[int, int, int], str]] = {
    "blank calling AE": (request(calling=b" " * 16), (1, 1, 3), "calling AE title is blank"),
    "calling AE of NUL": (request(calling=bytes(16)), (1, 1, 3), "calling AE title is blank"),
    "calling AE in Korean": (
        request(calling="초음파".encode("euc-kr").ljust(16)),
        (1, 1, 3),
        r"calling AE title is \xc3\xca",
    ),
    "a control character": (request(calling=b"US\x07".ljust(16)), (1, 1, 3), r"US\x07"),
    "a backslash": (request(calling=b"US\\1".ljust(16)), (1, 1, 3), r"is US\1;"),
    "blank called AE": (request(called=b" " * 16), (1, 1, 7), "called AE title is blank"),
    "another called AE": (request(called=b"OTHER".ljust(16)), (1, 1, 7), "Called AE title"),
    "another protocol": (request(version=2), (1, 2, 2), "versions 0x0002"),
    "no protocol": (request(version=0), (1, 2, 2), "versions 0x0000"),
    "another context name": (
        request(item(0x10, b"1.2.840.10008.3.1.1.2"), context(), user()),
        (1, 1, 2),
        "application context is 1.2.840.10008.3.1.1.2",
    ),
    "an empty context name": (request(item(0x10, b""), context(), user()), (1, 1, 2), "no UID"),
    "no context name": (request(context(), user()), (1, 1, 2), "missing"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_rejected_says_why(receiver: Listening, name: str) -> None:
    sent, answer, words = REJECTED[name]
    kind, content, reason, count = receiver.turned_away(sent)
    assert (kind, tuple(content[1:])) == (REJECT, answer)
    assert words in reason
    assert count not in (MALFORMED, NO_REQUEST)


ABORTED: dict[str, tuple[bytes, str]] = {
    "no contexts": (request(NAME, user()), "no presentation context"),
    "an even number": (request(NAME, context(2), user()), "context 2 must have an odd number"),
    "the number 0": (request(NAME, context(0), user()), "context 0 must have an odd number"),
    "one number twice": (
        request(NAME, context(), context(1, item(0x30, b"1.2.3")), user()),
        "two presentation contexts have the number 1",
    ),
    "more than 128": (
        request(NAME, *(context(number % 256) for number in range(1, 261, 2)), context(256 % 256)),
        "must have an odd number",
    ),
    "a context of two bytes": (request(NAME, item(0x20, b"\1\0"), user()), "no room"),
    "an item that runs on": (request(NAME, context(), user()[:-3]), "0x50 in the request says 19"),
    "a sub-item that runs on": (
        request(NAME, context(1, struct.pack(">BBH", 0x30, 0, 99) + b"1.2"), user()),
        "0x30 in presentation context 1 says 99",
    ),
    "a user item that runs on": (
        request(NAME, context(), user(struct.pack(">BBH", 0x55, 0, 99))),
        "0x55 in the user information says 99",
    ),
    "half an item at the end": (request(NAME, context(), user(), b"\x50\0"), "within an item"),
    "a length of 7": (
        request(NAME, context(), user(length=item(0x51, b"\0\0\0\7"))),
        "PDUs of 7 bytes",
    ),
    "fixed fields cut": (pdu(1, request()[6:60]), "fixed fields alone"),
    "nothing at all": (pdu(1, b""), "it has 6 bytes"),
}


@pytest.mark.parametrize("name", ABORTED)
def test_what_cannot_be_decoded_is_aborted_with_a_line(receiver: Listening, name: str) -> None:
    sent, words = ABORTED[name]
    kind, _, reason, count = receiver.turned_away(sent)
    assert (kind, count) == (ABORT, MALFORMED)
    assert words in reason


def test_what_is_no_request_is_told_as_what_it_is(receiver: Listening) -> None:
    hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(194)
    assert receiver.turned_away(hello)[2:] == (
        "it speaks TLS, and this node does not",
        NO_TLS_HERE,
    )
    assert "[tls]" in receiver.told()[-1]["what"]
    web = receiver.turned_away(b"POST /studies HTTP/1.1\r\nHost: x\r\n\r\n")
    assert web[2:] == ("it speaks HTTP on the DICOM port", NO_REQUEST)
    for kind in (2, 3, 4, 5, 6, 0, 8, 0xFF):
        *_, reason, count = receiver.turned_away(pdu(kind, bytes(4)))
        assert (count, f"0x{kind:02X}" in reason) == (NO_REQUEST, True)
    assert receiver.turned_away(pdu(7, bytes(4)))[3] == NO_REQUEST


def test_what_does_not_come_whole_is_told(receiver: Listening) -> None:
    sent = request()
    for part, close, words in (
        (sent[:3], True, "closed after 3 bytes"),
        (sent[:100], True, f"closed after 94 of {len(sent) - 6} bytes"),
        (sent[:3], False, "not completed in time"),
        (sent[:100], False, "not completed in time"),
        (b"\1\0\xff\xff\xff\xff", False, "PDU of 4294967295 bytes refused"),
    ):
        kind, _, reason, count = receiver.turned_away(part, close=close)
        assert (kind, count) == (0, MALFORMED)
        assert words in reason


def test_a_probe_of_the_port_says_nothing(receiver: Listening) -> None:
    before = receiver.log.read_text(), counted(receiver.node), len(audited(receiver.node))
    assert receiver.ask(close=True) == (0, b"")
    time.sleep(0.3)
    assert (receiver.log.read_text(), counted(receiver.node), len(audited(receiver.node))) == before


def test_what_was_mended_is_told_once_where_it_was(receiver: Listening) -> None:
    before = len(receiver.told())
    receiver.ask(
        request(NAME, context(), context(3, item(0x30, b"x")), calling=b"MENDED\0".ljust(16))
    )
    lines = receiver.told()[before:]
    (line,) = [line for line in lines if line["event"] == "association request mended"]
    assert (line["calling_ae"], line["peer"]) == ("MENDED", "127.0.0.1")
    assert "presentation context 3 has no abstract syntax" in line["what"]


def test_nothing_is_raised_that_is_not_a_reason() -> None:
    """Random damage to a request that has everything; a fault here would vanish without a line."""
    whole = request(
        NAME,
        context(),
        context(3, item(0x30, COMMITMENT), item(0x40, EXPLICIT.encode())),
        user(role(COMMITMENT, 1, 1), identity(2, b"us1", b"x"), item(0x55, b"NAME")),
    )
    chance = random.Random(13)
    read_well = 0
    for _ in range(3000):
        sent = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(6, len(sent))
            sent[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        try:
            read_well += read(bytes(sent)).refusal is None
        except MalformedRequest:
            continue
    assert read_well > 300


def test_damaged_requests_are_all_answered(receiver: Listening) -> None:
    """Over a real connection: what is read has an answer, whatever pynetdicom makes of it."""
    chance, whole = random.Random(14), request(NAME, context(), user(role(COMMITMENT, 1, 1)))
    heard: Counter[int] = Counter()
    before = len(receiver.told())
    for _ in range(60):
        sent = bytearray(whole)
        for _ in range(2):
            sent[chance.randrange(6, len(sent))] = chance.choice((0, 1, 9, 0x20, 0x50, 0xFF))
        heard[receiver.ask(bytes(sent))[0]] += 1
    assert set(heard) <= {ACCEPT, REJECT, ABORT}

    def told() -> int:
        lines = receiver.told()[before:]
        return sum(line["event"] != "association request mended" for line in lines)

    wait_for(lambda: told() == heard[REJECT] + heard[ABORT], "a line for each")
