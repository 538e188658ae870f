"""What scanners may send: presentation contexts, listed because a short list makes associations cheap."""

from pydicom import uid
from pynetdicom import build_context, register_uid
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

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


def supported_contexts() -> list[PresentationContext]:
    """Every storage class in every transfer syntax we can keep, and Verification."""
    for keyword, sop_class in RETIRED.items():
        register_uid(sop_class, keyword, StorageServiceClass)
    contexts = [build_context(sop_class, list(TRANSFER_SYNTAXES)) for sop_class in STORAGE]
    return [*contexts, build_context(Verification)]
