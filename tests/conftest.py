"""The parts that tests talk to: a real node in real processes, and a stand-in archive on a real socket."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import settings as trials
from pydicom import dcmread
from pynetdicom import AE, StoragePresentationContexts, build_context, evt
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import ParametricMapStorage, Verification

from dicom_node.deliver import deliver
from dicom_node.node import Node
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Destination, Settings, load
from models.scan import Geometry, Scan

ROOT = Path(__file__).parents[1]
REQUIRE_PEERS = "DICOM_NODE_REQUIRE_PEERS"
"""Set where every peer program is installed: a test that skips for want of one then fails."""
PATIENCE_SECONDS = 60.0
# By the clock, an example takes as long as whatever else the machine does meanwhile.
trials.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
trials.load_profile("shared")
ADDITIONAL_CONTEXTS = [build_context(ParametricMapStorage), build_context(Verification)]


LONG_FILES = {
    "test_viewer.py": 0,
    "test_wheel.py": 1,
    "test_readers.py": 1,
    "test_hostile.py": 2,
    "test_cohort_command.py": 2,
    "test_evaluation.py": 2,
}
"""Files that take a minute or more, and the worker (of three) that begins with each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each worker begins with its long files, so that none of them is waited for alone at the end.

    xdist gives every worker one run of neighbors, all of one length; whoever is done takes from others.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first: list[list[pytest.Item]] = [[] for _ in range(workers)]
    others = [item for item in items if item.path.name not in LONG_FILES]
    for item in items:
        if item.path.name in LONG_FILES:
            first[LONG_FILES[item.path.name] % workers].append(item)
    ordered: list[pytest.Item] = []
    for number, mine in enumerate(first):
        room = (len(items) - len(ordered)) // (workers - number) - len(mine)
        ordered += mine + others[:room]
        others = others[room:]
    items[:] = ordered


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Where peers are required, a skipped peer test is a failure."""
    report = yield
    if report.skipped and item.get_closest_marker("peer") and os.environ.get(REQUIRE_PEERS):
        report.outcome = "failed"
        report.longrepr = f"{item.name} was skipped, but {REQUIRE_PEERS} is set: {report.longrepr}"
    return report


def wait_for(look: Callable[[], Any], what: str = "", seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of ``look``, or a failure that names what was waited for."""
    begun = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - begun
        assert waited < seconds, f"waited {seconds} s in vain for {what or look}"
        # Looking takes what the node needs as well: the longer it lasts, the more seldom.
        time.sleep(min(0.05 + waited / 20, 0.25))
    return found


