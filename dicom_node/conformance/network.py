"""The tables of the network chapter: who talks, about what, in which encodings, within which limits."""

from collections.abc import Iterator

from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    EncapsulatedPDFStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
)
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_node import __version__, deliver, index, settings
from dicom_node.access import serving
from dicom_node.assemble.pixels import DECODERS
from dicom_node.conformance.markdown import LABEL_MAP, hexadecimal, name_of, table
from dicom_node.errors import Oversized
from dicom_node.pipeline import committing, workflows
from dicom_node.receive import commitment, scp, server, stow
from dicom_node.receive.contexts import RETIRED, SERVICES, STORAGE, TRANSFER_SYNTAXES
from dicom_node.receive.contexts import supported_contexts as contexts
from dicom_node.report.form import OBJECTS, RELEVANT, REPORT_CLASSES, Form

HIGHDICOM_IMPLEMENTATION_UID = "1.2.826.0.1.3680043.9.7433.1.1"

CLASSES = {
    "companion": (UltrasoundImageStorage,),
    "segmentation": (SegmentationStorage, LABEL_MAP),
    "map": (ParametricMapStorage,),
    "measurements": tuple(REPORT_CLASSES.values()),
    "page": (SecondaryCaptureImageStorage,),
    "document": (EncapsulatedPDFStorage,),
    "refusal": tuple(REPORT_CLASSES.values()),
}
"""What each kind of object is sent as."""

WORDS = {kind: word for word, kind in OBJECTS.items()} | {
    "companion": "companion = true",
    "refusal": "refusals = true",
}
"""How a destination's configuration asks for a kind."""

ROLES = {
    "Verification": "SCP",
    "Storage Commitment Push Model": "SCP; SCU of destinations that are asked to commit",
    "Modality Performed Procedure Step": "SCP",
    "Modality Worklist Information Model": "SCP; every query is answered with no match",
}


def tables() -> dict[str, object]:
    return {
        "version": __version__,
        "identifiers": _identifiers(),
        "storage": _storage(),
        "syntaxes": _syntaxes(),
        "services": _services(),
        "proposed": _proposed(),
        "acceptor": table(("limit", "value"), _acceptor()),
        "initiator": table(("limit", "value"), _initiator()),
        "report_seconds": f"{deliver.REPORT_SECONDS:g} s",
        "most_failures": index.MOST_FAILURES,
        "patience": f"{committing.PATIENCE_SECONDS / 3600:g} hours",
        "web_limits": table(("limit", "value"), _web()),
    }


def _identifiers() -> str:
    rows = [
        ("Product and version", f"dicom-node {__version__}"),
        ("Implementation Class UID (associations)", PYNETDICOM_IMPLEMENTATION_UID),
        ("Implementation Version Name (associations)", PYNETDICOM_IMPLEMENTATION_VERSION),
        ("Implementation Class UID (files of SEG, SR, PM, SC)", HIGHDICOM_IMPLEMENTATION_UID),
        ("Implementation Class UID (files of PDF and companions)", PYDICOM_IMPLEMENTATION_UID),
        ("AE title, as shipped", settings.Node().ae_title),
        ("Port, as shipped", settings.Receive().port),
    ]
    return table(("identifier", "value"), rows)


def _use(sop_class: str) -> str:
    name = name_of(sop_class)
    if "Ultrasound" in name or "US " in name:
        return "analyzed"
    if "Capture" in name:
        return "analyzed where Modality is US or ultrasound regions are calibrated, else kept"
    return "kept, and named by `jobs show` as not used"


def _storage() -> str:
    retired = set(RETIRED.values())
    rows = [
        (f"{name_of(uid)}{' (retired)' * (uid in retired)}", uid, "SCP", _use(uid))
        for uid in STORAGE
    ]
    return table(("SOP class", "UID", "role", "what becomes of its instances"), rows)


def _syntaxes() -> str:
    rows = [
        (name_of(uid), uid, DECODERS[uid][1] if uid in DECODERS else "kept, not decoded")
        for uid in TRANSFER_SYNTAXES
    ]
    return table(("transfer syntax", "UID", "decoded by"), rows)


def _services() -> str:
    of = {context.abstract_syntax: context.transfer_syntax for context in contexts()}
    rows = []
    for uid in SERVICES:
        role = next(role for name, role in ROLES.items() if name_of(uid).startswith(name))
        rows.append((name_of(uid), uid, "; ".join(map(name_of, of[uid])), role))
    return table(("SOP class", "UID", "transfer syntaxes", "role"), rows)


def _proposed() -> str:
    rows = []
    for kind, words in RELEVANT.items():
        syntaxes = dict.fromkeys(_syntaxes_of(kind)) if words else {}
        for uid in CLASSES[kind]:
            rows.append((WORDS[kind], name_of(uid), uid, "; ".join(map(name_of, syntaxes))))
    return table(
        ("asked for by", "SOP class", "UID", "transfer syntaxes, each in its context"), rows
    )


