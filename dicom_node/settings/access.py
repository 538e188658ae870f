"""Who may connect, and what is encrypted: [tls], [access], and what a link to a peer says of itself."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dicom_node.errors import SettingsError
from dicom_node.settings.allowed import AE_TITLE, Allowed, key


def _are_networks(values: tuple[str, ...]) -> bool:
    try:
        return bool([ipaddress.ip_network(value) for value in values]) or not values
    except ValueError:
        return False


def _names_a_place(text: str) -> bool:
    kind, _, place = text.partition(":")
    return not text or (kind in ("file", "env") and place != "")


NETWORKS = Allowed("addresses or networks as 10.1.2.3, 10.1.2.0/24, fd00::/8", _are_networks)
PLACE = Allowed("file:PATH or env:NAME; never the secret itself", _names_a_place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who we are to a peer, and whom we believe: PEM files."""

    certificate: str = key("", "our certificate, then its intermediates, as a PEM file")
    private_key: str = key("", "its key, as a PEM file that only the node may read")
    key_password_from: str = key("", "where the key's password is, if it has one", PLACE)
    ca: str = key("", "the authorities that a peer's certificate must come from, as a PEM file")
    crl: str = key(
        "",
        "their lists of revoked certificates, as a PEM file; empty = revocation is not looked at",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls(Identity):
    """[tls]: with a certificate, every port of the node speaks TLS alone."""

    client_certificates: bool = key(
        True, "an AE title is a name that anyone can use; a certificate is not"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Identity):
    """A peer that we call; keys that are empty are those of [tls]."""

    tls: bool = key(False, "true where the peer's port speaks TLS")
    server_name: str = key("", "the name in the peer's certificate; empty = its host")


@dataclass(frozen=True, slots=True)
class Caller:
    """[[access.callers]]: a calling AE title that may open associations."""

    ae_title: str = key("", "its AE title, as it calls us", AE_TITLE)
    networks: tuple[str, ...] = key((), "where it may call from; empty = from anywhere", NETWORKS)
    certificate_name: str = key(
        "", "common name or DNS name that its client certificate must have; empty = any"
    )


@dataclass(frozen=True, slots=True)
class Access:
    """[access]: who may connect; nothing is limited until it is named."""

    networks: tuple[str, ...] = key(
        (), "who is heard at all; empty = whoever reaches the port", NETWORKS
    )
    callers: tuple[Caller, ...] = key((), "who may open associations; empty = any AE title")
    user_identity: bool = key(
        False, "whether associations and web requests must name a user and its passcode"
    )
    users: str = key("", "file of `dicom-node access add`; empty = users in data_dir")


def check_access(tls: Tls, access: Access, file: str) -> None:
    """What keys mean only together. Raises SettingsError."""
    if bool(tls.certificate) != bool(tls.private_key):
        raise SettingsError(f"{file}: tls.certificate and tls.private_key go together; give both")
    if tls.certificate and tls.client_certificates and not tls.ca:
        raise SettingsError(
            f"{file}: tls.client_certificates needs tls.ca, the authorities that they must come from; "
            "or set client_certificates = false, and any peer may connect"
        )
    if tls.crl and not tls.ca:
        raise SettingsError(f"{file}: tls.crl needs tls.ca, the authorities whose lists they are")
    if not (tls.certificate and tls.client_certificates):
        for number, caller in enumerate(access.callers):
            if caller.certificate_name:
                raise SettingsError(
                    f"{file}: access.callers[{number}].certificate_name needs [tls] with client_certificates"
                )


_AnyLink = TypeVar("_AnyLink", bound=Link)


def with_identity(links: Sequence[_AnyLink], tls: Tls) -> tuple[_AnyLink, ...]:
    """Give each link that speaks TLS what it does not say itself."""
    return tuple(_with_identity(link, tls) if link.tls else link for link in links)


def _with_identity(link: _AnyLink, tls: Tls) -> _AnyLink:
    own: Identity = link if link.certificate else tls
    return replace(
        link,
        certificate=own.certificate,
        private_key=own.private_key,
        key_password_from=own.key_password_from,
        ca=link.ca or tls.ca,
        # Lists of other authorities would let none of this one's certificates pass.
        crl=link.crl or ("" if link.ca else tls.crl),
    )
