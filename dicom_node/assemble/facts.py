"""Which declaration is for an instance, and what of its header an analysis or a reader may need."""

from collections.abc import Mapping, Sequence

from pydicom import Dataset

from dicom_node.assemble.instances import Frame, Instance
from dicom_node.assemble.pixels import decoder
from dicom_node.settings import Source as Declaration

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


def declaration(instance: Instance, sources: Sequence[Declaration]) -> Declaration | None:
    """The first declaration whose every given key equals the instance's."""
    return declaration_of(instance.header, instance.stored.calling_ae, sources)


def declaration_of(
    header: Dataset, calling_ae: str, sources: Sequence[Declaration]
) -> Declaration | None:
    """The same of a header, and of the AE title that it came from."""
    own = {
        "ae_title": calling_ae,
        "manufacturer": header.get("Manufacturer"),
        "model": header.get("ManufacturerModelName"),
        "station": header.get("StationName"),
        "series": header.get("SeriesDescription"),
    }
    for source in sources:
        wanted = {key: getattr(source.match, key).strip() for key in own}
        if all(str(own[key] or "").strip() == value for key, value in wanted.items() if value):
            return source
    return None


def describe(frame: Frame, own: Mapping[str, str]) -> dict[str, str]:
    """What an analysis or a reader may need: equipment and encoding, and nothing of the patient.

    ``own`` are the facts that the header does not hold; what is empty is left out.
    """
    instance = frame.instance
    header = instance.header
    facts = {
        "manufacturer": header.get("Manufacturer"),
        "model": header.get("ManufacturerModelName"),
        "transducer": header.get("TransducerType")
        or _meaning(header, "TransducerGeometryCodeSequence"),
        "view": _meaning(header, "ViewCodeSequence"),
        "side": _side(frame),
        "depth_mm": header.get("DepthOfScanField"),
        "bits_stored": header.get("BitsStored"),
        "decoder": decoder(instance),
        "transfer_syntax": header.file_meta.TransferSyntaxUID.name,
        "lossy": "yes" if header.get("LossyImageCompression") == "01" else "",
    }
    cut = {key: str(value).strip()[:FACT_LENGTH] for key, value in facts.items() if value}
    return cut | {key: value for key, value in own.items() if value}


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


def _meaning(header: Dataset, keyword: str) -> str:
    items = header.get(keyword) or ()
    return str(items[0].get("CodeMeaning") or "") if items else ""
