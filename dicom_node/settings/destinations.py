"""Who gets the results, and in which form: [[destinations]]."""

from dataclasses import dataclass

from dicom_node.settings.access import Link
from dicom_node.settings.allowed import AE_TITLE, NOT_EMPTY, OBJECTS, between, key, one_of


@dataclass(frozen=True, slots=True)
class Destination(Link):
    """[[destinations]]: a Storage SCP that gets the results."""

    name: str = key("", "how jobs and logs call it; no two alike", NOT_EMPTY)
    ae_title: str = key("", "the archive's AE title", AE_TITLE)
    host: str = key("", "the archive's address", NOT_EMPTY)
    port: int = key(104, "the archive's port; 104 is what most archives use", between(1, 65535))
    refusals: bool = key(True, "also reports that say why a study was not analyzed")
    objects: tuple[str, ...] = key(
        ("SEG", "SR", "PM", "SC"),
        "what it gets; a map (PM) only of measured geometry; a PDF repeats the SC pages",
        OBJECTS,
    )
    sr: str = key(
        "comprehensive-3d",
        "class of the reports; some viewers read Comprehensive SR alone",
        one_of("comprehensive-3d", "comprehensive"),
    )
    seg: str = key(
        "binary", "more viewers read it than the quicker label map", one_of("binary", "labelmap")
    )
    seg_frames: str = key(
        "sparse",
        "dense also writes empty frames, for viewers that count frames",
        one_of("sparse", "dense"),
    )
    encoding: str = key(
        "explicit",
        "every archive reads it; deflated: all objects; j2k: lossless JPEG 2000 of SEG and SC",
        one_of("explicit", "deflated", "j2k"),
    )
    commitment: bool = key(
        False,
        "also ask it to commit to what it got; not every archive answers, and some take hours",
    )
    companion: bool = key(
        False, "also single images of square pixels, to which all else refers; for simple viewers"
    )
