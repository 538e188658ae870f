"""What the receiver takes for granted of pynetdicom beyond its public interface: an upgrade fails here first.

A function that has changed is to be read again; when what is said of it still holds, its digest is brought up
to date, and else the receiver is.
"""

import hashlib
import inspect
import queue
import re
import threading
import time
from pathlib import Path

import pynetdicom
import pytest
from pynetdicom import (
    AE,
    _config,
    dimse,
    dimse_messages,
    dul,
    events,
    evt,
    fsm,
    service_class,
    timer,
    transport,
)
from pynetdicom.association import Association
from pynetdicom.presentation import negotiate_as_acceptor
from pynetdicom.sop_class import Verification

from dicom_node.checkpoint import Checkpoint
from dicom_node.receive import server
from dicom_node.receive.reactor import Messages, quicken
from dicom_node.receive.server import hardener, release
from dicom_node.settings import Limits

RELIED_ON = {
    dul.DULServiceProvider.run_reactor: (
        "e3a10eb3a093",
        "each round looks at the timers, at to_provider_queue, then at AssociationSocket.ready, and sleeps "
        "_run_loop_delay only after a round without an event",
    ),
    dul.DULServiceProvider._is_transport_event: (
        "8725ed03bb8f",
        "asks AssociationSocket.ready once per round, and closes the socket in Sta13 when it is not",
    ),
    dul.DULServiceProvider._process_recv_primitive: (
        "4c0ebbb3e646",
        "takes nothing out of to_provider_queue, which every sender fills by put",
    ),
    dul.DULServiceProvider._read_pdu_data: (
        "19f2d4e38c13",
        "reads a PDU by recv(6) and recv(length); OSError and a short answer end the association",
    ),
    dul.DULServiceProvider.stop_dul: (
        "28a7e0be126e",
        "sleeps _run_loop_delay until the thread has ended",
    ),
    timer.Timer: (
        "77ddae7423f5",
        "measures by time.time alone, the name time being that of its module",
    ),
    Association._run_reactor: (
        "f28838c5559e",
        "each round passes _reactor_checkpoint, then asks dimse.get_msg(block=False) once",
    ),
    Association.send_n_event_report: (
        "e3d427e77369",
        "clears _reactor_checkpoint and waits for _is_paused before it sends",
    ),
    Association.send_c_store: ("fa5a8127f349", "does so too, and opens it after the answer"),
    Association.release: ("c7d713502b77", "does so too"),
    Association._serve_request: (
        "2f24c1759cdf",
        "sets _is_paused while a request is served, and takes it back",
    ),
    dimse.DIMSEServiceProvider.get_msg: ("890e3e04283f", "is msg_queue.get(block, timeout)"),
    dimse.DIMSEServiceProvider.receive_primitive: (
        "5f99c86b14a1",
        "puts complete messages into msg_queue; serves an N-EVENT-REPORT in a thread of its own",
    ),
    dimse_messages.DIMSEMessage.decode_msg: (
        "f51c777e841a",
        "opens the module's NamedTemporaryFile in the DUL's thread; uses write, file.flush and name of it",
    ),
    service_class.StorageServiceClass.SCP: (
        "63afca7fc6c6",
        "closes and unlinks the file after the handler; an OSError of the unlink is nothing",
    ),
    events.Event.dataset_path.fget: (
        "7eba7552ff80",
        "is the path of that file, or None without a data set",
    ),
    transport.RequestHandler.handle: (
        "034823fb4df3",
        "triggers EVT_CONN_OPEN before it starts the threads",
    ),
    transport.RequestHandler._create_association: (
        "05c8d12b7986",
        "sets the requestor's address, and the socket, before EVT_CONN_OPEN",
    ),
    transport.AssociationServer.active_associations.fget: (
        "2dc018cb7d13",
        "are the threads of this server's associations that run",
    ),
    transport.AssociationSocket.close: ("c726c8db5381", "clears _is_connected and socket"),
    fsm.AA_4: ("de72d40c80b0", "triggers EVT_CONN_CLOSE, as all that end a connection do"),
    dul.DULServiceProvider._decode_pdu: (
        "fc71dd1bf853",
        "decodes, and gives the event: Evt6 for a request",
    ),
    fsm.AE_6: (
        "385d595ed494",
        "asks a request for to_primitive and protocol_version, nothing else",
    ),
    fsm.AA_1: ("8495a4665f7a", "answers what could not be decoded by an A-ABORT"),
    negotiate_as_acceptor: ("d5413f08f0ac", "changes none of the acceptor's contexts"),
}


