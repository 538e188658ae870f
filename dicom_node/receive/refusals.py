"""Who is turned away before anything was sent: a line in the log, an audit message, a count; once each."""

import logging
from dataclasses import dataclass

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_node import audit
from dicom_node.counters import ASSOCIATIONS, INSTANCES

LOGGER = logging.getLogger(__name__)

NETWORK = "address not in access.networks"
HANDSHAKE = "TLS handshake failed"
NO_TLS_HERE = "TLS where none is spoken"
NO_REQUEST = "no association request"
MALFORMED = "malformed association request"
CONNECTIONS = "too many connections"
"""Values of the count's ``reason`` beside those of A-ASSOCIATE-RJ: few; the log has the details."""

REJECTIONS = ((1, 1, 2), (1, 1, 3), (1, 1, 7), (1, 2, 2), (2, 2, 1), (2, 3, 1), (2, 3, 2))
"""Results, sources and reasons that are sent, PS3.8 table 9-21."""

STATUSES = ("0xA700", "0xA900", "0xC000", "0xC001", "0xC002")
"""What a refused instance is answered."""


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """What happened to whom and why; ``advice``: what whoever reads the line can do about it."""

    event: str
    address: str
    reason: str
    advice: str = ""
    calling_ae: str = ""


def turned_away(who: TurnedAway, count: str, ae_title: str) -> None:
    """Tell and count it; in the thread of its connection, since the audit trail waits for the disk."""
    tell(who, count)
    audit.node_not_authenticated(audit.Peer(who.calling_ae, who.address), ae_title, who.reason)


def tell(who: TurnedAway, count: str) -> None:
    """The same without the audit trail: for the listener's own thread, which must not wait."""
    ASSOCIATIONS.labels("rejected", count).inc()
    fields = {"peer": who.address, "reason": who.reason}
    if who.calling_ae:
        fields["calling_ae"] = who.calling_ae
    if who.advice:
        fields["what"] = who.advice
    LOGGER.warning(who.event, extra={"fields": fields})


def rejection(association: Association) -> str:
    """The count's ``reason`` of an association that was rejected: what its requestor was told."""
    answer = association.acceptor.primitive
    return answer.reason_str if answer else "no presentation context accepted"


def begin_counting() -> None:
    """From zero: a count that appears with its first value has not increased, for an alarm."""
    for reason in (NETWORK, HANDSHAKE, NO_TLS_HERE, NO_REQUEST, MALFORMED, CONNECTIONS):
        ASSOCIATIONS.labels("rejected", reason)
    for result, source, diagnostic in REJECTIONS:
        answer = A_ASSOCIATE()
        answer.result, answer.result_source, answer.diagnostic = result, source, diagnostic
        ASSOCIATIONS.labels("rejected", answer.reason_str)
    for status in STATUSES:
        INSTANCES.labels("refused", status)
