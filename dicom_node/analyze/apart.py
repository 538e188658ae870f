"""analyze, in a process apart: it may hang, die or outgrow the machine, and the role that owns it lives on.

The process is a fresh interpreter with the analyses loaded. It is killed when a study takes too long, and
renewed after a number of studies. A study that needed too much memory gets a second process, which runs on a
processor and in small pieces; what fails there too is for the owner to set aside.
"""

import logging
import multiprocessing
import os
import shutil
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from dicom_node.analyze import analyze_study, load_analyses
from dicom_node.disk import FULL
from dicom_node.errors import (
    AnalysisDied,
    AnalysisFailed,
    AnalysisTooSlow,
    DiskFull,
    MemoryShort,
    NodeError,
)
from dicom_node.logs import write_logs
from dicom_node.settings import Analyze
from dicom_node.study import Ground, Study, save_outcomes
from models.analysis import Analysis, OutOfMemory, Sparing

LOGGER = logging.getLogger(__name__)

LOAD_SECONDS = 300.0
"""For the import of torch and the weights, from a slow disk."""

OOM_SCORE = "800"
"""Where memory runs out, the kernel shall end the process that needs so much, and no other one."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one analysis said of one acquisition: findings, which are on disk, or the ground of a refusal."""

    acquisition: int
    analysis: str
    ground: Ground | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What comes back of one study: what was said, or the kind of the error."""

    said: tuple[Said, ...] = ()
    error: str = ""
    is_memory: bool = False
    is_disk: bool = False


class Apart:
    """The analyses in a process of their own, one study at a time."""

    def __init__(self, paths: tuple[str, ...], settings: Analyze) -> None:
        self._paths = paths
        self._settings = settings
        self._process: SpawnProcess | None = None
        self._runs = 0
        self._lock = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether a study is being analyzed."""
        return self._lock.locked()

    def start(self) -> None:
        """Load the analyses. Raises SettingsError, WeightsMismatch, AnalysisDied."""
        with self._lock:
            self._spawn(self._settings, spare=False)
            self._await_loaded()

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def run(self, study: Path, out: Path) -> tuple[Said, ...]:
        """Analyze a saved study, and write the outcomes into an empty folder.

        Raises MemoryShort, AnalysisDied (each only after a second attempt in small pieces), AnalysisTooSlow,
        AnalysisFailed, DiskFull, and what the loading of the analyses raises.
        """
        with self._lock:
            try:
                return self._attempt(study, out)
            except (MemoryShort, AnalysisDied) as error:
                LOGGER.warning("analysis begins again", extra={"fields": {"reason": str(error)}})
                _empty(out)
                self._spawn(replace(self._settings, device="cpu"), spare=True)
                return self._attempt(study, out)
            finally:
                self._renew()

    def _attempt(self, study: Path, out: Path) -> tuple[Said, ...]:
        if self._process is None:
            self._spawn(self._settings, spare=False)
        self._await_loaded()
        self._connection.send((study, out))
        self._runs += 1
        seconds = self._settings.deadline_seconds
        if not self._connection.poll(seconds):
            self.stop()
            raise AnalysisTooSlow(
                f"the analyses did not end within {seconds:g} s (analyze.deadline_seconds)"
            )
        answer: _Answer = self._receive()
        if answer.is_memory:
            self.stop()
            raise MemoryShort("the analyses ran out of memory")
        if answer.is_disk:
            raise DiskFull("no room on the disk for what the analyses found")
        if answer.error:
            raise AnalysisFailed(f"{answer.error} in an analysis; the log says where")
        return answer.said

    def _renew(self) -> None:
        """After a failure, a second attempt, or enough studies: a new process, which loads meanwhile."""
        full = self._runs >= self._settings.recycle_studies
        if full and self._process is not None:
            LOGGER.info("analyses renewed", extra={"fields": {"studies": self._runs}})
        if full or self._spare or self._process is None:
            self._spawn(self._settings, spare=False)

    def _spawn(self, settings: Analyze, spare: bool) -> None:
        self.stop()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._paths, settings, spare), daemon=True
        )
        self._process.start()
        theirs.close()
        self._runs, self._spare, self._loaded = 0, spare, False

    def _await_loaded(self) -> None:
        if self._loaded:
            return
        if not self._connection.poll(LOAD_SECONDS):
            self.stop()
            raise AnalysisDied(f"the analyses were not loaded within {LOAD_SECONDS:g} s")
        error: NodeError | None = self._receive()
        if error:
            raise error
        self._loaded = True

    def _receive(self):  # type: ignore[no-untyped-def] # a loaded process: None or NodeError; a study: _Answer
        """What the process says. Raises MemoryShort when it was killed, AnalysisDied when it died."""
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            assert self._process is not None
            self._process.join()
            status = self._process.exitcode or 0
            self.stop()
        if status == -signal.SIGKILL:
            # The kernel says nothing else to who is killed for memory.
            raise MemoryShort(
                "the process of the analyses was killed, as happens when memory runs out"
            )
        raise AnalysisDied(f"the process of the analyses died (exit status {status})")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _serve(connection: Connection, paths: tuple[str, ...], settings: Analyze, spare: bool) -> None:
    """The process: load, then one study after the other until the owner is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner's matter
    write_logs("infer")
    threading.Thread(target=_end_with_owner, daemon=True).start()
    with suppress(OSError):  # not where there is no such file
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    try:
        analyses = load_analyses(paths, settings)
    except NodeError as error:
        connection.send(error)
        return
    for analysis in analyses:
        if spare and isinstance(analysis, Sparing):
            analysis.spare()
    connection.send(None)
    with ThreadPoolExecutor(1) as pool, suppress(EOFError):
        while True:
            study, out = connection.recv()
            connection.send(_answer(pool.submit(_analyze, study, out, analyses)))


def _end_with_owner() -> None:
    """An owner that was killed must not leave a GPU full behind it."""
    owner = multiprocessing.parent_process()
    assert owner is not None
    owner.join()
    os._exit(0)


def _analyze(study: Path, out: Path, analyses: tuple[Analysis, ...]) -> tuple[Said, ...]:
    outcomes = analyze_study(Study.load(study), analyses)
    save_outcomes(outcomes, out)
    return tuple(
        Said(each.acquisition, each.analysis, None if each.findings else each.ground)
        for each in outcomes
    )


def _answer(future: "Future[tuple[Said, ...]]") -> _Answer:
    """What became of a study; of an error its kind and its places: its words may name a patient."""
    error = future.exception()
    if error is None:
        return _Answer(future.result())
    if isinstance(error, MemoryError | OutOfMemory):
        return _Answer(error=type(error).__name__, is_memory=True)
    if isinstance(error, OSError) and error.errno in FULL:
        return _Answer(error=type(error).__name__, is_disk=True)
    name = type(error).__name__
    LOGGER.warning("analysis failed", extra={"fields": {"reason": name}}, exc_info=error)
    return _Answer(error=name)
