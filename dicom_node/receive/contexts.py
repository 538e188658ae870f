"""What scanners may send: every storage class. The list is made once; no association copies it (Prepared).

Beside storage, what scanners ask of the same AE title: whether it is there, whether it keeps what it got, who
is to be examined. A scanner that is refused one of these may send nothing at all.
"""

from collections.abc import Sequence
from typing import cast

from pydicom import uid
from pydicom._uid_dict import UID_dictionary
from pynetdicom import AllStoragePresentationContexts, build_context, register_uid
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    Verification,
)

FIRST = (
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.UID("1.2.840.10008.5.1.4.1.1.6"),
    uid.UID("1.2.840.10008.5.1.4.1.1.3"),
    uid.EnhancedUSVolumeStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)
"""What ultrasound comes as; the third and the fourth are retired, and scanners still offer them."""


def _retired() -> dict[str, uid.UID]:
    """Retired storage classes; pynetdicom must be told that they are storage, or it aborts at the first."""
    return {
        keyword: uid.UID(number)
        for number, (name, kind, _, retired, keyword) in UID_dictionary.items()
        if kind == "SOP Class" and retired and "Storage" in name and "Commitment" not in name
    }


RETIRED = _retired()

STORAGE = tuple(
    dict.fromkeys(
        (
            *FIRST,
            *sorted(cast(uid.UID, each.abstract_syntax) for each in AllStoragePresentationContexts),
            *sorted(RETIRED.values()),
        )
    )
)
"""Every storage class about a patient: a sender that is refused one of them may send nothing at all.

What is about none (hanging protocols, implant templates) has no study that it could be kept with.
"""

TRANSFER_SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
)


SERVICES = (
    Verification,
    StorageCommitmentPushModel,
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
)

REASONS = {1: "role refused", 3: "abstract syntax not supported", 4: "no supported transfer syntax"}
"""Result of a rejected context, PS3.8 table 9-18."""


class Prepared(list[PresentationContext]):
    """Contexts that all associations share: pynetdicom copies them for each, and changes none."""

    def __deepcopy__(self, _memo: dict[int, object]) -> "Prepared":
        return self


def supported_contexts(private: Sequence[str] = ()) -> list[PresentationContext]:
    """Every storage class, private ones too, in every transfer syntax we can keep; and the services."""
    for keyword, sop_class in RETIRED.items():
        register_uid(sop_class, keyword, StorageServiceClass)
    for own in private:
        register_uid(own, f"Private_{own.replace('.', '_')}", StorageServiceClass)
    storage = dict.fromkeys([*STORAGE, *map(uid.UID, private)])
    contexts = [build_context(sop_class, list(TRANSFER_SYNTAXES)) for sop_class in storage]
    services = list(map(build_context, SERVICES))
    for service in services:
        if service.abstract_syntax == StorageCommitmentPushModel:
            # A scanner asks us; and a destination that we asked answers, on an association that it opens.
            service.scu_role = service.scp_role = True
    return [*contexts, *services]


def rejected(contexts: Sequence[PresentationContext]) -> dict[str, list[str]]:
    """What was offered and not taken, by the reason."""
    told: dict[str, list[str]] = {}
    for context in contexts:
        reason = REASONS.get(context.result or 0, f"result {context.result}")
        offered = " ".join(context.transfer_syntax)
        told.setdefault(reason, []).append(f"{context.abstract_syntax} in {offered}")
    return told
