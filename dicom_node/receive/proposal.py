"""An A-ASSOCIATE-RQ as PS3.8 sections 9.3.1 and 9.3.2 have it read, before pynetdicom sees it.

pynetdicom 3.0.4 drops without a word what it cannot decode, and cannot decode much that the standard lets
pass: items it does not know, other versions of the protocol beside the first, a name that is too long. Here
only what an acceptor needs is read; what is wrong beside it is noted, and the rest taken.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext

from dicom_node.access.rules import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    PERMANENT,
    SERVICE_PROVIDER,
    SERVICE_USER,
    VERSION_NOT_SUPPORTED,
    Refusal,
)
from dicom_node.errors import MalformedRequest
from dicom_node.receive.store import is_uid

FIXED_BYTES = 74
"""Up to the variable items, PS3.8 table 9-11; the PDU's own header included."""

APPLICATION_CONTEXT, PRESENTATION_CONTEXT, USER_INFORMATION = 0x10, 0x20, 0x50
ABSTRACT_SYNTAX, TRANSFER_SYNTAX = 0x30, 0x40
MAXIMUM_LENGTH, ROLE_SELECTION, USER_IDENTITY = 0x51, 0x54, 0x58
"""Types of items and sub-items, PS3.8 section 9.3.2 and PS3.7 annex D.3.3."""

DICOM_CONTEXT = "1.2.840.10008.3.1.1.1"
"""The application context name of DICOM, PS3.7 annex A.2.1."""

UNUSABLE = "0.0"
"""Stands for a UID that is missing or none: nobody supports it, so that its context alone is rejected."""

UNNAMED = "-"
"""Stands for an AE title that is rejected, which pynetdicom would not carry."""

DEFAULT_LENGTH, LEAST_LENGTH = 16384, 8
"""Bytes of a PDU: where the requestor does not say; and what a fragment of two bytes takes."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A request as pynetdicom is to carry it on; PS3.8 section 7.1.1.

    ``calling_ae`` as it is shown; ``refusal``: why it must be rejected; ``mended``: what was wrong and does
    not matter.
    """

    primitive: A_ASSOCIATE
    calling_ae: str
    refusal: Refusal | None
    mended: tuple[str, ...]


def read(pdu: bytes) -> Proposal:
    """Read a whole A-ASSOCIATE-RQ PDU. Raises MalformedRequest: there is nothing that could be answered."""
    if len(pdu) < FIXED_BYTES:
        raise MalformedRequest(f"it has {len(pdu)} bytes; its fixed fields alone are {FIXED_BYTES}")
    mended: list[str] = []
    names: list[str] = []
    contexts: dict[int, bytes] = {}
    user: list[tuple[int, bytes]] = []
    for kind, content in _items(pdu[FIXED_BYTES:], "the request"):
        if kind == APPLICATION_CONTEXT:
            names.append(_uid(content))
        elif kind == PRESENTATION_CONTEXT:
            _add_context(content, contexts, mended)
        elif kind == USER_INFORMATION:
            user += _items(content, "the user information")
    if not contexts:
        raise MalformedRequest("it proposes no presentation context")
    called, calling = _title(pdu[10:26]), _title(pdu[26:42])
    primitive = A_ASSOCIATE()
    primitive.called_ae_title = called if _is_title(called) else UNNAMED
    primitive.calling_ae_title = calling if _is_title(calling) else UNNAMED
    primitive.application_context_name = DICOM_CONTEXT  # type: ignore[assignment]
    primitive.presentation_context_definition_list = [
        _context(number, content, mended) for number, content in contexts.items()
    ]
    primitive.user_information = _user_information(user, mended)
    (version,) = struct.unpack_from(">H", pdu, 6)
    refusal = _refusal(version, names, called, calling)
    return Proposal(primitive, calling, refusal, tuple(mended))


def _items(data: bytes, where: str) -> Iterator[tuple[int, bytes]]:
    """Types and contents. Types that are not known are for the caller to skip, PS3.8 section 9.3.1."""
    at = 0
    while len(data) - at >= 4:
        kind, length = struct.unpack_from(">BxH", data, at)
        at += 4
        if length > len(data) - at:
            what = f"an item of type 0x{kind:02X} in {where} says {length} bytes"
            raise MalformedRequest(f"{what}, and {len(data) - at} are left")
        yield kind, data[at : at + length]
        at += length
    if any(data[at:]):
        raise MalformedRequest(f"{where} ends within an item")


def _title(field: bytes) -> str:
    """An AE title without its padding: spaces by the standard, NUL by many programs written in C.

    What is not ASCII is shown escaped, which makes it longer than a title may be.
    """
    text = field.lstrip(b" \0").partition(b"\0")[0].strip(b" ")
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in text)


def _is_title(title: str) -> bool:
    return bool(title) and "\\" not in title


def _uid(content: bytes) -> str:
    """A UID without padding, which must not be there; "" where it is none."""
    text = content.strip(b" \0").decode("latin-1")
    return text if is_uid(text) else ""


