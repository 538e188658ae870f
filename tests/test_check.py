"""check: what is in place, and for what is not, what to do."""

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.check import Check, check
from dicom_node.index.database import too_old
from dicom_node.settings import Analyze, Destination, Node, Receive, Settings
from tests.conftest import Pacs


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
