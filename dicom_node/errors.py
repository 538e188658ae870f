"""Everything that can go wrong; what keeps a study from being analyzed carries the reason that is sent back.

NodeError
 |- SettingsError            a key, its file, the allowed values           exit code 2
 |- Refused(status)          an instance is not taken
 |   |- InvalidIdentifier    0xC000   |- Unreadable          0xC000
 |   |- Mismatch             0xA900   |- DuplicateInstance   0xC001
 |   |- StoreFull            0xA700      |- Oversized           0xC002
 |- StudyError               instances that cannot become a Scan
 |   |- NotUltrasound        |- GeometryUnknown     |- Incomplete
 |   |- UnsupportedPixels    |- TooLarge
 |   |- SeveralPatients      |- UnusableIdentifier   nothing is sent under anybody's name
 |- AnalysisError            a study that cannot be analyzed, with the code of its answer   a dead letter
 |   |- WeightsMismatch      |- MemoryShort   |- AnalysisTooSlow   |- AnalysisDied   |- AnalysisFailed
 |- StoreAway                the object store does not answer, denies or is full            retried
 |- FileLost                 a kept file is gone or damaged                                 a dead letter
 |- SetAside                 a stage whose machine was lost again and again                 a dead letter
 |- DiskFull                 a stage found no room for what it makes; it waits, and goes on by itself
 |- CannotListen             a port is held by another program, or is not ours to take
 |- AskedToStop              told to stop while it waited; no fault
 |- ExamplesError            DICOM that cannot become training examples
 |- ReportError              an object that cannot be written rightly
 |   |- NotConformant        it was written, and did not pass its check     a dead letter
 |- DeliveryError            a destination did not take the results
     |- Unreachable          retried                 |- Busy         retried (0xA7xx, 0x0110, 0x0213)
     |- Rejected             retried: an administrator mends it
     |- Declined             a dead letter (0xA9xx, 0xCxxx)

Statuses: PS3.4 table B.2-1. Each error keeps the UIDs of what it is about; none holds patient data.
"""

import errno
import os
from typing import Any, ClassVar

from dicom_node import reasons


class NodeError(Exception):
    """Something the person who runs the node, or the sender, can act upon."""


class SettingsError(NodeError):
    """A setting is unknown, of the wrong type or out of range."""


class MalformedRequest(NodeError):
    """A request for an association cannot be decoded (PS3.8 section 9.3.2)."""


class Refused(NodeError):
    """An instance is not taken; ``status`` is the C-STORE status the sender gets."""

    status = 0xC000

    def __init__(self, sop_instance_uid: str, reason: str) -> None:
        super().__init__(sop_instance_uid, reason)
        self.sop_instance_uid = sop_instance_uid
        self.reason = reason

    def __str__(self) -> str:
        return f"instance {self.sop_instance_uid or '(no UID)'} refused: {self.reason}"


class InvalidIdentifier(Refused):
    """A UID is missing or is not a UID (PS3.5 section 9.1)."""


class Unreadable(Refused):
    """The data set cannot be parsed, or is empty."""


class Mismatch(Refused):
    """The data set is another one than the command announced."""

    status = 0xA900


class DuplicateInstance(Refused):
    """The same SOP Instance UID arrived before with other content."""

    status = 0xC001


class Oversized(Refused):
    """The instance is larger than receive.limits allow."""

    status = 0xC002


class StoreFull(Refused):
    """Disk or database cannot take the instance now; the sender should try again."""

    status = 0xA700


class StudyError(NodeError):
    """The instances of a study cannot become a Scan; ``code`` is the reason that is sent back."""

    code = reasons.UNDECODABLE

    def __init__(self, study_uid: str, reason: str) -> None:
        super().__init__(study_uid, reason)
        self.study_uid = study_uid
        self.reason = reason

    def __str__(self) -> str:
        return f"study {self.study_uid}: {self.reason}"


class NotUltrasound(StudyError):
    """The instance is no image, or an image of another modality."""

    code = reasons.NOT_ULTRASOUND


class GeometryUnknown(StudyError):
    """A distance is needed that neither the object nor the configuration gives."""

    code = reasons.NO_GEOMETRY


class UnsupportedPixels(StudyError):
    """The pixels cannot be decoded, or are of a kind no analysis takes."""


