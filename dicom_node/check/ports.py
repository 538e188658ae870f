"""The ports of the node itself: free, held by this node, or by somebody else."""

import contextlib
import errno
import socket
import ssl
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from dicom_node.check.answer import Check
from dicom_node.deliver import CONNECT_SECONDS, echo
from dicom_node.deliver.causes import CALLED
from dicom_node.errors import Busy, CannotListen, Declined, DeliveryError, Rejected
from dicom_node.settings import Destination, Settings


@dataclass(frozen=True, slots=True)
class _Port:
    """``page``: what this node answers to a GET there, by path and status; "" for DICOM."""

    key: str
    host: str
    port: int
    page: str = ""
    statuses: tuple[int, ...] = ()

    @property
    def what(self) -> str:
        return "port" if self.key == "receive.port" else f"port {self.key}"

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


def ports(settings: Settings) -> Iterator[Check]:
    """Each port that is configured; and two that are the same."""
    here, page = settings.receive, settings.web
    found = [
        _Port("receive.port", here.host, here.port),
        _Port("receive.web_port", here.host, here.web_port, "/studies", (401, 403, 405)),
        _Port("web.port", page.host, page.port, "/healthz", (200, 401, 403)),
    ]
    configured = [each for each in found if each.port or not each.page]
    yield from _alike(configured)
    for port in configured:
        yield _look(settings, port)


def _alike(found: list[_Port]) -> Iterator[Check]:
    keys: dict[int, list[str]] = defaultdict(list)
    for each in found:
        keys[each.port].append(each.key)
    for port, names in keys.items():
        if port and len(names) > 1:
            sentence = f"{' and '.join(names)} are both {port}; give each a port of its own"
            yield Check("ports", False, sentence)


def _look(settings: Settings, port: _Port) -> Check:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    try:
        with socket.create_server((port.host, port.port), family=family):
            return Check(port.what, True, f"{port.where} is free")
    except OSError as error:
        refused = CannotListen(port.where, error)
        if error.errno != errno.EADDRINUSE:
            return Check(port.what, False, f"{port.key}: {refused}")
    if settings.tls.certificate:
        return _encrypted(settings, port, refused)
    return _web(port, refused) if port.page else _dicom(settings, port, refused)


def _taken(port: _Port, refused: CannotListen, instead: str = "") -> Check:
    answers = f", it answers: {instead}" if instead else ""
    sentence = (
        f"{port.where}: {refused.reason}{answers}; stop what holds it, or choose another {port.key}"
    )
    return Check(port.what, False, sentence)


def _dicom(settings: Settings, port: _Port, refused: CannotListen) -> Check:
    here = Destination("this node", settings.node.ae_title, port.host, port.port)
    try:
        echo(here, settings.node.ae_title)
    except DeliveryError as error:
        if isinstance(error, Busy | Declined | Rejected) and error.cause != CALLED:
            said = error.reason.partition(";")[0]
            sentence = f"{port.where}: a node is running; to this machine it says: {said}"
            return Check(port.what, True, sentence)
        return _taken(port, refused)
    return Check(port.what, True, f"{port.where}: a node is running and answers C-ECHO")


def _web(port: _Port, refused: CannotListen) -> Check:
    try:
        with urlopen(f"http://{port.where}{port.page}", timeout=CONNECT_SECONDS) as answer:
            status = answer.status
    except HTTPError as error:
        status = error.code
    except (OSError, ValueError):
        return _taken(port, refused)
    if status not in port.statuses:
        return _taken(port, refused, f"HTTP {status}")
    return Check(port.what, True, f"{port.where}: a node is running")


def _encrypted(settings: Settings, port: _Port, refused: CannotListen) -> Check:
    """Whoever holds the port: it is this node if it shows our certificate."""
    try:
        shown = ssl.get_server_certificate((port.host, port.port), timeout=CONNECT_SECONDS)
        ours = Path(settings.tls.certificate).read_text(encoding="ascii")
    except (OSError, ValueError):
        shown, ours = "", "another"
    if "".join(shown.split()) in "".join(ours.split()):
        sentence = f"{port.where}: a node is running and shows our certificate"
        return Check(port.what, True, sentence)
    if not shown and not port.page:
        unencrypted = Destination("this node", settings.node.ae_title, port.host, port.port)
        with contextlib.suppress(DeliveryError):
            echo(unencrypted, settings.node.ae_title)
            sentence = f"{port.where}: a node is running, without TLS; restart it"
            return Check(port.what, False, sentence)
    return _taken(port, refused, "with another certificate" if shown else "")
