"""Whom the node calls: destinations, peers, the audit record repository, the database server."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, fields

import sqlalchemy as sa
from pydicom.uid import (
    UID,
    EncapsulatedPDFStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
)

from dicom_node.audit.syslog import connector
from dicom_node.check.answer import Check
from dicom_node.deliver import CONNECT_SECONDS, accepted_by
from dicom_node.deliver.causes import STORAGE_COMMITMENT, VERIFICATION, of_error
from dicom_node.errors import DeliveryError, SettingsError
from dicom_node.report.form import OBJECTS, REPORT_CLASSES, Form
from dicom_node.report.structure import LABEL_MAP
from dicom_node.settings import Audit, Destination, Link, Peer

CLASSES = {
    "map": ParametricMapStorage,
    "page": SecondaryCaptureImageStorage,
    "document": EncapsulatedPDFStorage,
    "companion": UltrasoundImageStorage,
}
"""Of the kinds that are written as one class in every form."""

INSTEAD = {
    LABEL_MAP: 'seg = "binary"',
    str(REPORT_CLASSES["comprehensive-3d"]): 'sr = "comprehensive"',
}
"""What a peer may take that does not take a class."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One kind of object that a destination would get: how it asks for it, its class and transfer syntax."""

    word: str
    sop_class: str
    transfer_syntax: str


def wanted_by(destination: Destination) -> tuple[_Wanted, ...]:
    """Each kind of object as it would be sent, in the destination's own form."""
    form = Form.of(destination)
    kinds = {word: OBJECTS[word] for word in destination.objects}
    kinds |= {"companion": "companion"} if destination.companion else {}
    kinds |= {"refusals (SR)": "refusal"} if destination.refusals and "SR" not in kinds else {}
    own = {
        "segmentation": LABEL_MAP if form.seg == "labelmap" else SegmentationStorage,
        "measurements": REPORT_CLASSES[form.sr],
        "refusal": REPORT_CLASSES[form.sr],
    }
    return tuple(
        _Wanted(word, str((CLASSES | own)[kind]), form.only(kind).file_syntax(kind))
        for word, kind in kinds.items()
    )


def look_at_destination(destination: Destination, calling_ae: str) -> Check:
    """Whether it takes what it would get; proposes those presentation contexts, and sends nothing."""
    what, where = f"destination {destination.name}", _where(destination)
    wanted = wanted_by(destination)
    files = [(each.sop_class, each.transfer_syntax) for each in wanted]
    services = (VERIFICATION, STORAGE_COMMITMENT) if destination.commitment else (VERIFICATION,)
    try:
        accepted = accepted_by(destination, calling_ae, files, services)
    except DeliveryError as error:
        return Check(what, False, f"{where}: {error.reason}")
    classes = {sop_class for sop_class, _ in accepted}
    faults = [_lacking(each) for each in wanted if each.sop_class not in classes]
    if destination.commitment and STORAGE_COMMITMENT not in classes:
        faults.append("it offers no storage commitment: set commitment = false")
    if faults:
        return Check(what, False, f"{where} {'; '.join(faults)}")
    converted = [
        each.word for each in wanted if (each.sop_class, each.transfer_syntax) not in accepted
    ]
    said = ["answers C-ECHO"] if VERIFICATION in classes else []
    said.append(f"accepts {', '.join(each.word for each in wanted)}")
    if converted:
        said.append(f"{', '.join(converted)} are converted for it on the way")
    return Check(what, True, f"{where} {'; '.join(said)}")


def _lacking(wanted: _Wanted) -> str:
    name = UID(wanted.sop_class).name
    instead = INSTEAD.get(wanted.sop_class, "")
    advice = f"set {instead}, or " if instead else ""
    return f"accepts no {wanted.word} ({name}): {advice}let it take this class, or leave {wanted.word} out"


def look_at_peer(peer: Peer, calling_ae: str) -> Check:
    """Whether answers to its requests for storage commitment can be brought to it."""
    identity = {each.name: getattr(peer, each.name) for each in fields(Link)}
    called = Destination(peer.ae_title, peer.ae_title, peer.host, peer.port, **identity)
    what, where = f"peer {peer.ae_title}", _where(called)
    try:
        accepted = accepted_by(called, calling_ae, (), (VERIFICATION, STORAGE_COMMITMENT))
    except DeliveryError as error:
        sentence = f"{where}: {error.reason}; until then it gets no answers to storage commitment"
        return Check(what, False, sentence)
    names = ", ".join(UID(sop_class).name for sop_class, _ in accepted)
    return Check(what, True, f"{where} accepts {names}")


def look_at_audit(audit: Audit) -> Iterator[Check]:
    """Whether the audit record repository takes connections; of UDP only whether there is such a host."""
    where = f"{audit.host}:{audit.port} ({audit.transport})"
    try:
        connector(audit).connect().drop()
    except SettingsError as error:
        yield Check("audit server", False, str(error))
        return
    except OSError as error:
        yield Check("audit server", False, f"{where}: {of_error(error).sentence}")
        return
    sentence = f"{where} takes connections"
    if audit.transport == "udp":
        sentence = f"{where}: nobody can say whether a datagram arrives; tls can"
    yield Check("audit server", True, sentence)


def database_server(url: str) -> str:
    """Why a database server takes no connection, in words; "" where it does, or where none is named."""
    try:
        named = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return ""
    if not named.host or named.host.startswith("/"):
        return ""
    try:
        port = named.port or 5432
        socket.create_connection((named.host, port), CONNECT_SECONDS).close()
    except OSError as error:
        return f"{named.host}:{port}: {of_error(error).sentence}"
    return ""


def _where(destination: Destination) -> str:
    return f"{destination.ae_title}@{destination.host}:{destination.port}"
