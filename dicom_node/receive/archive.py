"""A stand-in archive: a Storage SCP that keeps whatever it is sent, for the demo and the tests."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydicom import uid
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

KEPT = (
    uid.UID("1.2.840.10008.1.1"),  # Verification
    uid.SegmentationStorage,
    uid.Comprehensive3DSRStorage,
    uid.ComprehensiveSRStorage,
    uid.ParametricMapStorage,
    uid.SecondaryCaptureImageStorage,
)


@dataclass(frozen=True, slots=True)
class Archive:
    """A running archive: where it listens, and each file that arrives, in order."""

    ae_title: str
    port: int
    arrivals: "queue.Queue[Path]"


@contextmanager
def archive(folder: Path, ae_title: str = "ARCHIVE") -> Iterator[Archive]:
    """Listen on a free loopback port until the block ends; files are named by SOP Instance UID."""
    entity = AE(ae_title)
    for sop_class in KEPT:
        entity.add_supported_context(sop_class)
    arrivals: queue.Queue[Path] = queue.Queue()

    def store(event: Event) -> int:
        request = cast(C_STORE, event.request)
        path = folder / f"{request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        arrivals.put(path)
        return 0x0000

    handlers: list[Any] = [(evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield Archive(ae_title, server.server_address[1], arrivals)
    finally:
        server.shutdown()
