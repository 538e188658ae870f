"""The parts that tests talk to: a real node in real processes, and a stand-in archive on a real socket."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import ParametricMapStorage, Verification

from dicom_node.deliver import deliver
from dicom_node.node import Node
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Destination, Settings, load
from models.scan import Geometry, Scan

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0


def wait_for(look: Callable[[], Any], what: str = "", seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of ``look``, or a failure that names what was waited for."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what or look}"
        time.sleep(0.05)
    return found


def peer(name: str) -> str:
    """The path of a peer program. pynetdicom puts its own storescu before the real one in PATH."""
    path = shutil.which(name, path="/usr/bin:/bin:/usr/local/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@dataclass
class Pacs:
    """A Storage SCP that keeps what it gets, and answers what it is told to."""

    port: int
    arrivals: list[str] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    answer: Callable[[str], int] = lambda _sop_uid: 0x0000
    associations: int = 0

    @property
    def destination(self) -> Destination:
        return Destination("pacs", "ARCHIVE", "127.0.0.1", self.port)


@pytest.fixture
def pacs_factory() -> Iterator[Callable[..., Pacs]]:
    """Makes archives, which listen until the test ends."""
    servers = []

    def make(port: int = 0, **options: object) -> Pacs:
        entity = AE("ARCHIVE")
        entity.supported_contexts = [*StoragePresentationContexts]
        entity.add_supported_context(ParametricMapStorage)
        entity.add_supported_context(Verification)
        for name, value in options.items():
            setattr(entity, name, value)
        made = Pacs(port)

        def count(_event: Event) -> None:
            made.associations += 1

        def store(event: Event) -> int:
            sop_uid = str(event.request.AffectedSOPInstanceUID)
            status = made.answer(sop_uid)
            made.arrivals.append(sop_uid)
            if status == 0x0000 or status >> 12 == 0xB:
                made.kept[sop_uid] = event.encoded_dataset()
            return status

        server = entity.start_server(
            ("127.0.0.1", port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_ACCEPTED, count)],
        )
        made.port = server.server_address[1]
        servers.append(server)
        return made

    yield make
    for server in servers:
        server.shutdown()


@pytest.fixture
def pacs(pacs_factory: Callable[..., Pacs]) -> Pacs:
    """One archive."""
    return pacs_factory()


@dataclass
class RunningNode:
    """A node in real processes, and what a test may look at: its database, its folders, its gate."""

    node: Node
    settings: Settings
    gate: Path

    @property
    def data(self) -> Path:
        return self.settings.node.data_dir

    @property
    def destination(self) -> Destination:
        return Destination("node", "DICOM_NODE", "127.0.0.1", self.node.port)

    def send(self, *paths: Path, calling_ae: str = "SCANNER") -> None:
        """Send files as a scanner does."""
        deliver(paths, self.destination, calling_ae)

    def rows(self, query: str) -> list[tuple]:
        """Ask the SQLite index."""
        connection = sqlite3.connect(self.data / "node.db")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def runs(self) -> list[str]:
        """The number of slices of each analysis that was begun, in order."""
        return [path.read_text() for path in sorted(self.gate.glob("ran-*"))]


@pytest.fixture
def node_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., RunningNode]]:
    """Starts nodes on free ports and stops them when the test ends."""
    started = []
    gate = tmp_path / "gate"
    gate.mkdir()
    monkeypatch.setenv("DICOM_NODE_TEST_GATE", str(gate))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # many small processes share few cores here
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for tests.plain_analysis

    def make(
        *destinations: Destination,
        roles: tuple[str, ...] = (),
        quiet_seconds: float = 0.2,
        database: str = "",
        analyses: tuple[str, ...] = ("tests.plain_analysis:analysis",),
    ) -> RunningNode:
        lines = [
            "[node]",
            f'data_dir = "{tmp_path / "data"}"',
            f'database = "{database}"',
            f"analyses = {list(analyses)}",
            "[receive]",
            "port = 0",
            f"quiet_seconds = {quiet_seconds}",
        ]
        for each in destinations:
            lines += [
                "[[destinations]]",
                f'name = "{each.name}"',
                f'ae_title = "{each.ae_title}"',
                f'host = "{each.host}"',
                f"port = {each.port}",
            ]
        path = tmp_path / "node.toml"
        path.write_text("\n".join(lines))
        settings = load(path, {})
        node = Node(settings, path, roles)
        started.append(node)
        node.start()
        node.wait_ready()
        return RunningNode(node, settings, gate)

    yield make
    threads = [threading.Thread(target=node.stop) for node in started]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def make_study(folder: Path, seed: int = 0, slices: int = 4) -> tuple[Path, ...]:
    """A small synthetic ultrasound study of single frames; the same seed gives the same UIDs."""
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 0.5], [0, 0.5, 0], [2.0, 0, 0]]
    random = np.random.default_rng(seed)
    voxels = random.integers(0, 255, (1, slices, 64, 64)).astype(np.float32)
    valid = np.ones(voxels.shape[1:], dtype=bool)
    geometry = Geometry("measured", "measured", "measured")
    scan = Scan(voxels, ("b-mode",), ("1",), valid, affine, geometry)
    return write_study(scan, folder, Style(form="frames", seed=seed))


def study_uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
