"""The Storage and Verification SCP: from a scanner's association to rows in the index."""

import contextlib
import logging
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any, cast

from dbos import DBOSClient
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from dicom_node import index
from dicom_node.errors import DuplicateInstance, Refused, StoreFull, Unreadable
from dicom_node.receive.contexts import supported_contexts
from dicom_node.receive.server import HardServer, harden
from dicom_node.receive.store import Folders, check_command, keep, read_header
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

SUCCESS = 0x0000
CANNOT_UNDERSTAND = 0xC000
HIGH_PRIORITY = 1  # PS3.7 table 9.3-1
STAT, ROUTINE = 1, 5

MAXIMUM_PDU_BYTES = 131072
MAXIMUM_ASSOCIATIONS = 64
ACSE_SECONDS, NETWORK_SECONDS, DIMSE_SECONDS = 5, 60, 30
"""Idle sockets go soon; a scanner may pause between images."""

BUSY_SECONDS = 10.0
"""How long the database may keep a scanner waiting: below the DIMSE time-out of every scanner we know."""

HOUSEKEEPING_SECONDS, AFTER_FAILURE_SECONDS = 0.2, 10.0
ABANDONED_SECONDS = 3600.0
"""An unfinished instance to which nothing was added for so long will not be finished."""


class Receiver:
    """A listening SCP. Owns its process: pynetdicom's chunked receive and tempfile's folder are global."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._folders = Folders(settings.node.data_dir.absolute())
        self._engine = index.open_engine(settings.node.database_url, BUSY_SECONDS)
        self._client: DBOSClient = index.open_client(self._engine)
        self._open: dict[Association, str] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._folders.create()
        index.forget_associations(self._engine, name)
        _config.STORE_RECV_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"
        tempfile.tempdir = str(self._folders.incoming)
        self._server = self._listen()
        self._sweep()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True),
            threading.Thread(target=self._keep_house, daemon=True),
        ]

    @property
    def port(self) -> int:
        """The bound port, also where the settings said 0."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to accept."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop accepting and abort what is open: its senders heard no Success and will send again."""
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort()
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._client.destroy()
        self._engine.dispose()

    def _listen(self) -> HardServer:
        entity = AE(self._settings.node.ae_title)
        entity.supported_contexts = supported_contexts()
        entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
        entity.maximum_associations = MAXIMUM_ASSOCIATIONS
        entity.require_called_aet = True
        entity.acse_timeout = ACSE_SECONDS
        entity.network_timeout = NETWORK_SECONDS
        entity.dimse_timeout = DIMSE_SECONDS
        server: HardServer = entity.make_server(  # type: ignore[assignment]
            (self._settings.receive.host, self._settings.receive.port),
            evt_handlers=[
                (evt.EVT_CONN_OPEN, harden),
                (evt.EVT_ACCEPTED, self._on_accepted),
                (evt.EVT_REJECTED, self._on_rejected),
                (evt.EVT_C_STORE, self._on_c_store),
            ],
            server_class=HardServer,  # type: ignore[arg-type]
        )
        return server

    def _on_accepted(self, event: Event) -> None:
        """Say once per association what was offered and not taken."""
        rejected = {str(context.abstract_syntax) for context in event.assoc.rejected_contexts}
        if rejected:
            _log("contexts rejected", **_peer(event.assoc), sop_classes=sorted(rejected))

    def _on_rejected(self, event: Event) -> None:
        _log("association rejected", **_peer(event.assoc))

    def _on_c_store(self, event: Event) -> int:
        """The order of this handler is the promise: nothing is acknowledged that is not durable."""
        started = time.monotonic()
        sop_uid = str(cast(C_STORE, event.request).AffectedSOPInstanceUID or "")[:64]
        path: Path | None = event.dataset_path
        try:
            arrival, new = self._take(event, path)
        except Refused as error:
            what = {"instance": sop_uid, "status": f"0x{error.status:04X}", "reason": error.reason}
            _log("instance refused", **_peer(event.assoc), **what)
            return error.status
        except Exception as error:  # the sender must get an answer, whatever happened
            what = {"instance": sop_uid, "status": "0xC000", "reason": type(error).__name__}
            LOGGER.exception("instance failed", extra={"fields": _peer(event.assoc) | what})
            return CANNOT_UNDERSTAND
        finally:
            if path:
                path.unlink(missing_ok=True)
        seconds = round(time.monotonic() - started, 4)
        where = _peer(event.assoc) | {"study": arrival.study_uid, "instance": sop_uid}
        _log("received", **where, bytes=arrival.bytes, new=new, seconds=seconds)
        return SUCCESS

    def _take(self, event: Event, path: Path | None) -> tuple[index.Arrival, bool]:
        """Check, make durable, remember; returns what arrived and whether it is new. Raises Refused."""
        request, association = cast(C_STORE, event.request), event.assoc
        sop_uid = str(request.AffectedSOPInstanceUID or "")
        sop_class = str(request.AffectedSOPClassUID or "")
        check_command(sop_class, sop_uid)
        if path is None:
            raise Unreadable(sop_uid, "the command announces no data set")
        header = read_header(path, sop_class, sop_uid)
        size = path.stat().st_size
        sha256, kept = keep(path, self._folders.store, sop_uid)
        arrival = index.Arrival(
            **{name: getattr(header, name) for name in header.__slots__},
            sha256=sha256,
            bytes=size,
            path=str(kept.relative_to(self._folders.data)),
            calling_ae=association.requestor.ae_title,
            peer=association.requestor.address,
        )
        priority = STAT if request.Priority == HIGH_PRIORITY else ROUTINE
        carrier = index.Carrier(self._name_of(association), self._name, priority)
        quiet_seconds = self._settings.receive.quiet_seconds
        try:
            new = index.accept(self._engine, self._client, arrival, carrier, quiet_seconds)
        except DuplicateInstance:
            keep(kept, self._folders.quarantine, sop_uid)
            raise
        except index.DATABASE_AWAY as error:
            raise StoreFull(sop_uid, "the database is away or busy") from error
        return arrival, new

    def _name_of(self, association: Association) -> str:
        with self._lock:
            return self._open.setdefault(association, uuid.uuid4().hex)

    def _keep_house(self) -> None:
        """Record ended associations, however they ended, and remove what they left unfinished."""
        while not self._stopping.wait(HOUSEKEEPING_SECONDS):
            try:
                self._release_ended()
                self._sweep()
            except (*index.DATABASE_AWAY, OSError) as error:
                _log("housekeeping failed", reason=type(error).__name__)
                self._stopping.wait(AFTER_FAILURE_SECONDS)

    def _release_ended(self) -> None:
        for association in [each for each in list(self._open) if not each.is_alive()]:
            index.release(self._engine, self._open[association])
            with self._lock:
                del self._open[association]

    def _sweep(self) -> None:
        """Remove unfinished files that no association can still be writing."""
        # The order matters: what is listed before nobody is there was left by somebody who has gone.
        unfinished = list(self._folders.incoming.iterdir())
        idle = not self._server.active_associations
        for path in unfinished:
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                if idle or time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()
                    _log("unfinished instance removed")


def _peer(association: Association) -> dict[str, Any]:
    requestor = association.requestor
    return {"calling_ae": requestor.ae_title, "peer": requestor.address}


def _log(event: str, **fields: Any) -> None:
    LOGGER.info(event, extra={"fields": fields})
