"""One acquisition: decoded channels, tissue region and facts of a placed stack and its elasticity map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from dicom_node.assemble.elasticity import decode_speed
from dicom_node.assemble.instances import Frame, Instance, malformed
from dicom_node.assemble.pixels import Gray, decode_gray, decoder
from dicom_node.assemble.placement import Placed
from dicom_node.assemble.regions import beside_fan
from dicom_node.errors import StudyError, TooLarge, UnsupportedPixels
from dicom_node.settings import Source as Declaration
from dicom_node.study import Acquisition
from models.scan import Scan

CHANNELS = ("b-mode", "shear-wave-speed", "shear-wave-valid")
UNITS = ("1", "m/s", "1")
SIDES = {"L": "left", "R": "right", "B": "both"}
# SNOMED CT, and SNOMED RT as older scanners write it.
SIDE_CODES = {
    "7771000": "left",
    "G-A101": "left",
    "24028007": "right",
    "G-A100": "right",
    "51440002": "both",
    "G-A102": "both",
}
# Facts are shown to people; a manufacturer's free text is cut to what a line holds.
FACT_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Assembled:
    """An acquisition, and why its elasticity map is not in it, or "" when it is or when there is none."""

    acquisition: Acquisition
    left_out: str = ""


def declaration(instance: Instance, sources: Sequence[Declaration]) -> Declaration | None:
    """The first declaration whose every given key equals the instance's."""
    header = instance.header
    own = {
        "ae_title": instance.stored.calling_ae,
        "manufacturer": header.get("Manufacturer"),
        "model": header.get("ManufacturerModelName"),
        "station": header.get("StationName"),
    }
    for source in sources:
        wanted = {key: getattr(source.match, key).strip() for key in own}
        if all(str(own[key] or "").strip() == value for key, value in wanted.items() if value):
            return source
    return None


def assemble_scan(
    study_uid: str,
    tissue: Placed,
    elastic: Placed | None,
    declared: Declaration | None,
    largest_bytes: int,
) -> Assembled:
    """Decode the B-mode and its elasticity map into one Scan.

    A map that cannot become m/s for certain is left out with its reason, the B-mode stays. Raises TooLarge
    before anything is decoded that takes more than ``largest_bytes``, UnsupportedPixels when the B-mode
    cannot be decoded or shows nothing, Incomplete when frames are missing.
    """
    shape = tissue.stack.shape
    count = 3 if elastic else 1
    if (needed := 4 * count * int(np.prod(shape))) > largest_bytes:
        room = f"{needed >> 20} MiB decoded, and {largest_bytes >> 20} MiB are left for it"
        raise TooLarge(study_uid, f"the sweep is too large: {room}")
    voxels = np.zeros((count, *shape), np.float32)
    gray = decode_gray(study_uid, tissue.stack, voxels[0])
    if gray.levels.min() == gray.levels.max():
        raise UnsupportedPixels(study_uid, "the images are blank: every pixel has the same value")
    left_out = ""
    if elastic:
        meaning = declared.elasticity if declared else ""
        try:
            decode_speed(study_uid, elastic.stack, meaning, voxels[1], voxels[2])
        except StudyError as error:
            left_out, voxels = error.reason, voxels[:1].copy()
    valid = tissue.inside & ~beside_fan(voxels[0], tissue.inside)
    if gray.overlay is not None:
        valid &= ~gray.overlay
    with malformed(study_uid, "the description of the acquisition cannot be read"):
        facts = _facts(tissue, gray)
    scan = Scan(
        voxels,
        CHANNELS[: len(voxels)],
        UNITS[: len(voxels)],
        valid,
        tissue.affine,
        tissue.geometry,
        "US",
        facts | ({"shear_wave_left_out": left_out} if left_out else {}),
    )
    stacks = [tissue.stack] + ([elastic.stack] if elastic and not left_out else [])
    return Assembled(Acquisition(scan, tuple(stack.origin() for stack in stacks)), left_out)


def _facts(tissue: Placed, gray: Gray) -> dict[str, str]:
    """What an analysis or a reader may need: equipment and encoding, and nothing of the patient."""
    instance = tissue.stack.frames[0].instance
    header = instance.header
    facts = {
        "manufacturer": header.get("Manufacturer"),
        "model": header.get("ManufacturerModelName"),
        "transducer": header.get("TransducerType")
        or _meaning(header, "TransducerGeometryCodeSequence"),
        "view": _meaning(header, "ViewCodeSequence"),
        "side": _side(tissue.stack.frames[0]),
        "depth_mm": header.get("DepthOfScanField"),
        "bits_stored": header.get("BitsStored"),
        "decoder": decoder(instance),
        "transfer_syntax": header.file_meta.TransferSyntaxUID.name,
        "lossy": "yes" if header.get("LossyImageCompression") == "01" else "",
        "color": _color(gray),
        "geometry_notes": "; ".join(tissue.notes),
    }
    return {key: str(value).strip()[:FACT_LENGTH] for key, value in facts.items() if value}


def _side(frame: Frame) -> str:
    """left, right or both; "" where the scanner does not say, or says two things.

    Laterality of the frame, the image or the series, or the modifier of the anatomic region (PS3.3 C.7.6.1,
    C.7.3.1, 10.5; CID 244).
    """
    header = frame.instance.header
    letters = [frame.value("FrameAnatomySequence", "FrameLaterality")]
    letters += [header.get("ImageLaterality"), header.get("Laterality")]
    said = {SIDES.get(str(letter or "")) for letter in letters}
    for region in header.get("AnatomicRegionSequence") or ():
        for modifier in region.get("AnatomicRegionModifierSequence") or ():
            said.add(SIDE_CODES.get(str(modifier.get("CodeValue") or "")))
    known = {side for side in said if side}
    return known.pop() if len(known) == 1 else ""


def _color(gray: Gray) -> str:
    if gray.is_tinted:
        return "tinted"
    return "overlay" if gray.overlay is not None and gray.overlay.any() else "gray"


def _meaning(header: Dataset, keyword: str) -> str:
    items = header.get(keyword) or ()
    return str(items[0].get("CodeMeaning") or "") if items else ""
