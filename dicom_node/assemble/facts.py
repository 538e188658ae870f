"""Which declaration is for an instance, and what of its header an analysis or a reader may need."""

from collections.abc import Mapping, Sequence

from pydicom import Dataset

from dicom_node.assemble.instances import Frame, Instance
from dicom_node.assemble.laterality import side_of
from dicom_node.assemble.pixels import decoder
from dicom_node.settings import Source as Declaration

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


def describe(frames: Sequence[Frame], own: Mapping[str, str]) -> dict[str, str]:
    """What an analysis or a reader may need: equipment and encoding, and nothing of the patient.

    The side is that of all ``frames``, the rest is that of the first. ``own`` are the facts that no header
    holds; what is empty is left out.
    """
    instance = frames[0].instance
    header = instance.header
    side, contradiction = side_of(frames)
    facts = {
        "manufacturer": header.get("Manufacturer"),
        "model": header.get("ManufacturerModelName"),
        "transducer": header.get("TransducerType")
        or _meaning(header, "TransducerGeometryCodeSequence"),
        "view": _meaning(header, "ViewCodeSequence"),
        "side": side,
        "depth_mm": header.get("DepthOfScanField"),
        "bits_stored": header.get("BitsStored"),
        "decoder": decoder(instance),
        "transfer_syntax": header.file_meta.TransferSyntaxUID.name,
        "lossy": "yes" if header.get("LossyImageCompression") == "01" else "",
    }
    cut = {key: str(value).strip()[:FACT_LENGTH] for key, value in facts.items() if value}
    own = {"side_contradiction": contradiction, **own}
    return cut | {key: value for key, value in own.items() if value}


def _meaning(header: Dataset, keyword: str) -> str:
    items = header.get(keyword) or ()
    return str(items[0].get("CodeMeaning") or "") if items else ""