def _syntaxes_of(kind: str) -> Iterator[str]:
    """What its files are written in by every choice of ``encoding``, then what they may be converted to."""
    for encoding in ("explicit", "deflated", "j2k"):
        written = Form(encoding=encoding).only(kind).file_syntax(kind)
        yield written
        yield from next(more for uid, more in deliver.SIMPLER.items() if uid == written)


def _acceptor() -> Iterator[tuple[str, object]]:
    limits = settings.Limits()
    yield "simultaneous associations", f"{limits.associations}, times `receive.processes`"
    yield (
        "of these from one address",
        f"{limits.associations_per_address}, times `receive.processes`",
    )
    yield "maximum PDU offered", f"{scp.MAXIMUM_PDU_BYTES} bytes"
    yield "larger PDU: the connection is closed", f"{server.MAX_PDU_BYTES} bytes"
    yield "time for one PDU to arrive", f"{limits.pdu_seconds:g} s"
    yield "no answer taken by the peer for", f"{limits.send_seconds:g} s"
    yield "association request after connection within (ARTIM)", f"{limits.request_seconds:g} s"
    yield "silence on an association", f"{limits.idle_seconds:g} s"
    yield "answer to a message of this node (DIMSE)", f"{limits.dimse_seconds:g} s"
    yield "longest wait for the database before 0xA700", f"{scp.BUSY_SECONDS:g} s"
    yield (
        f"less than {limits.free_mib} MiB free on the disk",
        "rejected (transient, temporary congestion); an instance under way: 0xA700",
    )
    yield f"an instance of more than {limits.instance_mib} MiB", hexadecimal(Oversized.status)
    yield "outstanding operations (asynchronous window)", "1, not negotiated"
    yield (
        "called AE title",
        "must be this node's; else rejected (permanent, called AE not recognized)",
    )
    yield (
        "calling AE title",
        "any, unless `access.callers` names who may call; blank or not of printable ASCII: rejected "
        "(permanent, calling AE not recognized)",
    )
    yield "padding of AE titles", "spaces on both sides; NUL ends the title"
    yield (
        "items and sub-items that are not known, protocol versions beside the first",
        "skipped (PS3.8 9.3.1)",
    )
    yield "another application context", "rejected (permanent, not supported)"
    yield (
        "a context without a usable abstract or transfer syntax",
        "rejected by itself (3, 4); the others stand",
    )
    yield (
        "a request that cannot be decoded; no context, an even or doubled context ID",
        "A-ABORT, and the reason in the log and the audit trail",
    )
    yield "role selection", "answered for Storage Commitment alone"
    yield "SOP class extended negotiation", "not supported"
    yield "user identity", "type 2 (username and passcode) where required; no positive response"


def _initiator() -> Iterator[tuple[str, object]]:
    yield "simultaneous associations", "1 for each destination"
    yield "maximum PDU offered", f"{deliver.MAXIMUM_PDU_BYTES} bytes"
    yield "connection within", f"{deliver.CONNECT_SECONDS} s"
    yield "answer to an association request within", f"{deliver.ACSE_SECONDS} s"
    yield "silence on an association", f"{deliver.NETWORK_SECONDS} s"
    yield "answer to a C-STORE within", f"{deliver.DIMSE_SECONDS} s"
    first, longest = workflows.FIRST_PAUSE_SECONDS, workflows.LONGEST_PAUSE_SECONDS
    yield (
        "pause between attempts",
        f"{first:g} s, growing to {longest:g} s; anew once something was acknowledged",
    )
    yield "given up after", f"{workflows.GIVE_UP_SECONDS / 3600:g} hours"
    yield "storage commitment: connection, answer within", _commitment_seconds()
    attempts = commitment.ATTEMPTS
    longest = commitment.LONGEST_PAUSE_SECONDS
    yield "storage commitment: attempts to bring an answer", f"{attempts}, pauses to {longest:g} s"


def _commitment_seconds() -> str:
    return f"{commitment.CONNECT_SECONDS} s, {commitment.ANSWER_SECONDS} s"


def _web() -> Iterator[tuple[str, object]]:
    yield "port, as shipped", f"{settings.Receive().web_port} (0 = off)"
    yield "simultaneous requests", serving.CONCURRENT_REQUESTS
    limits = settings.Limits()
    yield "largest request", f"{limits.request_mib} MiB; by its Content-Length, before it is read"
    yield "largest instance in it", f"{limits.instance_mib} MiB"
    yield "silence within a request", f"{stow.SILENT_SECONDS:g} s"
    yield "calling AE title that its instances are recorded under", stow.CALLING_AE
