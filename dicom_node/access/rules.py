"""Who is heard, and whose association is accepted: the rules of [access], decided in one place."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dicom_node.access.logins import Logins, Verdict
from dicom_node.settings import Access, Caller

PERMANENT, TRANSIENT = 1, 2
SERVICE_USER, SERVICE_PROVIDER = 1, 2
NO_REASON, CALLING_AE_NOT_RECOGNIZED, CALLED_AE_NOT_RECOGNIZED = 1, 3, 7
APPLICATION_CONTEXT_NOT_SUPPORTED = VERSION_NOT_SUPPORTED = 2
"""Results, sources and reasons of A-ASSOCIATE-RJ, PS3.8 table 9-21."""

USERNAME_AND_PASSCODE = 2
"""User-Identity-Type, PS3.7 table D.3-14."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Calling:
    """What a peer says of itself when it asks for an association."""

    ae_title: str
    address: str
    certificate_names: tuple[str, ...] = ()
    identity_type: int | None = None
    name: bytes = field(default=b"", repr=False)
    passcode: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an association is rejected: a sentence for the log, three numbers for the peer."""

    reason: str
    result: int
    source: int
    diagnostic: int


def unknown_caller(reason: str) -> Refusal:
    """The peer hears that its AE title is not recognized; what is wrong with it stands in the log."""
    return Refusal(reason, PERMANENT, SERVICE_USER, CALLING_AE_NOT_RECOGNIZED)


def unproven_user(reason: str) -> Refusal:
    """Which part of an identity is wrong is not told to the peer."""
    return Refusal(reason, TRANSIENT, SERVICE_PROVIDER, NO_REASON)


def names_of(peer: Mapping[str, Any]) -> Iterator[str]:
    """Common names and DNS names of what ``SSLSocket.getpeercert`` gives."""
    for relative in peer.get("subject", ()):
        yield from (value for name, value in relative if name == "commonName")
    yield from (value for kind, value in peer.get("subjectAltName", ()) if kind == "DNS")


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """As the settings have checked them."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def admits(networks: Sequence[Network], address: str) -> bool:
    """Whether an address is in one of the networks; without any, every one is."""
    if not networks:
        return True
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


class Rules:
    """The rules of one node. ``logins`` is None where no user must be named."""

    def __init__(self, access: Access, logins: Logins | None) -> None:
        self.networks = networks_of(access.networks)
        self._callers = {caller.ae_title.strip(): caller for caller in access.callers}
        self._logins = logins

    def refusal(self, calling: Calling) -> Refusal | None:
        """Why this association is not accepted, or None. Raises SettingsError: the users cannot be read."""
        if self._callers:
            caller = self._callers.get(calling.ae_title.strip())
            if caller is None:
                return unknown_caller("access.callers does not name it")
            if refusal := _refusal_of(caller, calling):
                return refusal
        return self._refusal_of_user(calling) if self._logins else None

    def _refusal_of_user(self, calling: Calling) -> Refusal | None:
        assert self._logins is not None
        if calling.identity_type is None:
            return unproven_user("it names no user")
        if calling.identity_type != USERNAME_AND_PASSCODE:
            return unproven_user(
                f"its user identity is of type {calling.identity_type}, not username and passcode"
            )
        try:
            name, passcode = calling.name.decode(), calling.passcode.decode()
        except UnicodeDecodeError:
            return unproven_user("its user identity is not in UTF-8")
        verdict = self._logins.check(calling.address, name, passcode)
        return None if verdict is Verdict.RIGHT else unproven_user(verdict.value)


def _refusal_of(caller: Caller, calling: Calling) -> Refusal | None:
    if not admits(networks_of(caller.networks), calling.address):
        return unknown_caller("it calls from another address than access.callers says")
    if caller.certificate_name and caller.certificate_name not in calling.certificate_names:
        return unknown_caller("its certificate has another name than access.callers says")
    return None
