"""Before anything listens: is it encrypted, are the certificates good, can anyone log in, are secrets kept?

``look`` says all of it, for ``dicom-node check``; ``refuse`` keeps a node from starting on what is fatal.
"""

import ipaddress
import logging
import os
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

from dicom_node.access import tls
from dicom_node.access.logins import Logins
from dicom_node.access.secret import exposed
from dicom_node.access.users import read_users, users_path
from dicom_node.errors import SettingsError
from dicom_node.settings import Destination, Identity, Peer, Settings

LOGGER = logging.getLogger(__name__)

DATABASE_VARIABLE = "DICOM_NODE__NODE__DATABASE"


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing looked at; a fatal one keeps the node from starting."""

    what: str
    good: bool
    sentence: str
    fatal: bool = False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address, or all addresses of a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(each[4][0])).is_loopback for each in found)


def open_door(section: str, host: str, encrypted: bool, insecure: bool) -> Seen:
    """The rule of every port of the node: loopback, or TLS, or somebody has said that it needs none."""
    where = f"{section}.host {host}"
    if is_loopback(host):
        return Seen("encryption", True, f"{where}: only this machine can connect")
    if encrypted:
        return Seen("encryption", True, f"{where}: TLS alone")
    if insecure:
        sentence = (
            f"{where} without TLS, as {section}.insecure says: all on that network can read along"
        )
        return Seen("encryption", True, sentence)
    sentence = (
        f"{where} would let other machines connect without encryption; give [tls] a certificate and a "
        f"private_key, or set {section}.insecure = true where that network is itself closed to others"
    )
    return Seen("encryption", False, sentence, fatal=True)


def needs_login(settings: Settings, host: str) -> bool:
    """Whether web requests to an address must name a user."""
    return settings.access.user_identity or not is_loopback(host)


def web_logins(settings: Settings, host: str) -> Logins | None:
    """For the WebDoor of a server on an address; None where nobody must log in. Raises SettingsError."""
    return Logins(users_path(settings)) if needs_login(settings, host) else None


def look(settings: Settings) -> Iterator[Seen]:
    """All that is said about access; changes nothing."""
    yield from _ports(settings)
    yield from _links(settings)
    yield from _validities(settings)
    yield from _secrets(settings)


def refuse(settings: Settings, roles: Collection[str] = ("receive", "web")) -> None:
    """Raise SettingsError on what is fatal, for a node of these roles: some listen, some only call others."""
    for seen in (*_ports(settings, roles), *_links(settings)):
        if seen.fatal:
            raise SettingsError(seen.sentence)


def warn(settings: Settings) -> None:
    """Log what does not keep the node from starting and yet must be mended."""
    for seen in (*_validities(settings), *_secrets(settings)):
        if not seen.good:
            LOGGER.warning(f"{seen.what} to mend", extra={"fields": {"what": seen.sentence}})


def _ports(settings: Settings, roles: Collection[str] = ("receive", "web")) -> Iterator[Seen]:
    here, page = settings.receive, settings.web
    encrypted = bool(settings.tls.certificate)
    doors = []
    if "receive" in roles:
        doors.append(open_door("receive", here.host, encrypted, here.insecure))
    if "web" in roles and page.port:
        doors.append(open_door("web", page.host, encrypted, page.insecure))
    if not doors:
        return
    yield from doors
    yield from _users(settings)
    try:
        tls.server_context(settings.tls)
    except SettingsError as error:
        yield Seen("[tls]", False, f"[tls] {error}", fatal=True)


def _links(settings: Settings) -> Iterator[Seen]:
    own = settings.files
    host = urlsplit(own.endpoint).hostname or ""
    if own.endpoint.startswith("http:") and not is_loopback(host) and not own.insecure:
        sentence = (
            f"files.endpoint {own.endpoint} would carry images unencrypted; use https, or set "
            "files.insecure = true where that network is itself closed to others"
        )
        yield Seen("encryption", False, sentence, fatal=True)
    links: tuple[Destination | Peer, ...] = (*settings.destinations, *settings.peers)
    for link in links:
        try:
            tls.client_arguments(link)
        except SettingsError as error:
            whose = f"{link.ae_title}@{link.host}"
            yield Seen(f"TLS to {whose}", False, f"to {whose}: {error}", fatal=True)


def _validities(settings: Settings) -> Iterator[Seen]:
    # Not at the top: the receiver needs none of it, and it is 8 MB.
    from dicom_node.access.certificates import of_node

    now = datetime.now(UTC)
    for each in of_node(settings):
        yield Seen(each.what, *each.sentence(now))


def _users(settings: Settings) -> Iterator[Seen]:
    here, page, path = settings.receive, settings.web, users_path(settings)
    doors = (("receive.web_port", here.web_port, here.host), ("web.port", page.port, page.host))
    wants = [name for name, port, host in doors if port and needs_login(settings, host)]
    if settings.access.user_identity:
        wants.insert(0, "access.user_identity")
    if not wants:
        return
    try:
        count = len(read_users(path))
    except SettingsError as error:
        yield Seen("users", False, str(error), fatal=True)
        return
    sentence = f"{count} may log in"
    if not count:
        sentence = f"{wants[0]} wants users, and {path} has none; run: dicom-node access add NAME"
    yield Seen("users", count > 0, sentence, fatal=not count)


def _secrets(settings: Settings) -> Iterator[Seen]:
    identities: tuple[Identity, ...] = (settings.tls, *settings.destinations, *settings.peers)
    paths = {users_path(settings): None}
    for identity in identities:
        kind, _, place = identity.key_password_from.partition(":")
        paths |= dict.fromkeys(
            map(Path, filter(None, (identity.private_key, place if kind == "file" else "")))
        )
    for path in paths:
        if sentence := exposed(path):
            yield Seen("secrets", False, sentence)
    try:
        password = sa.make_url(settings.node.database_url).password
    except (sa.exc.ArgumentError, ValueError):
        return  # the database's own check says so
    if password and DATABASE_VARIABLE not in os.environ:
        sentence = f"node.database holds a password; move it to PGPASSFILE, or the URL to {DATABASE_VARIABLE}"
        yield Seen("secrets", False, sentence)
