"""The tables of statuses: what this node answers, and what it makes of the answers of others."""

from collections.abc import Iterator

from dicom_node.conformance.markdown import first_sentence, hexadecimal, table
from dicom_node.deliver import DUPLICATE, MOST_SILENT, NOT_SUPPORTED, statuses
from dicom_node.errors import Refused
from dicom_node.reasons import REASONS
from dicom_node.receive import commitment, procedure, stow

ADVICE = {
    "InvalidIdentifier": "Mend the UID at the source; sending it again changes nothing.",
    "Unreadable": "Send again once: it may have been cut off. Then mend it at the source.",
    "Mismatch": "Mend the sender: command and data set must name one instance.",
    "DuplicateInstance": "Give the other content a SOP Instance UID of its own. Ours is the first.",
    "Oversized": "Ask the node's administrator for a higher limit; sending it again changes nothing.",
    "StoreFull": "Send again later; nothing was kept.",
}
"""What the sender should do, by error."""

DELIVERED = "delivered; the status is kept and shown by `jobs show`"
AGAIN = "tried again later, see the pauses above; the others of the study are sent meanwhile"
REFUSED = "not tried again; the others of the study are sent"
PEERS = (
    ("0x0000", "stored", "delivered"),
    ("0xBxxx", "stored, with a warning", DELIVERED),
    *((hexadecimal(status), what, DELIVERED) for status, what in statuses.WARNINGS.items()),
    ("0xA7xx", statuses.OUT_OF_RESOURCES, AGAIN),
    *((hexadecimal(status), what, AGAIN) for status, what in statuses.NOT_NOW.items()),
    ("0xFExx, 0xFFxx", statuses.UNFINISHED, AGAIN),
    (
        f"{hexadecimal(DUPLICATE)}, after a send that was not answered, or where commitment is asked for",
        "duplicate SOP instance: it was stored, and the answer was lost",
        f"{DELIVERED}; storage commitment, where it is asked for, says whether the peer keeps it",
    ),
    (
        f"{hexadecimal(DUPLICATE)}, otherwise",
        "duplicate SOP instance: whose that is, nobody knows",
        REFUSED,
    ),
    ("0xA9xx, 0xCxxx, any other", "refused", REFUSED),
    (
        hexadecimal(NOT_SUPPORTED),
        "SOP class not supported; also said of a context not accepted",
        REFUSED,
    ),
    ("association rejected, transient", "busy", "tried again later"),
    (
        "association rejected, permanent",
        "AE title not known, or another reason that an administrator mends",
        "tried again later, as long as after a network fault; a warning in the log at once",
    ),
    (
        "no connection, no answer, aborted",
        "unreachable; of the object at which it happened it is unknown whether it is stored",
        "tried again later, first what was not tried; where connections are accepted the others are sent "
        f"meanwhile over a new one, until {MOST_SILENT} objects in a row get no answer in time",
    ),
)
"""Statuses by PS3.7 annex C and PS3.4 table B.2-1; rejections by PS3.8 section 9.3.4."""


def tables() -> dict[str, object]:
    return {
        "c_store": table(("status", "meaning", "what the SCU should do"), _c_store()),
        "peers": table(("answer of the peer", "it means", "what the node does"), PEERS),
        "n_action": table(("status", "meaning"), _n_action()),
        "commitment_failures": table(("Failure Reason", "meaning"), _failures()),
        "mpps": table(("operation", "status", "meaning"), _mpps()),
        "stow": table(("HTTP status", "meaning"), _stow()),
        "stow_reasons": table(("Failure Reason", "meaning"), _stow_reasons()),
        "reasons": table(
            ("code (99DICOMNODE)", "meaning", "advice in the report"),
            [(f"`{each.value}`", each.meaning, each.advice) for each in REASONS.values()],
        ),
    }


def _c_store() -> Iterator[tuple[str, str, str]]:
    kept = "The instance is on disk and in the index; also said of one that was here before."
    yield "0x0000", kept, "Nothing. It may delete its copy only after storage commitment."
    for error in Refused.__subclasses__():
        yield hexadecimal(error.status), first_sentence(error), ADVICE[error.__name__]
    other = "The program failed on this instance; its log says where."
    yield "0xC000", other, "Report it to the administrator of the node."


def _n_action() -> Iterator[tuple[str, str]]:
    yield hexadecimal(commitment.SUCCESS), "The request is kept; an N-EVENT-REPORT will answer it."
    yield hexadecimal(commitment.PROCESSING_FAILURE), "The database is away; ask again later."
    yield hexadecimal(commitment.INVALID_ARGUMENT), "No instance is named, or a UID is none."
    yield hexadecimal(commitment.NO_SUCH_ACTION), "The Action Type ID is not 1."


def _failures() -> Iterator[tuple[str, str]]:
    yield hexadecimal(commitment.NO_SUCH_INSTANCE), "It was not received, or is no longer kept."
    yield hexadecimal(commitment.CLASS_CONFLICT), "It was received as of another SOP class."
    lost = "It was received, and its file is missing or damaged: send it again."
    yield hexadecimal(commitment.PROCESSING_FAILURE), lost


def _mpps() -> Iterator[tuple[str, str, str]]:
    both, create, change = "N-CREATE, N-SET", "N-CREATE", "N-SET"
    yield both, hexadecimal(procedure.SUCCESS), "Recorded."
    yield both, hexadecimal(procedure.INVALID_VALUE), "The status is not one the step may have."
    missing = "No SOP Instance UID, or no study in Scheduled Step Attributes Sequence."
    yield create, hexadecimal(procedure.MISSING_ATTRIBUTE), missing
    yield create, hexadecimal(procedure.DUPLICATE), "The step is known."
    yield change, hexadecimal(procedure.NO_SUCH_INSTANCE), "The step is not known."
    ended = hexadecimal(procedure.MAY_NO_LONGER_BE_UPDATED)
    failure = hexadecimal(procedure.PROCESSING_FAILURE)
    yield change, failure, f"With Error ID {ended}: the step has ended."
    yield both, failure, "Without an Error ID: the database is away; try again later."


def _stow() -> Iterator[tuple[int, str]]:
    yield stow.OK, "All instances are stored."
    yield stow.ACCEPTED, "Some are stored; the body says why the others are not."
    yield stow.BAD_REQUEST, "No boundary, no parts, or the study of the path is no UID."
    yield stow.CONFLICT, "None is stored; the body says why."
    too_large = "None is stored: the request, or each instance in it, is larger than is taken."
    yield stow.TOO_LARGE, too_large
    yield stow.UNSUPPORTED_MEDIA, "The body is not multipart/related of application/dicom."
    yield (
        stow.BUSY,
        "None is stored for want of disk or database, or too many requests; try again later.",
    )


def _stow_reasons() -> Iterator[tuple[str, str]]:
    yield hexadecimal(stow.CLASS_NOT_SUPPORTED), "SOP class not in the list of accepted ones."
    yield hexadecimal(stow.SYNTAX_NOT_SUPPORTED), "Transfer syntax not in the list."
    yield "as for C-STORE", "All others."
