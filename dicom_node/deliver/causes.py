"""Why a peer cannot be reached or does not let us in: one word for counters, one sentence with what to do.

The words are the same in the log, in the metrics, in ``jobs show`` and in ``check``.
"""

import contextlib
import errno
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, build_context

from dicom_node.access.tls import PROBE_SECONDS, handshake_failure, said
from dicom_node.settings import Destination

UNRESOLVED, REFUSED, UNREACHED = "host unresolved", "connection refused", "host unreachable"
SPEAKS_TLS, NO_TLS, TLS = "peer speaks TLS", "peer speaks no TLS", "TLS"
ABORTED, CLOSED, SILENT = "request aborted", "connection closed", "no answer"
CALLED, CALLING, REJECTED = "called AE title", "calling AE title", "association rejected"
BUSY, BROKEN, NOT_NOW = "peer busy", "association broke", "not now"
CONTEXTS, REFUSES, SETTINGS, COMMITMENT = "no context", "objects refused", "settings", "commitment"

VERIFICATION, STORAGE_COMMITMENT = "1.2.840.10008.1.1", "1.2.840.10008.1.20.1"
REASONS = {3: CALLING, 7: CALLED}
"""Of a rejection by the service user, PS3.8 table 9-21."""

SERVICE_USER = 0x01


@dataclass(frozen=True, slots=True)
class Cause:
    """``word``: which of the causes it is; ``sentence``: what happened, and what to do."""

    word: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls whom, and where."""

    host: str
    port: int
    called_ae: str
    calling_ae: str

    @classmethod
    def of(cls, destination: Destination, calling_ae: str) -> "Call":
        return cls(destination.host, destination.port, destination.ae_title, calling_ae)

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


def unresolved(call: Call, error: OSError) -> Cause:
    advice = "correct the host, or see to the name server"
    sentence = f"{call.where} cannot be resolved: {error.strerror}; {advice}"
    return Cause(UNRESOLVED, sentence)


def of_connection(call: Call, secured: Any) -> Cause:
    """There was no connection: looks once more, to learn why."""
    try:
        socket.create_connection((call.host, call.port), PROBE_SECONDS).close()
    except socket.gaierror as error:
        return unresolved(call, error)
    except OSError as error:
        cause = of_error(error)
        return Cause(cause.word, f"{_none(call.where)}: {cause.sentence}")
    if secured and (mistrust := of_handshake(call, secured)):
        return mistrust
    return Cause(BROKEN, f"{_none(call.where)}, though it takes connections now; see its log")


def of_error(error: OSError) -> Cause:
    """Why a TCP connection to somewhere failed; of any kind of server."""
    if isinstance(error, socket.gaierror):
        advice = "correct the host, or see to the name server"
        return Cause(UNRESOLVED, f"its host cannot be resolved: {error.strerror}; {advice}")
    if isinstance(error, ConnectionRefusedError):
        advice = "nothing listens there: start it, or correct host and port"
        return Cause(REFUSED, f"connection refused; {advice}")
    if isinstance(error, ssl.SSLError):
        return Cause(TLS, f"TLS: {said(error)}; does it speak TLS, and do certificates fit?")
    is_late = isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT
    what = "no answer from that address" if is_late else str(error.strerror or error)
    advice = "is the machine on and the host right, and does a firewall let us through?"
    return Cause(UNREACHED, f"{what}; {advice}")


def of_handshake(call: Call, secured: tuple[ssl.SSLContext, str]) -> Cause | None:
    """Why TLS does not come about with a peer that accepts connections; None where it does."""
    why = handshake_failure(call.host, call.port, secured)
    if speaks_dicom(call):
        advice = "set tls = false for it, or let it speak TLS"
        return Cause(NO_TLS, f"{_none(call.where)}: it speaks DICOM without TLS; {advice}")
    if not why:
        return None
    advice = "the authorities (ca), certificate and server_name must fit on both sides"
    return Cause(TLS, f"{_none(call.where)}: {why}; {advice}")


def speaks_tls_sentence(call: Call) -> Cause:
    advice = "set tls = true for it"
    return Cause(SPEAKS_TLS, f"{_none(call.where)}: it speaks TLS alone; {advice}")


def aborted(call: Call) -> Cause:
    advice = f"its log says why; does it know {call.calling_ae}?"
    return Cause(ABORTED, f"{_none(call.where)}: it aborted the request; {advice}")


def closed(call: Call) -> Cause:
    advice = f"is it a DICOM port, and does it hear this machine and {call.calling_ae}?"
    return Cause(CLOSED, f"{_none(call.where)}: it closed the connection at the request; {advice}")


def silent(call: Call, seconds: float) -> Cause:
    advice = "is it a DICOM port, and does the program behind it still work?"
    return Cause(
        SILENT, f"{_none(call.where)}: no answer to the request in {seconds:g} s; {advice}"
    )


def rejected(call: Call, answer: Any) -> Cause:
    """``answer``: the primitive of the rejection, PS3.8 section 9.3.4."""
    sentence = f"association rejected: {answer.reason_str}"
    word = REASONS.get(answer.diagnostic) if answer.result_source == SERVICE_USER else None
    if answer.result == 0x02:
        return Cause(BUSY, sentence)
    advice = {
        CALLED: f"{call.where} is not called {call.called_ae}; correct ae_title, or its own title",
        CALLING: f"{call.where} does not know {call.calling_ae}; enter it there with our address",
    }.get(word or "", f"enter {call.calling_ae} there; is it called {call.called_ae}?")
    return Cause(word or REJECTED, f"{sentence}; {advice}")


def speaks_tls(call: Call) -> bool:
    """Whether a peer shakes hands by TLS, whatever it thinks of us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((call.host, call.port), PROBE_SECONDS) as line:
            context.wrap_socket(line, server_hostname=call.host).close()
    except ssl.SSLError as error:
        # An alert is TLS as well; who speaks none sends what is no record, or ends.
        return "ALERT" in (error.reason or "")
    except (OSError, ValueError):
        return False
    return True


def speaks_dicom(call: Call) -> bool:
    """Whether a peer answers a request for an association without TLS, whatever it answers."""
    entity = AE(call.calling_ae)
    entity.connection_timeout = entity.acse_timeout = PROBE_SECONDS
    entity.network_timeout = PROBE_SECONDS
    with contextlib.suppress(OSError):
        contexts = [build_context(VERIFICATION)]
        association = entity.associate(call.host, call.port, contexts, call.called_ae)
        if association.is_established:
            association.release()
        return association.acceptor.primitive is not None
    return False


def _none(where: str) -> str:
    return f"no association with {where}"
