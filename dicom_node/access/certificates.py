"""Until when certificates and revocation lists hold, those included that others must have issued."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from dicom_node.errors import SettingsError
from dicom_node.settings import Destination, Peer, Settings, Tls

SOON_DAYS = 30
"""From then on a certificate is reported: hospitals take weeks to issue one."""

CERTIFICATE, AUTHORITY, REVOCATION = "certificate", "authority", "revocation list"

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Validity:
    """Of what is in one file: since when all of it holds, and until when."""

    what: str
    path: str
    begins: datetime
    ends: datetime

    def fault(self, now: datetime) -> str:
        """Why nobody can connect with it now, "" where it holds."""
        if now < self.begins:
            return (
                f"{self.path} holds only from {self.begins:%Y-%m-%d %H:%M} UTC on, and this machine's "
                f"clock says {now:%Y-%m-%d %H:%M}: is the clock right?"
            )
        if now < self.ends:
            return ""
        ended = f"{self.path} ended at {self.ends:%Y-%m-%d %H:%M} UTC"
        return f"{ended}: {_CONSEQUENCE[self.what]}"

    def sentence(self, now: datetime) -> tuple[bool, str]:
        """Whether nothing is to be done about it, and how it is."""
        if fault := self.fault(now):
            return False, fault
        left = self.ends - now
        if self.what == REVOCATION:  # some are issued anew each day
            return True, f"{self.path}: the next is due by {self.ends:%Y-%m-%d %H:%M} UTC"
        if left.days < SOON_DAYS:
            return False, f"{self.path} ends in {left.days} days; put a new one in its place"
        return True, f"{self.path}: {left.days} days left"


_CONSEQUENCE: Mapping[str, str] = {
    CERTIFICATE: "peers refuse it; put a new one in its place",
    AUTHORITY: "no certificate that it has issued is taken; put its successor in its place",
    REVOCATION: "all peers of its authority are refused until the new list is in its place",
}


def of_ports(tls: Tls) -> Iterator[Validity]:
    """What the node's own ports need. Raises SettingsError that names the file.

    Not the authorities: that one of several has ended keeps nobody else out.
    """
    if tls.certificate:
        yield read(CERTIFICATE, tls.certificate)
    if tls.crl and tls.client_certificates:
        yield read(REVOCATION, tls.crl)


def of_node(settings: Settings) -> Iterator[Validity]:
    """Each file that is used anywhere; those that cannot be read are told where they are used."""
    links: tuple[Destination | Peer, ...] = (*settings.destinations, *settings.peers)
    audit = settings.audit
    used = [(CERTIFICATE, audit.certificate), (AUTHORITY, audit.ca_file)] if audit.host else []
    for identity in (settings.tls, *(link for link in links if link.tls)):
        used += [
            (CERTIFICATE, identity.certificate),
            (AUTHORITY, identity.ca),
            (REVOCATION, identity.crl),
        ]
    for what, path in dict.fromkeys(used):
        try:
            if path:
                yield read(what, path)
        except SettingsError:
            continue


def read(what: str, path: str) -> Validity:
    """The latest begin and the earliest end in a PEM file. Raises SettingsError."""
    try:
        data = Path(path).read_bytes()
        spans = list(_lists(data) if what == REVOCATION else _certificates(data))
        return Validity(what, path, max(each[0] for each in spans), min(each[1] for each in spans))
    except OSError as error:
        raise SettingsError(f"{what} {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{what} {path} is no PEM file with a {what}") from error


def _certificates(data: bytes) -> Iterator[tuple[datetime, datetime]]:
    for each in x509.load_pem_x509_certificates(data):
        yield each.not_valid_before_utc, each.not_valid_after_utc


def _lists(data: bytes) -> Iterator[tuple[datetime, datetime]]:
    for block in _LIST.findall(data):
        each = x509.load_pem_x509_crl(block)
        yield each.last_update_utc, each.next_update_utc or datetime.max.replace(tzinfo=UTC)
