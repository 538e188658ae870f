"""A stand-in archive: a Storage SCP that keeps whatever it is sent, for the demo and the tests."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    Verification,
)


@dataclass(frozen=True, slots=True)
class Archive:
    """A running archive: where it listens, and each file that arrives, in order."""

    ae_title: str
    port: int
    arrivals: "queue.Queue[Path]" = field(default_factory=queue.Queue)


@contextmanager
def archive(folder: Path, ae_title: str = "ARCHIVE") -> Iterator[Archive]:
    """Listen on a free loopback port until the block ends; files are named by SOP Instance UID."""
    entity = AE(ae_title)
    for sop_class in (
        Verification,
        SegmentationStorage,
        Comprehensive3DSRStorage,
        ComprehensiveSRStorage,
        ParametricMapStorage,
        SecondaryCaptureImageStorage,
    ):
        entity.add_supported_context(sop_class)
    arrivals: queue.Queue[Path] = queue.Queue()

    def store(event: Event) -> int:
        path = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        arrivals.put(path)
        return 0x0000

    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        yield Archive(ae_title, server.server_address[1], arrivals)
    finally:
        server.shutdown()
