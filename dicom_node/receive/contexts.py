"""What scanners may send: presentation contexts, listed because a short list makes associations cheap.

Beside storage, what scanners ask of the same AE title: whether it is there, whether it keeps what it got, who
is to be examined. A scanner that is refused one of these may send nothing at all.
"""

from collections.abc import Sequence

from pydicom import uid
from pynetdicom import build_context, register_uid
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    LabelMapSegmentationStorage,
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    Verification,
)

RETIRED = {
    "UltrasoundImageStorageRetired": uid.UID("1.2.840.10008.5.1.4.1.1.6"),
    "UltrasoundMultiFrameImageStorageRetired": uid.UID("1.2.840.10008.5.1.4.1.1.3"),
}
"""Scanners still offer them; pynetdicom must be told that they are storage, or it aborts at the first."""

STORAGE = (
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    *RETIRED.values(),
    uid.EnhancedUSVolumeStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.BasicTextSRStorage,
    uid.EnhancedSRStorage,
    uid.ComprehensiveSRStorage,
    uid.Comprehensive3DSRStorage,
    uid.SegmentationStorage,
    uid.ParametricMapStorage,
    LabelMapSegmentationStorage,
    uid.EncapsulatedPDFStorage,
)

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
