"""Hostile files, as they are and as if a scanner had sent them, and a sender that sends whatever it gets."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataelem import convert_raw_data_element as convert
from pydicom.filereader import data_element_generator, read_preamble
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.events import Event

from dicom_node.headers import MALFORMED
from dicom_node.receive.contexts import TRANSFER_SYNTAXES
from dicom_node.settings import Destination
from tests.test_receive import US, begin_store, p_data, wait_for

STUDY = b"1.2.3.4.5.99999.1"
"""The study that most of the files belong to."""

SOURCES = pytest.mark.skipif(
    "DICOM_NODE_TEST_DATA" not in os.environ, reason="DICOM_NODE_TEST_DATA is not set"
)
FRAGMENT_BYTES = 100_000


@dataclass(frozen=True)
class Hostile:
    """A data set without file meta, and what its file says that it is; invented where it says nothing."""

    name: str
    content: bytes
    sop_class: str
    sop_uid: str
    transfer_syntax: str


def files() -> list[Path]:
    folder = Path(os.environ["DICOM_NODE_TEST_DATA"], "hostile")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def as_ultrasound(content: bytes, number: int) -> bytes:
    """The same bytes, but of a study of their own, and ultrasound: assemble must look at them closely."""
    content = content.replace(b"\x08\x00\x60\x00CS\x02\x00CT", b"\x08\x00\x60\x00CS\x02\x00US")
    return content.replace(STUDY, f"1.2.3.4.5.9{number:04}.1".encode())


def read(path: Path, number: int) -> Hostile:
    """What a sender needs to know, from whatever can be read."""
    content = path.read_bytes()
    start, sop_class, sop_uid, syntax = 0, US, f"1.2.3.4.6.{number}", str(ExplicitVRLittleEndian)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as file:
                read_preamble(file, force=False)
                meta = data_element_generator(
                    file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2
                )
                values = {element.keyword: element.value for element in map(convert, meta)}
                start = file.tell()
            syntax = str(values["TransferSyntaxUID"])
            header = dcmread(
                path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"]
            )
            sop_class = str(header.get("SOPClassUID") or sop_class)
            sop_uid = str(header.get("SOPInstanceUID") or sop_uid)
    except MALFORMED:
        pass
    if UID(syntax) not in TRANSFER_SYNTAXES:
        syntax = str(ExplicitVRLittleEndian)
    return Hostile(path.name, content[start:], sop_class, sop_uid, syntax)


def send(hostile: Hostile, destination: Destination) -> int | None:
    """C-STORE the bytes as they are, over a context for ultrasound; None when the peer did not answer."""
    answers: list[int] = []

    def note(event: Event) -> None:
        answers.append(int(event.message.command_set.Status))

    association = AE("SCANNER").associate(
        destination.host,
        destination.port,
        [build_context(US, hostile.transfer_syntax)],
        destination.ae_title,
        evt_handlers=[(evt.EVT_DIMSE_RECV, note)],
    )
    assert association.is_established
    line = association.dul.socket.socket
    begin_store(line, hostile.sop_class, hostile.sop_uid)
    for fragment, control in fragments(hostile.content):
        line.sendall(p_data(fragment, control))
    wait_for(lambda: answers or not association.is_established, hostile.name)
    association.abort()
    return answers[0] if answers else None


def fragments(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Pieces of a data set; the control byte of the last one says so (PS3.8 annex E.2)."""
    pieces = [
        content[at : at + FRAGMENT_BYTES] for at in range(0, len(content), FRAGMENT_BYTES)
    ] or [b""]
    for number, piece in enumerate(pieces, start=1):
        yield piece, 0x02 if number == len(pieces) else 0x00