class TooLarge(UnsupportedPixels):
    """Decoding would take more memory than the settings allow; found before anything is decoded."""

    code = reasons.TOO_LARGE


class Incomplete(StudyError):
    """Frames are missing, or there are too few for a volume."""

    code = reasons.INCOMPLETE


class SeveralPatients(StudyError):
    """The instances of one study name more than one patient, so that no result can be told whose it is."""

    code = reasons.OTHER_PATIENT


class UnusableIdentifier(StudyError):
    """A Patient ID, or its issuer, cannot be carried exactly, and any other one is another patient."""

    code = reasons.PATIENT_ID


class AnalysisError(NodeError):
    """An analysis cannot run; ``code`` is the reason that is sent back."""

    code = reasons.INTERNAL_ERROR


class WeightsMismatch(AnalysisError):
    """The weights file is not the one its card names."""


class MemoryShort(AnalysisError):
    """The analyses need more memory than there is."""

    code = reasons.OUT_OF_MEMORY


class AnalysisTooSlow(AnalysisError):
    """The analyses did not end within their deadline."""

    code = reasons.TOO_SLOW


class AnalysisDied(AnalysisError):
    """The process of the analyses ended by itself."""


class AnalysisFailed(AnalysisError):
    """An analysis raised what it should not."""


class StoreAway(NodeError):
    """The object store, or the way to it, cannot be used now; ``where`` is its URL."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"object store {self.where}: {self.reason}"


class FileLost(NodeError):
    """A kept file is gone, or has not its content any more; ``path`` as in the index."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path = path
        self.what = what

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; see `dicom-node check --deep`"


class SetAside(NodeError):
    """The machines that worked on a stage were lost so often that it is not tried again."""


class DiskFull(NodeError):
    """A disk of the node has no room for what a stage or a start writes."""


class CannotListen(NodeError):
    """A port cannot be listened on: held by another program, forbidden, or of an address that is not ours."""

    ADVICE: ClassVar[dict[int, str]] = {
        errno.EADDRINUSE: "who holds the port (ss -ltnp)? stop it, or choose another port",
        errno.EADDRNOTAVAIL: "the host is no address of this machine (ip addr)",
        errno.EACCES: "ports below 1024 need the capability CAP_NET_BIND_SERVICE, which the unit gives",
    }

    def __init__(self, where: str, error: OSError) -> None:
        super().__init__(where, error)
        self.where = where
        number = error.errno or 0
        # What a library has added to it names the address twice.
        self.reason = os.strerror(number) if number in self.ADVICE else str(error.strerror)
        self.advice = self.ADVICE.get(number, "is the host right?")

    def __str__(self) -> str:
        return f"cannot listen on {self.where}: {self.reason}; {self.advice}"


class AskedToStop(NodeError):
    """A process was told to stop while it waited for something it needs; no fault of its own."""


class ExamplesError(NodeError):
    """A SEG or its segment cannot become the labels of a scan; names both."""


class ReportError(NodeError):
    """A result cannot be written as a right DICOM object."""


class NotConformant(ReportError):
    """Objects were written that may not leave the node; ``written`` are all of the study, with verdicts."""

    def __init__(self, sentence: str, written: tuple[Any, ...] = ()) -> None:
        super().__init__(sentence)
        self.written = written


class DeliveryError(NodeError):
    """A destination did not take the results; ``cause`` is one of the words of ``deliver.causes``."""

    def __init__(self, destination: str, reason: str, cause: str = "") -> None:
        super().__init__(destination, reason)
        self.destination = destination
        self.reason = reason
        self.cause = cause

    def __str__(self) -> str:
        return f"destination {self.destination}: {self.reason}"


class Unreachable(DeliveryError):
    """No association could be made, or it broke."""


class Busy(DeliveryError):
    """The destination does not take it now (0xA7xx, 0x0110, 0x0213, transient rejection)."""


class Rejected(DeliveryError):
    """The destination rejects our associations (permanent), until an administrator mends it."""


class Declined(DeliveryError):
    """The destination refuses the object for good (0xA9xx, 0xCxxx, no presentation context)."""


def reason_of(kind: str) -> reasons.Reason:
    """What is sent back for an error of this class, or for none that is known."""
    found: reasons.Reason = getattr(globals().get(kind), "code", reasons.INTERNAL_ERROR)
    return found