def peer(name: str) -> str:
    """The path of a peer program. pynetdicom puts its own storescu before the real one in PATH."""
    path = shutil.which(name, path="/usr/bin:/bin:/usr/local/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    """A port nobody listens on, below those that the system gives to clients meanwhile."""
    for port in random.sample(range(20000, 32000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")


class Pacs:
    """A Storage SCP that keeps what it gets, and answers what it is told to."""

    def __init__(self, name: str = "pacs", **options: object) -> None:
        self.destination = Destination(name, "ARCHIVE", "127.0.0.1", free_port())
        self._options = options
        self.forget()
        self.start()

    def forget(self) -> None:
        """Empty, and friendly to all."""
        self.arrivals: list[str] = []
        self.kept: dict[str, bytes] = {}
        self.associations = 0
        self.answer: Callable[[str], int] = lambda _sop_uid: 0x0000
        self.abort_at: set[str] = set()

    def start(self, *contexts: PresentationContext) -> None:
        """Listen; without contexts, for everything."""
        entity = AE("ARCHIVE")
        for context in contexts or (*StoragePresentationContexts, *ADDITIONAL_CONTEXTS):
            entity.add_supported_context(context.abstract_syntax, list(context.transfer_syntax))
        for name, value in self._options.items():
            setattr(entity, name, value)
        self._server = entity.start_server(
            (self.destination.host, self.destination.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_ACCEPTED, self._count)],
        )

    def stop(self) -> None:
        self._server.shutdown()

    def _count(self, _event: Event) -> None:
        self.associations += 1

    def _store(self, event: Event) -> int:
        sop_uid = str(event.request.AffectedSOPInstanceUID)
        status = self.answer(sop_uid)
        self.arrivals.append(sop_uid)
        if sop_uid in self.abort_at:
            event.assoc.abort()
        elif status == 0x0000 or status >> 12 == 0xB:
            self.kept[sop_uid] = event.encoded_dataset()
        return status


@pytest.fixture
def pacs_factory() -> Iterator[Callable[..., Pacs]]:
    """Makes archives, which listen until the test ends."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "pacs", **options: object) -> Pacs:
            made = Pacs(name, **options)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def pacs(pacs_factory: Callable[..., Pacs]) -> Pacs:
    """One archive."""
    return pacs_factory()


@dataclass(frozen=True)
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
        """Ask the database."""
        engine = sa.create_engine(self.settings.node.database_url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def runs(self) -> list[str]:
        """The number of slices of each analysis that was begun, in order."""
        return [path.read_text() for path in sorted(self.gate.glob("ran-*"))]

    def forget(self) -> None:
        """Open the gate, and forget the runs so far."""
        for path in self.gate.iterdir():
            path.unlink()


@contextlib.contextmanager
def start_node(
    folder: Path,
    *destinations: Destination,
    roles: tuple[str, ...] = (),
    quiet_seconds: float = 0.2,
    database: str = "",
    receive: str = "",
    own: str = "",
    more: str = "",
) -> Iterator[RunningNode]:
    """A node on a free port, with its data in a folder, until the block ends.

    Lines of TOML: ``own`` of [node], ``receive`` of [receive], ``more`` at the end.
    """
    gate = folder / "gate"
    gate.mkdir()
    lines = [
        "[node]",
        f'data_dir = "{folder / "data"}"',
        f'database = "{database}"',
        'analyses = ["tests.plain_analysis:analysis"]',
        own,
        "[receive]",
        "port = 0",
        f"quiet_seconds = {quiet_seconds}",
        receive,
    ]
    for each in destinations:
        lines += ["[[destinations]]", f'name = "{each.name}"', f'ae_title = "{each.ae_title}"']
        lines += [f'host = "{each.host}"', f"port = {each.port}"]
        # Pages take a second to draw, and are tested where they are written.
        objects = ["SEG", "SR"] if each.objects == Destination().objects else each.objects
        lines.append(f"objects = {json.dumps(objects)}")
        lines += [f"refusals = {str(each.refusals).lower()}"]
        lines += [f"commitment = {str(each.commitment).lower()}"]
    path = folder / "node.toml"
    path.write_text("\n".join([*lines, more]))
    settings = load(path, {})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DICOM_NODE_TEST_GATE", str(gate))
        environment.setenv("PYTHONPATH", f"{ROOT}:{folder}")  # for tests.plain_analysis
        environment.setenv("OMP_NUM_THREADS", "1")  # small processes share few cores here
        with Node(settings, path, roles) as node:
            node.wait_ready()
            yield RunningNode(node, settings, gate)


@pytest.fixture
def node_factory(tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    """Starts nodes on free ports, and stops them when the test ends."""
    with contextlib.ExitStack() as stack:

        def make(*destinations: Destination, **options: Any) -> RunningNode:
            return stack.enter_context(start_node(tmp_path, *destinations, **options))

        yield make


def make_study(folder: Path, seed: int = 0, slices: int = 4) -> tuple[Path, ...]:
    """A small synthetic ultrasound study of single frames; the same seed gives the same UIDs."""
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 0.5], [0, 0.5, 0], [2.0, 0, 0]]
    voxels = np.random.default_rng(seed).integers(0, 255, (1, slices, 64, 64)).astype(np.float32)
    valid = np.ones(voxels.shape[1:], dtype=bool)
    geometry = Geometry("measured", "measured", "measured")
    scan = Scan(voxels, ("b-mode",), ("1",), valid, affine, geometry)
    return write_study(scan, folder, Style(form="frames", seed=seed))


def study_uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


class Postgres:
    """A Postgres server of a test's own. Root may not run one, so it becomes postgres."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        data, port = folder / "data", free_port()
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "node",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ],
            user=self._user,
            check=True,
            capture_output=True,
        )
        self._command = [programs / "postgres", "-D", data, "-p", str(port), "-k", folder]
        self.url = f"postgresql+psycopg://node@127.0.0.1:{port}/postgres"
        self.start()

    def start(self) -> None:
        self._server = subprocess.Popen(self._command, user=self._user, stderr=subprocess.DEVNULL)
        wait_for(self._answers, "Postgres")

    @property
    def pid(self) -> int:
        return self._server.pid

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """By its fast shutdown; SIGQUIT is the immediate one, which is a crash."""
        self._server.send_signal(how)
        self._server.wait()

    def _answers(self) -> bool:
        try:
            with sa.create_engine(self.url, poolclass=sa.NullPool).connect():
                return True
        except sa.exc.OperationalError:
            return False


def _postgres() -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL (initdb) is not installed")
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(found[-1].parent, Path(folder))
        yield server
        server.stop()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A running Postgres server."""
    yield from _postgres()


@pytest.fixture(scope="module")
def postgres_for_all() -> Iterator[Postgres]:
    """A running Postgres server for all tests of a module."""
    yield from _postgres()
