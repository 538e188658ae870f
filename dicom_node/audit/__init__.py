"""The audit trail: who did what, as audit messages of DICOM PS3.15 section A.5, to a file and by syslog.

Anything in the node records an event by a call; what is recorded is in the file, durably, before the call
returns. A server that is away stops nothing: the file is also the queue of what it has not got yet.
"""

from dicom_node.audit.events import (
    Peer,
    Transfer,
    accessed,
    begin_transferring,
    node_not_authenticated,
    transferred,
    user_authenticated,
)
from dicom_node.audit.trail import recording

__all__ = [
    "Peer",
    "Transfer",
    "accessed",
    "begin_transferring",
    "node_not_authenticated",
    "recording",
    "transferred",
    "user_authenticated",
]