def _add_context(content: bytes, contexts: dict[int, bytes], mended: list[str]) -> None:
    """Raises MalformedRequest where an answer could not say which context it is about."""
    if len(content) < 4:
        raise MalformedRequest("a presentation context has no room for its number")
    number = content[0]
    if number % 2 == 0:
        raise MalformedRequest(f"presentation context {number} must have an odd number")
    if contexts.setdefault(number, content) is not content:
        if contexts[number] != content:
            raise MalformedRequest(f"two presentation contexts have the number {number}")
        mended.append(f"presentation context {number} is proposed twice")


def _context(number: int, content: bytes, mended: list[str]) -> PresentationContext:
    """One that proposes nothing usable is proposed all the same, for its number must be answered."""
    where = f"presentation context {number}"
    items = list(_items(content[4:], where))
    abstract = {_uid(uid) for kind, uid in items if kind == ABSTRACT_SYNTAX}
    syntaxes = [_uid(uid) for kind, uid in items if kind == TRANSFER_SYNTAX]
    if len(abstract) != 1 or "" in abstract:
        mended.append(f"{where} has no abstract syntax, several, or one that is no UID")
        abstract = {UNUSABLE}
    if not syntaxes or "" in syntaxes:
        mended.append(f"{where} has no transfer syntax, or one that is no UID")
        syntaxes = list(filter(None, syntaxes)) or [UNUSABLE]
    context = PresentationContext()
    context.context_id = number
    context.abstract_syntax = abstract.pop()  # type: ignore[assignment]
    context.transfer_syntax = syntaxes  # type: ignore[assignment]
    return context


def _user_information(items: Sequence[tuple[int, bytes]], mended: list[str]) -> list[Any]:
    """What an acceptor without extended negotiation looks at, PS3.8 annex D.1 and PS3.7 annex D.3.3."""
    length = MaximumLengthNotification()
    length.maximum_length_received = _maximum_length(items, mended)
    found: list[Any] = [length]
    identities = [content for kind, content in items if kind == USER_IDENTITY]
    identity = _identity(identities[0]) if len(identities) == 1 else None
    if identity:
        found.append(identity)
    elif identities:
        mended.append("its user identity cannot be read")
    for content in (content for kind, content in items if kind == ROLE_SELECTION):
        if role := _role(content):
            found.append(role)
        else:
            mended.append("a role selection cannot be read")
    return found


def _maximum_length(items: Sequence[tuple[int, bytes]], mended: list[str]) -> int:
    lengths = [content for kind, content in items if kind == MAXIMUM_LENGTH]
    if len(lengths) != 1 or len(lengths[0]) != 4:
        mended.append("it does not say which length it receives, or not once")
        return DEFAULT_LENGTH
    (length,) = struct.unpack(">L", lengths[0])
    if 0 < length < LEAST_LENGTH:
        raise MalformedRequest(f"it receives PDUs of {length} bytes; no answer is so short")
    return int(length)


def _identity(content: bytes) -> UserIdentityNegotiation | None:
    """PS3.7 table D.3-14."""
    if len(content) < 4:
        return None
    kind, wants_answer, first = struct.unpack_from(">BBH", content)
    second = content[4 + first :]
    if not 1 <= kind <= 5 or len(content) < 4 + first:
        return None
    if len(second) < 2 or int.from_bytes(second[:2]) != len(second) - 2:
        return None
    identity = UserIdentityNegotiation()
    identity.user_identity_type = kind
    identity.positive_response_requested = bool(wants_answer)
    identity.primary_field = content[4 : 4 + first]
    identity.secondary_field = second[2:] or None
    return identity


def _role(content: bytes) -> SCP_SCU_RoleSelectionNegotiation | None:
    """PS3.7 table D.3-9."""
    uid, roles = _uid(content[2:-2]), content[-2:]
    if len(content) < 4 or int.from_bytes(content[:2]) != len(content) - 4:
        return None
    if not uid or max(roles) > 1:
        return None
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = uid  # type: ignore[assignment]
    role.scu_role, role.scp_role = map(bool, roles)
    return role


def _refusal(version: int, names: Sequence[str], called: str, calling: str) -> Refusal | None:
    """Why a request that can be read is rejected for what it says; PS3.8 table 9-21."""
    if not version & 1:
        reason = f"it speaks versions 0x{version:04X} of the protocol, without the first"
        return Refusal(reason, PERMANENT, SERVICE_PROVIDER, VERSION_NOT_SUPPORTED)
    if not names or names[0] != DICOM_CONTEXT:
        reason = f"its application context is {names[0] or 'no UID' if names else 'missing'}"
        return Refusal(reason, PERMANENT, SERVICE_USER, APPLICATION_CONTEXT_NOT_SUPPORTED)
    for what, title, diagnostic in (
        ("calling", calling, CALLING_AE_NOT_RECOGNIZED),
        ("called", called, CALLED_AE_NOT_RECOGNIZED),
    ):
        if not _is_title(title):
            reason = f"its {what} AE title is {title or 'blank'}; set one of printable ASCII"
            return Refusal(reason, PERMANENT, SERVICE_USER, diagnostic)
    return None
