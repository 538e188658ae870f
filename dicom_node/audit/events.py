"""The events that are recorded, each by a call: PS3.15 section A.5.3, the tables named below."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from dicom_node.audit.message import (
    MINOR_FAILURE,
    PATIENT,
    PERSON,
    REPORT,
    SECURITY_RESOURCE,
    SERIOUS_FAILURE,
    SUCCESS,
    SYSTEM,
    Code,
    Message,
    Party,
    Thing,
)

LOGGER = logging.getLogger("dicom_node.audit")

ACTIVITY, ACCESSED = (
    Code("110100", "Application Activity"),
    Code("110103", "DICOM Instances Accessed"),
)
BEGIN = Code("110102", "Begin Transferring DICOM Instances")
TRANSFERRED = Code("110104", "DICOM Instances Transferred")
ALERT, USER = Code("110113", "Security Alert"), Code("110114", "User Authentication")
START, STOP = Code("110120", "Application Start"), Code("110121", "Application Stop")
LOGIN, NODE = Code("110122", "Login"), Code("110126", "Node Authentication")
APPLICATION = Code("110150", "Application")
DESTINATION, SOURCE = Code("110152", "Destination Role ID"), Code("110153", "Source Role ID")
STUDY_UID, NODE_ID = Code("110180", "Study Instance UID"), Code("110182", "Node ID")
PATIENT_NUMBER = Code("2", "Patient Number", "RFC-3881")

NOBODY = "not logged in"
CREATE, READ, EXECUTE = "C", "R", "E"
"""EventActionCode."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another application entity: a scanner, an archive."""

    ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """Instances of one study on their way: numbers by SOP class; what went wrong, or ""."""

    study_uid: str
    patient_id: str
    instances: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""


def activity(started: bool, ae_title: str) -> None:
    """A process of the node has started or stops (table A.5.3.1-1)."""
    parties = (_self(APPLICATION, False, ae_title),)
    _record(Message(ACTIVITY, EXECUTE, parties, kind=START if started else STOP))


def begin_transferring(transfer: Transfer, ae_title: str, destination: Peer) -> None:
    """Results go to a destination (table A.5.3.3-1)."""
    parties = (_self(SOURCE, True, ae_title), _other(destination, DESTINATION, False))
    _record(Message(BEGIN, EXECUTE, parties, _things(transfer)))


def transferred(transfer: Transfer, ae_title: str, peer: Peer, is_received: bool) -> None:
    """Instances were received from a peer, or sent to it, or were not (table A.5.3.7-1)."""
    if is_received:
        parties = (_other(peer, SOURCE, True), _self(DESTINATION, False, ae_title))
    else:
        parties = (_self(SOURCE, True, ae_title), _other(peer, DESTINATION, False))
    action = CREATE if is_received else READ
    outcome = MINOR_FAILURE if transfer.failure else SUCCESS
    _record(
        Message(
            TRANSFERRED,
            action,
            parties,
            _things(transfer),
            outcome=outcome,
            description=transfer.failure,
        )
    )


def accessed(study_uid: str, user: str, address: str, ae_title: str) -> None:
    """A person has looked at what is known of a study (table A.5.3.6-1)."""
    parties = (Party(user, None, True, address), _self(APPLICATION, False, ae_title))
    _record(Message(ACCESSED, READ, parties, _things(Transfer(study_uid, ""))))


def node_not_authenticated(peer: Peer, ae_title: str, reason: str) -> None:
    """A peer was turned away (table A.5.3.11-1)."""
    parties = (_self(APPLICATION, False, ae_title), _other(peer, None, True))
    subject = Thing(SYSTEM, SECURITY_RESOURCE, NODE_ID, peer.ae_title or peer.address, False)
    _record(Message(ALERT, EXECUTE, parties, (subject,), NODE, SERIOUS_FAILURE, reason))


def user_authenticated(user: str, address: str, ae_title: str, failure: str = "") -> None:
    """A person has logged in, or was refused (table A.5.3.12-1); "" is nobody."""
    parties = (Party(user or NOBODY, None, True, address), _self(APPLICATION, False, ae_title))
    outcome = MINOR_FAILURE if failure else SUCCESS
    _record(Message(USER, EXECUTE, parties, (), LOGIN, outcome, failure))


def _record(message: Message) -> None:
    LOGGER.info(message.event.meaning, extra={"audit": message})


def _self(role: Code, is_requestor: bool, ae_title: str) -> Party:
    return Party(str(os.getpid()), role, is_requestor, os.uname().nodename, ae_title)


def _other(peer: Peer, role: Code | None, is_requestor: bool) -> Party:
    return Party(peer.ae_title or peer.address, role, is_requestor, peer.address, peer.ae_title)


def _things(transfer: Transfer) -> tuple[Thing, ...]:
    study = Thing(SYSTEM, REPORT, STUDY_UID, transfer.study_uid, True, transfer.instances)
    return (study, Thing(PERSON, PATIENT, PATIENT_NUMBER, transfer.patient_id))
