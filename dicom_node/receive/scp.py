"""The Storage SCP and what scanners ask beside it: from an association to rows in the index."""

import contextlib
import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from dbos import DBOSClient
from pynetdicom import AE, _config, dimse_messages, evt, timer
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from dicom_node import index
from dicom_node.access import start
from dicom_node.access.logins import Logins
from dicom_node.access.rules import Rules
from dicom_node.access.serving import Guarded
from dicom_node.access.tls import server_context
from dicom_node.access.users import users_path
from dicom_node.clock import STEADY, Clock
from dicom_node.counters import ASSOCIATIONS
from dicom_node.files import open_files
from dicom_node.files.content import sync_folder
from dicom_node.receive.answers import Answers
from dicom_node.receive.carriers import Carriers
from dicom_node.receive.commitment import Commitments
from dicom_node.receive.contexts import Prepared, rejected, supported_contexts
from dicom_node.receive.door import Doorkeeper, DoorServer
from dicom_node.receive.incoming import Arrivals, Bound
from dicom_node.receive.intake import ROUTINE, STAT, Handed, Intake, Sender, rules_of
from dicom_node.receive.ledger import Ledger
from dicom_node.receive.procedure import ProcedureSteps
from dicom_node.receive.refusals import TurnedAway, begin_counting, rejection, turned_away
from dicom_node.receive.server import hardener, release
from dicom_node.receive.web import stow_server
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

HIGH_PRIORITY = 1  # PS3.7 table 9.3-1

MAXIMUM_PDU_BYTES = 131072

BUSY_SECONDS = 10.0
"""How long the database may keep a scanner waiting: below the DIMSE time-out of every scanner we know."""

HOUSEKEEPING_SECONDS, AFTER_FAILURE_SECONDS = 0.2, 10.0
ABANDONED_SECONDS = 3600.0
"""An unfinished file to which nothing was added for so long will not be finished."""


