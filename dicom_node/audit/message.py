"""An audit message and its XML, as the schema of PS3.15 section A.5.1 has it."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dicom_node.pseudonyms import Pseudonyms

SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = "0", "4", "8"
"""EventOutcomeIndicator, RFC 3881 section 5.1.4."""

APPLICATION_SERVER = "4"
PERSON, SYSTEM = "1", "2"
PATIENT, REPORT, SECURITY_RESOURCE = "1", "3", "13"
MACHINE_NAME, IP_ADDRESS = "1", "2"
"""AuditSourceTypeCode, ParticipantObjectTypeCode and its role, NetworkAccessPointTypeCode."""

NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD]")
ADDRESS = re.compile(r"[\d.]+|[\da-fA-F:.]*:[\da-fA-F:.]*")
UNNAMED = "not recorded"
"""The schema asks for a name of each object; no patient's name is kept."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value, of PS3.16 unless said otherwise."""

    value: str
    meaning: str
    system: str = "DCM"


@dataclass(frozen=True, slots=True)
class Party:
    """An active participant: a person, or a process at an address; AE titles, or "" for none."""

    user_id: str
    role: Code | None
    is_requestor: bool
    address: str = ""
    ae_title: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """A participant object; ``identifier`` is written as a pseudonym where ``is_personal``."""

    kind: str
    role: str
    id_type: Code
    identifier: str
    is_personal: bool = True
    instances: Mapping[str, int] = field(default_factory=dict)
    """Numbers of instances by SOP class."""


@dataclass(frozen=True, slots=True)
class Message:
    """One audited event."""

    event: Code
    action: str
    parties: tuple[Party, ...]
    things: tuple[Thing, ...] = ()
    kind: Code | None = None
    outcome: str = SUCCESS
    description: str = ""


def render(message: Message, at: float, source: str, pseudonyms: Pseudonyms) -> str:
    """One line of XML; ``at`` in seconds since 1970, ``source`` names this node."""
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    root = ET.Element("AuditMessage")
    event = _add(
        root,
        "EventIdentification",
        EventActionCode=message.action,
        EventDateTime=when.replace("+00:00", "Z"),
        EventOutcomeIndicator=message.outcome,
    )
    _code(event, "EventID", message.event)
    if message.kind:
        _code(event, "EventTypeCode", message.kind)
    if message.description:
        text = pseudonyms.hide(" ".join(message.description.split()))
        _add(event, "EventOutcomeDescription").text = _clean(text)
    for party in message.parties:
        _party(root, party)
    identification = _add(root, "AuditSourceIdentification", AuditSourceID=source)
    kind = {"csd-code": APPLICATION_SERVER}
    ET.SubElement(identification, "AuditSourceTypeCode", kind)
    for thing in message.things:
        _thing(root, thing, pseudonyms)
    return ET.tostring(root, encoding="unicode")


def _party(root: ET.Element, party: Party) -> None:
    """PS3.15 section A.5.2: AE titles are alternative user IDs."""
    attributes = {"UserID": party.user_id, "UserIsRequestor": str(party.is_requestor).lower()}
    if party.ae_title:
        attributes["AlternativeUserID"] = f"AETITLES={party.ae_title}"
    if party.address:
        attributes["NetworkAccessPointID"] = party.address
        is_address = ADDRESS.fullmatch(party.address)
        attributes["NetworkAccessPointTypeCode"] = IP_ADDRESS if is_address else MACHINE_NAME
    element = _add(root, "ActiveParticipant", **attributes)
    if party.role:
        _code(element, "RoleIDCode", party.role)


def _thing(root: ET.Element, thing: Thing, pseudonyms: Pseudonyms) -> None:
    identifier = pseudonyms.of(thing.identifier) if thing.is_personal else thing.identifier
    element = _add(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=identifier or "unknown",
        ParticipantObjectTypeCode=thing.kind,
        ParticipantObjectTypeCodeRole=thing.role,
    )
    _code(element, "ParticipantObjectIDTypeCode", thing.id_type)
    _add(element, "ParticipantObjectName").text = UNNAMED
    if thing.instances:
        description = _add(element, "ParticipantObjectDescription")
        for sop_class, count in sorted(thing.instances.items()):
            _add(description, "SOPClass", UID=sop_class, NumberOfInstances=str(count))


def _code(parent: ET.Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.system}
    ET.SubElement(parent, name, attributes | {"originalText": code.meaning})


def _add(parent: ET.Element, name: str, **attributes: str) -> ET.Element:
    cleaned = {key: _clean(value) for key, value in attributes.items()}
    return ET.SubElement(parent, name, cleaned)


def _clean(text: str) -> str:
    """What a sender made up may hold characters that XML cannot."""
    return NOT_XML.sub("?", text)
