"""How a study is written: form, encoding and color, and which of them go together."""

from dataclasses import dataclass
from uuid import NAMESPACE_OID, uuid5

from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

FORMS = ("enhanced", "enhanced-apex", "multiframe", "frames", "frames-plain")
ENCODINGS = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "rle": RLELossless,
    "jpeg": JPEGBaseline8Bit,
    "jpeg-lossless": JPEGLosslessSV1,
    "jpeg-ls": JPEGLSLossless,
    "j2k": JPEG2000,
    "j2k-lossless": JPEG2000Lossless,
}
LOSSY = ("jpeg", "j2k")
NATIVE = ("implicit", "explicit", "big-endian")
COLORS = ("MONOCHROME2", "RGB", "YBR_FULL_422", "PALETTE COLOR")
ELASTICITY_UNITS = ("m/s", "cm/s", "kPa")


@dataclass(frozen=True, slots=True)
class Style:
    """One way to store a study.

    form        enhanced: Enhanced US Volume with patient geometry; enhanced-apex: with volume geometry only;
                multiframe: US Multi-frame with ultrasound regions and no frame step; frames: single frames
                with patient geometry; frames-plain: the same with regions and InstanceNumber only.
    encoding    a key of ``ENCODINGS``. jpeg and j2k are lossy.
    color       photometric interpretation of the B-mode.
    seed        all UIDs follow from the style, and so from this number.
    elasticity  unit of the stored shear wave: m/s, cm/s, or kPa (Young's modulus, E = 3 rho c^2).
    """

    form: str = "enhanced"
    encoding: str = "explicit"
    color: str = "MONOCHROME2"
    seed: int = 0
    elasticity: str = "m/s"
    manufacturer: str = "dicom-node"
    model: str = "stand-in scanner"
    station: str = "PHANTOM"

    def __post_init__(self) -> None:
        for name, known in (
            ("form", FORMS),
            ("encoding", tuple(ENCODINGS)),
            ("color", COLORS),
            ("elasticity", ELASTICITY_UNITS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {known}")
        if self.form.startswith("enhanced") and self.color != "MONOCHROME2":
            raise ValueError("an Enhanced US Volume is MONOCHROME2 (PS3.3 section C.8.24.3)")
        if self.color == "PALETTE COLOR" and self.encoding in LOSSY:
            raise ValueError("palette indices do not survive a lossy encoding")
        if self.color == "YBR_FULL_422" and self.encoding not in (*NATIVE, "jpeg"):
            raise ValueError(f"{self.encoding} has no halved chroma (PS3.5 section 8.2)")

    @property
    def transfer_syntax(self) -> UID:
        return ENCODINGS[self.encoding]

    @property
    def is_lossy(self) -> bool:
        return self.encoding in LOSSY

    def uid(self, what: str) -> UID:
        """A UID that only this style and this word give (PS3.5 section B.2)."""
        return UID(f"2.25.{uuid5(NAMESPACE_OID, f'{self}|{what}').int}")