@pytest.mark.parametrize("function", RELIED_ON, ids=lambda function: function.__qualname__)
def test_what_is_relied_on_is_as_it_was_read(function: object) -> None:
    digest, what = RELIED_ON[function]
    found = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]
    assert found == digest, f"pynetdicom has changed it. Does it still hold that it {what}?"


def test_the_pin_is_exact() -> None:
    pins = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(rf"^pynetdicom=={re.escape(pynetdicom.__version__)}$", pins, re.MULTILINE)


def test_the_names_that_are_set_are_there_before() -> None:
    association = Association(AE(), "acceptor")
    for owner, name, kind in (
        (association.dul, "to_provider_queue", queue.Queue),
        (association.dul, "to_user_queue", queue.Queue),
        (association.dul, "event_queue", queue.Queue),
        (association.dul, "_run_loop_delay", float),
        (association.dimse, "msg_queue", queue.Queue),
        (association, "_reactor_checkpoint", threading.Event),
        (_config, "STORE_RECV_CHUNKED_DATASET", bool),
        (_config, "LOG_HANDLER_LEVEL", str),
    ):
        assert isinstance(getattr(owner, name), kind), name
    assert callable(dimse_messages.NamedTemporaryFile)
    assert isinstance(association._is_paused, bool)
    quicken(association).close()
    assert isinstance(association.dimse.msg_queue, Messages)
    assert isinstance(association._reactor_checkpoint, Checkpoint)


def test_who_closes_the_checkpoint_goes_on_when_nobody_is_past_it() -> None:
    """A reactor that lingers right behind it, as on a busy machine."""
    association = Association(AE(), "acceptor")
    checkpoint, past, ended = Checkpoint(association), threading.Event(), threading.Event()

    def linger() -> None:
        while not ended.is_set():
            checkpoint.wait()
            past.set()
            time.sleep(0.02)
            past.clear()

    association.run = linger
    association.start()
    for _ in range(5):
        assert past.wait(10)
        checkpoint.clear()
        assert not past.is_set()
        assert association._is_paused
        checkpoint.set()
    ended.set()
    association.join()
    checkpoint.clear()  # nobody will come by any more


def test_a_look_at_the_messages_ends_when_there_is_something_to_see() -> None:
    messages = Messages(lambda: True)
    threading.Timer(0.02, messages.put, [("context", "message")]).start()
    assert messages.get(block=False) == ("context", "message")
    messages.stir()
    with pytest.raises(queue.Empty):
        messages.get(block=False)
    assert messages._stirred is False


def test_a_request_that_comes_with_its_connection_is_answered_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "LOOK_SECONDS", 60.0)  # who waits for a look waits in vain
    entity = AE("NODE")
    entity.add_supported_context(Verification)
    handlers = [(evt.EVT_CONN_OPEN, hardener(Limits())), (evt.EVT_CONN_CLOSE, release)]
    listener = entity.make_server(
        ("127.0.0.1", 0), evt_handlers=handlers, server_class=server.HardServer
    )
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    caller = AE("SCANNER")
    caller.acse_timeout = 20
    caller.add_requested_context(Verification)
    association = caller.associate("127.0.0.1", listener.server_address[1])
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    association.release()
    listener.shutdown()
