"""check: what is in place, and for what is not, what to do."""

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
)
from pynetdicom import StoragePresentationContexts, build_context

from dicom_node.check import Check, check
from dicom_node.index.database import too_old
from dicom_node.settings import (
    Analyze,
    Audit,
    Destination,
    Node,
    Peer,
    Receive,
    Settings,
    Web,
)
from tests.conftest import ADDITIONAL_CONTEXTS, Pacs, RunningNode, free_port


def looked_at(settings: Settings) -> dict[str, Check]:
    return {item.what: item for item in check(settings)}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A node that could start: nothing is there yet, and nothing is in the way."""
    node = Node(data_dir=tmp_path / "data", analyses=("tests.plain_analysis:analysis",))
    return Settings(node, Receive(port=0))


def test_a_node_that_can_start_is_told_so(settings: Settings, pacs: Pacs) -> None:
    found = looked_at(replace(settings, destinations=(pacs.destination,)))
    assert [item.what for item in found.values() if not item.good] == []
    assert "answers C-ECHO" in found["destination pacs"].sentence
    assert not settings.node.data_dir.exists(), "a look must not change anything"


def test_no_destination_is_something_to_fix(settings: Settings) -> None:
    assert "[[destinations]]" in looked_at(settings)["destinations"].sentence


def test_a_dead_archive_is_named(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = looked_at(
        replace(settings, destinations=(Destination("pacs", "PACS", "127.0.0.1", port),))
    )
    assert not found["destination pacs"].good
    assert f"PACS@127.0.0.1:{port}" in found["destination pacs"].sentence


SEG, LABEL_MAP = SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7"
EVERYTHING = [*StoragePresentationContexts, *ADDITIONAL_CONTEXTS]


@pytest.mark.parametrize(
    ("change", "lacks", "words"),
    [
        (
            {},
            SEG,
            "accepts no SEG (Segmentation Storage): let it take this class, or leave SEG out",
        ),
        ({"seg": "labelmap"}, LABEL_MAP, 'set seg = "binary"'),
        (
            {},
            Comprehensive3DSRStorage,
            'accepts no SR (Comprehensive 3D SR Storage): set sr = "compreh',
        ),
        ({}, ParametricMapStorage, "accepts no PM"),
        ({}, SecondaryCaptureImageStorage, "accepts no SC"),
        ({"objects": ("SEG", "SR", "PDF")}, EncapsulatedPDFStorage, "accepts no PDF"),
        ({"companion": True}, UltrasoundImageStorage, "accepts no companion"),
        ({"objects": ("SEG",)}, Comprehensive3DSRStorage, "accepts no refusals (SR)"),
        ({"commitment": True}, None, "no storage commitment"),
    ],
)
def test_what_a_destination_would_not_take_is_named(
    change: dict, lacks: str | None, words: str, settings: Settings, pacs: Pacs
) -> None:
    pacs.stop()
    pacs.start(*(each for each in EVERYTHING if each.abstract_syntax != lacks))
    destination = replace(pacs.destination, **change)
    found = looked_at(replace(settings, destinations=(destination,)))["destination pacs"]
    assert not found.good
    assert words in found.sentence
    assert pacs.arrivals == []


def test_what_is_converted_on_the_way_is_said(settings: Settings, pacs: Pacs) -> None:
    destination = replace(pacs.destination, encoding="j2k")
    pacs.stop()
    plain = [build_context(each.abstract_syntax, ImplicitVRLittleEndian) for each in EVERYTHING]
    pacs.start(*plain)
    found = looked_at(replace(settings, destinations=(destination,)))["destination pacs"]
    assert found.good
    assert "SEG, SR, PM, SC are converted for it on the way" in found.sentence


def test_every_port_that_is_configured_is_looked_at(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        threading.Thread(target=refuse_all, args=(other,), daemon=True).start()
        peer = Peer("US1", "127.0.0.1", port)
        found = looked_at(
            replace(
                settings,
                receive=Receive(port=0, web_port=port),
                web=Web(port=port),
                peers=(peer,),
                audit=Audit(host="127.0.0.1", port=free_port(), transport="tcp"),
                node=replace(settings.node, database="postgresql+psycopg://127.0.0.1:1/x"),
            )
        )
    assert {what for what, item in found.items() if not item.good} > {
        *("ports", "port receive.web_port", "port web.port", "peer US1", "audit server", "database")
    }
    assert f"receive.web_port and web.port are both {port}" in found["ports"].sentence
    for key in ("receive.web_port", "web.port"):
        said = found[f"port {key}"].sentence
        assert f"Address already in use; stop what holds it, or choose another {key}" in said
    assert "connection refused; nothing listens there" in found["audit server"].sentence
    assert "connection refused; nothing listens there" in found["database"].sentence
    assert "gets no answers to storage commitment" in found["peer US1"].sentence


def test_a_host_that_is_not_ours_is_told_from_a_port_that_is_held(settings: Settings) -> None:
    found = looked_at(replace(settings, receive=Receive(host="192.0.2.1", insecure=True)))
    assert "no address of this machine" in found["port"].sentence


def test_a_running_node_is_known_by_all_its_ports(node_factory: Callable[..., RunningNode]) -> None:
    stow, page = free_port(), free_port()
    node = node_factory(
        receive=f"web_port = {stow}", more=f"[web]\nport = {page}", roles=("receive", "web")
    )
    receive = replace(node.settings.receive, port=node.node.port)
    found = looked_at(replace(node.settings, receive=receive))
    for key in ("port", "port receive.web_port", "port web.port"):
        assert found[key].good, found[key].sentence
        assert "a node is running" in found[key].sentence


def refuse_all(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_a_port_that_somebody_else_holds_is_named(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        found = looked_at(replace(settings, receive=Receive(port=port)))
    assert not found["port"].good
    assert str(port) in found["port"].sentence


@pytest.mark.parametrize(
    ("change", "what", "words"),
    [
        (
            lambda s: replace(s.node, data_dir=Path("/proc/none")),
            "data folder",
            "cannot be written",
        ),
        (
            lambda s: replace(s.node, database="postgresql+psycopg://127.0.0.1:1/x"),
            "database",
            "reached",
        ),
        (lambda s: replace(s.node, database="nonsense"), "database", "reached"),
        (lambda s: replace(s.node, analyses=("models.knee:analysis",)), "analyses", "models.knee"),
        (lambda s: replace(s.node, analyses=("models.layer:missing",)), "analyses", "missing"),
        (lambda s: replace(s.node, analyses=s.node.analyses * 2), "analyses", "called alike"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(
    change: Callable[[Settings], Node], what: str, words: str, settings: Settings
) -> None:
    found = looked_at(replace(settings, node=change(settings)))
    assert not found[what].good
    assert words in found[what].sentence


def test_a_device_that_is_not_there_is_named(settings: Settings) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    node = replace(settings.node, analyses=("models.layer:analysis",))
    found = looked_at(replace(settings, node=node, analyze=Analyze(device="cuda")))
    assert "analyze.device" in found["analyses"].sentence


@pytest.mark.parametrize(
    ("python", "library", "good"),
    [
        ((3, 11, 7), (3, 40, 1), True),
        ((3, 11, 7), (3, 34, 1), False),
        ((3, 12, 1), (3, 40, 1), False),
        ((3, 13), (3, 46), True),
    ],
)
def test_an_old_sqlite_is_told_where_it_matters(
    python: tuple[int, ...], library: tuple[int, ...], good: bool
) -> None:
    assert (too_old(python, library) == "") == good