class Receiver:
    """A listening SCP. Owns its process: pynetdicom's chunked receive and tempfile's folder are global.

    ``listener``: the socket to accept from, where several processes do; without, the port is bound here.
    """

    def __init__(
        self, settings: Settings, name: str, listener: socket.socket | None = None
    ) -> None:
        start.refuse(settings, ("receive",))
        self._settings = settings
        self._engine = index.open_engine(settings.node.database_url, BUSY_SECONDS)
        self._client: DBOSClient = index.open_client(self._engine)
        self._stopping = threading.Event()
        self._clock = Clock()
        self._ledger = Ledger(settings.node.ae_title)
        rules = rules_of(settings)
        self._carriers = Carriers(self._engine, self._client, name, rules, self._ledger)
        stir = self._carriers.stir
        self._intake = Intake(settings, self._engine, self._client, stir, self._ledger)
        self._commitments = Commitments(settings, self._engine, self._carriers.stir)
        files = open_files(settings)
        self._incoming = settings.node.data_dir.absolute() / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        files.create()
        sync_folder(self._incoming.parent)
        # Where files are shared, other receivers copy to the same folder.
        self._swept = {self._incoming, *files.unfinished}
        limits = settings.receive.limits
        # Without the machine's name, as the folder is this machine's own.
        owner = name.rpartition(":")[2]
        self._arrivals = Arrivals(
            self._incoming, owner, Bound(limits.instance_bytes, self._intake.space.is_short)
        )
        _config.STORE_RECV_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"
        begin_counting()
        timer.time = STEADY  # type: ignore[assignment]
        dimse_messages.NamedTemporaryFile = self._arrivals.begin  # type: ignore[misc,assignment]
        tempfile.tempdir = str(self._incoming)  # for what comes through the web
        self._sweep(0.0)  # nobody can send yet: what lies there was cut off with the last process
        self._server = self._listen(listener)
        self._web = self._listen_web()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True),
            threading.Thread(target=self._repeat, args=(self._keep_house,), daemon=True),
            threading.Thread(
                target=self._repeat, args=(self._commitments.answer_due,), daemon=True
            ),
        ]

    @property
    def port(self) -> int:
        """The bound port, also where the settings said 0."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to accept."""
        for thread in self._threads:
            thread.start()
        if self._web:
            self._web.start()

    def stop(self) -> None:
        """Stop accepting, let senders finish for a while, and abort the others: they will send again."""
        self._server.shutdown()
        if self._web:
            self._web.stop()
        end = time.monotonic() + self._settings.node.drain_seconds
        while (sending := self._established()) and time.monotonic() < end:
            time.sleep(HOUSEKEEPING_SECONDS)
        for association in sending:
            association.abort()
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._ledger.close_all()
        self._client.destroy()
        self._engine.dispose()

    def _established(self) -> list[Association]:
        """Not those that have only connected: a health check's last one would be waited for."""
        return [each for each in self._server.active_associations if each.is_established]

    def _listen(self, listener: socket.socket | None) -> DoorServer:
        entity = AE(self._settings.node.ae_title)
        contexts = Prepared(supported_contexts(self._settings.receive.private_sop_classes))
        entity.supported_contexts = contexts
        entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
        limits = self._settings.receive.limits
        entity.maximum_associations = limits.associations
        entity.require_called_aet = True
        entity.acse_timeout = limits.request_seconds
        entity.network_timeout = limits.idle_seconds
        entity.dimse_timeout = limits.dimse_seconds
        answers = Answers(self._engine, self._client)
        steps = ProcedureSteps(self._engine, self._carriers.stir)
        access = self._settings.access
        logins = Logins(users_path(self._settings)) if access.user_identity else None
        rules = Rules(access, logins)
        server: DoorServer = entity.make_server(  # type: ignore[assignment]
            (self._settings.receive.host, self._settings.receive.port),
            evt_handlers=[
                (evt.EVT_CONN_OPEN, hardener(limits)),
                (evt.EVT_CONN_CLOSE, release),
                (evt.EVT_REQUESTED, Doorkeeper(rules).on_requested),
                (evt.EVT_REQUESTED, self._intake.space.on_requested),
                (evt.EVT_ACCEPTED, _on_accepted),
                (evt.EVT_REJECTED, _on_rejected),
                (evt.EVT_C_STORE, self._on_c_store),
                (evt.EVT_C_FIND, _on_c_find),
                (evt.EVT_N_ACTION, self._commitments.on_action),
                (evt.EVT_N_EVENT_REPORT, answers.on_report),
                (evt.EVT_N_CREATE, steps.on_create),
                (evt.EVT_N_SET, steps.on_set),
            ],
            ssl_context=server_context(self._settings.tls),
            server_class=partial(DoorServer, listener=listener),  # type: ignore[arg-type]
        )
        server.networks = rules.networks
        server.limits = limits
        server.contexts = contexts  # its own copies have lost their roles
        return server

    def _listen_web(self) -> Guarded | None:
        if not self._settings.receive.web_port:
            return None
        return stow_server(self._settings, self._intake, self._carriers)

    def _on_c_store(self, event: Event) -> int:
        request, association = cast(C_STORE, event.request), event.assoc
        incoming = self._arrivals.take(event.dataset_path) if event.dataset_path else None
        handed = Handed(
            event.dataset_path,
            str(request.AffectedSOPClassUID or ""),
            str(request.AffectedSOPInstanceUID or ""),
            sha256=incoming.finish() if incoming else "",
            failure=incoming.failure if incoming else "",
            bytes=incoming.bytes if incoming else 0,
        )
        priority = STAT if request.Priority == HIGH_PRIORITY else ROUTINE
        carrier = self._carriers.of(association, priority)
        return self._intake.store(handed, Sender(**_peer(association), carrier=carrier))

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stopping.wait(HOUSEKEEPING_SECONDS):
            try:
                work()
            except (*index.DATABASE_AWAY, OSError) as error:
                fields = {"reason": type(error).__name__}
                LOGGER.warning("housekeeping failed", extra={"fields": fields})
                self._stopping.wait(AFTER_FAILURE_SECONDS)

    def _keep_house(self) -> None:
        """Record what has ended, however it ended, and remove what it left unfinished."""
        self._carriers.keep_house()
        for _ in range(self._arrivals.sweep()):
            _log("unfinished instance removed")
        self._sweep(ABANDONED_SECONDS)

    def _sweep(self, own_seconds: float) -> None:
        """Remove files that nobody is writing: to others than our own, nothing was added for an hour."""
        for path in (path for folder in self._swept for path in folder.iterdir()):
            mine = path.parent == self._incoming and self._arrivals.owns(path)
            age_seconds = own_seconds if mine else ABANDONED_SECONDS
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                old = self._clock.cautious() - path.stat().st_mtime >= age_seconds
                if old and not self._arrivals.knows(path):
                    path.unlink()
                    _log("unfinished instance removed")


def _on_accepted(event: Event) -> None:
    """Say once per association what was offered and not taken."""
    ASSOCIATIONS.labels("accepted", "").inc()
    if contexts := event.assoc.rejected_contexts:
        _log("contexts rejected", **_peer(event.assoc), sop_classes=rejected(contexts))


def _on_rejected(event: Event) -> None:
    who, reason = _peer(event.assoc), rejection(event.assoc)
    told = TurnedAway("association rejected", who["peer"], reason, calling_ae=who["calling_ae"])
    turned_away(told, reason, event.assoc.ae.ae_title)


def _on_c_find(event: Event) -> Iterator[tuple[int, None]]:
    """No patient is scheduled here; a scanner that asks for a worklist first must hear that to go on."""
    _log("worklist asked", **_peer(event.assoc))
    yield from ()


def _peer(association: Association) -> dict[str, Any]:
    requestor = association.requestor
    return {"calling_ae": requestor.ae_title, "peer": requestor.address}


def _log(event: str, **fields: Any) -> None:
    LOGGER.info(event, extra={"fields": fields})
