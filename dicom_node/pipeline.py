"""The sentence, made durable: DBOS workflows named assemble, analyze, report and deliver, and their steps.

Each workflow enqueues the next under a deterministic id, so that a replay cannot fork a second one. A step
that is cut off runs again, so every step is idempotent: it writes under a temporary name, syncs, renames.
Between steps travel paths and small JSON, never arrays.
"""

import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions, StepOptions

from dicom_node import index
from dicom_node.analyze import analyze_study, load_analyses
from dicom_node.assemble import assemble_study
from dicom_node.deliver import Receipt, deliver
from dicom_node.errors import (
    Busy,
    Declined,
    DeliveryError,
    NodeError,
    SettingsError,
    StudyError,
    Unreachable,
)
from dicom_node.receive.store import sync_folder
from dicom_node.report import write_objects
from dicom_node.settings import Settings
from dicom_node.study import StoredInstance, Study, load_outcomes, save_outcomes
from models.analysis import Analysis

LOGGER = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How late a stage may start; costs a few percent of one processor when idle."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
GIVE_UP_SECONDS = 72 * 3600.0
"""A weekend: an archive that was down on Friday evening is seen to on Monday."""

DATABASE_ATTEMPTS = 12
"""Of a step that the database failed, with pauses of 1, 2, 4 ... seconds: half an hour in all."""

RECOVERIES = 5
"""A stage that kills its process this often is set aside; the worker lives on."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Whose turn it is: a study's generation, and how urgent it is (1 STAT, 5 routine)."""

    study_uid: str
    generation: int
    priority: int

    def enqueue(self, word: str, detail: str, *arguments: Any, **options: Any) -> None:
        """Enqueue a stage under its one name; enqueued before, it is not doubled."""
        order: dict[str, Any] = {
            "workflow_name": word,
            "queue_name": index.QUEUES[word],
            "workflow_id": index.workflow_id(self.study_uid, self.generation, word, detail),
            "app_version": index.VERSION,
            "priority": self.priority,
        }
        DBOS.enqueue_workflow_with_options(
            cast(EnqueueOptions, order | options), *astuple(self), *arguments
        )


class Steps:
    """The steps: thin calls into the verbs, with the settings, the database and the loaded analyses."""

    def __init__(
        self, settings: Settings, engine: sa.Engine, analyses: tuple[Analysis, ...]
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._data = settings.node.data_dir.absolute()
        self._analyses = analyses

    def close_if_quiet(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Seconds to wait until the generation may be complete (0.0 = it is), and its priority."""
        quiet_seconds = self._settings.receive.quiet_seconds
        return asdict(index.close_if_quiet(self._engine, study_uid, generation, quiet_seconds))

    def assemble(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Instances to Scans, on disk; or the reason why they cannot become any."""
        rows = index.instances_of(self._engine, study_uid, generation)
        instances = [
            StoredInstance(row.sop_uid, row.sop_class, self._data / row.path, row.calling_ae)
            for row in rows
        ]
        with _stage("assemble", study_uid, generation) as fields:
            fields["instances"] = len(instances)
            made = self._assembled(study_uid, generation, instances)
            fields |= made
        return made | {"seconds": fields["seconds"]}

    def _assembled(
        self, study_uid: str, generation: int, instances: Sequence[StoredInstance]
    ) -> dict[str, Any]:
        try:
            study = assemble_study(study_uid, generation, instances, self._settings.sources)
        except StudyError as error:
            return {"refused": error.reason}
        with _written(self._work(study_uid, generation)) as folder:
            study.save(folder)
        unused = Counter(item.reason for item in study.unused)
        return {"scans": len(study.acquisitions), "unused": dict(unused)}

    def analyze(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Scans to Findings, on disk; or the reasons why no analysis gave any."""
        with _stage("analyze", study_uid, generation) as fields:
            work = self._work(study_uid, generation)
            outcomes = analyze_study(Study.load(work), self._analyses)
            with _added(work, "findings-*") as folder:
                save_outcomes(outcomes, folder)
            made: dict[str, Any] = {
                "findings": [each.analysis for each in outcomes if each.findings]
            }
            if not made["findings"]:
                reasons = dict.fromkeys(outcome.refusal for outcome in outcomes)
                made = {"refused": "; ".join(reasons)}
            fields |= made
        return made | {"seconds": fields["seconds"]}

    def report(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Findings to DICOM objects, on disk and in the index, each due at each destination."""
        with _stage("report", study_uid, generation) as fields:
            work, folder = self._work(study_uid, generation), self._results(study_uid, generation)
            with _written(folder) as scratch:
                outcomes = load_outcomes(work)
                written = write_objects(Study.load(work), outcomes, scratch)
            made = [
                index.Result(
                    item.sop_instance_uid,
                    study_uid,
                    generation,
                    item.analysis,
                    item.acquisition,
                    item.kind,
                    item.sop_class_uid,
                    item.sha256,
                    str((folder / item.path.name).relative_to(self._data)),
                )
                for item in written
            ]
            destinations = [each.name for each in self._settings.destinations]
            index.record_results(self._engine, made, destinations)
            fields["objects"] = [result.kind for result in made]
        return {"objects": len(made), "due": destinations, "seconds": fields["seconds"]}

    def send(self, study_uid: str, generation: int, name: str) -> dict[str, Any]:
        """One attempt to deliver what a destination has not acknowledged yet.

        Returns ``retry``: the reason to try again, or nothing. Raises Declined, SettingsError.
        """
        destination = next(
            (each for each in self._settings.destinations if each.name == name), None
        )
        if destination is None:
            raise SettingsError(f"destination {name} is no longer configured; results wait for it")
        due = index.results_due(self._engine, study_uid, generation, name)
        if not due:  # cut off after the last answer was recorded, before the step was
            return {"retry": "", "at": time.time()}
        waiting = {row.sop_uid for row in due}

        def answered(receipt: Receipt) -> None:
            waiting.discard(receipt.sop_instance_uid)
            status = "delivered" if receipt.is_delivered else "failed"
            status = "warning" if receipt.is_warning else status
            reason = "" if status == "delivered" else f"0x{receipt.status:04X}"
            index.record_delivery(self._engine, receipt.sop_instance_uid, name, status, reason)

        def unanswered(status: str, error: DeliveryError) -> None:
            for sop_uid in waiting:
                index.record_delivery(self._engine, sop_uid, name, status, error.reason)

        with _stage("deliver", study_uid, generation) as fields:
            fields |= {"destination": name, "instances": len(due)}
            paths = [self._data / row.path for row in due]
            try:
                deliver(paths, destination, self._settings.node.ae_title, answered)
            except (Unreachable, Busy) as error:
                fields["retry"] = error.reason
                unanswered("waiting", error)
            except Declined as error:
                unanswered("failed", error)
                raise
        retry = fields.get("retry", "")
        return {"retry": retry, "at": time.time(), "seconds": fields["seconds"]}

    def _work(self, study_uid: str, generation: int) -> Path:
        return self._data / "work" / study_uid / str(generation)

    def _results(self, study_uid: str, generation: int) -> Path:
        return self._data / "results" / study_uid / str(generation)


def _options(name: str) -> StepOptions:
    """A database that is away for a while is no reason to give a study up; all else is raised at once."""
    return {
        "name": name,
        "retries_allowed": True,
        "max_attempts": DATABASE_ATTEMPTS,
        "should_retry": lambda error: isinstance(error, index.DATABASE_AWAY),
    }


def _assembling(steps: Steps, ticket: Ticket, turn: int) -> dict[str, Any]:
    of = (ticket.study_uid, ticket.generation)
    state = DBOS.run_step(_options("close"), steps.close_if_quiet, *of)
    ticket = Ticket(*of, state["priority"])
    if state["wait_seconds"] > 0:
        # Not a sleep: that would keep a slot, and two slow scanners could stop all others.
        again = turn + 1
        ticket.enqueue("assemble", str(again), again, delay_seconds=state["wait_seconds"])
        return {"waiting": state["wait_seconds"]}
    made = DBOS.run_step(_options("assemble"), steps.assemble, *of)
    if "refused" not in made:
        ticket.enqueue("analyze", "")
    return made


def _analyzing(steps: Steps, ticket: Ticket) -> dict[str, Any]:
    made = DBOS.run_step(_options("analyze"), steps.analyze, ticket.study_uid, ticket.generation)
    if "refused" not in made:
        ticket.enqueue("report", "")
    return made


def _reporting(steps: Steps, ticket: Ticket) -> dict[str, Any]:
    made = DBOS.run_step(_options("report"), steps.report, ticket.study_uid, ticket.generation)
    # As the step has recorded them: a replay under other settings must enqueue the same ones.
    for name in made["due"]:
        attempt = {"turn": 0, "since": 0.0}
        ticket.enqueue("deliver", f"0:{name}", name, attempt, queue_partition_key=name)
    return made


def _delivering(steps: Steps, ticket: Ticket, name: str, attempt: dict[str, Any]) -> dict[str, Any]:
    of = (ticket.study_uid, ticket.generation)
    answer = DBOS.run_step(_options("send"), steps.send, *of, name)
    if not answer["retry"]:
        return answer
    turn, since = attempt["turn"] + 1, attempt["since"] or answer["at"]
    if answer["at"] - since > GIVE_UP_SECONDS:
        raise Unreachable(name, f"given up after three days: {answer['retry']}")
    ticket.enqueue(
        *("deliver", f"{turn}:{name}", name, {"turn": turn, "since": since}),
        queue_partition_key=name,
        # The exponent is bounded so that no number overflows on the way to the longest pause.
        delay_seconds=min(FIRST_PAUSE_SECONDS * 2 ** min(turn - 1, 20), LONGEST_PAUSE_SECONDS),
    )
    return answer


def register(steps: Steps) -> None:
    """Tell DBOS the four workflows. Their code is deterministic: clock, files and network are in steps."""

    def bound(body: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def run(study_uid: str, generation: int, priority: int, *rest: Any) -> dict[str, Any]:
            return body(steps, Ticket(study_uid, generation, priority), *rest)

        return run

    bodies: tuple[Callable[..., dict[str, Any]], ...]
    bodies = (_assembling, _analyzing, _reporting, _delivering)
    for word, bound_body in zip(index.QUEUES, map(bound, bodies), strict=True):
        DBOS.workflow(name=word, max_recovery_attempts=RECOVERIES)(bound_body)


class Worker:
    """DBOS at work on some queues in this process, beginning with what this executor left unfinished."""

    def __init__(self, settings: Settings, executor_id: str, queues: list[str]) -> None:
        self._engine = index.open_engine(settings.node.database_url)
        config: DBOSConfig = {
            "name": index.APPLICATION,
            "system_database_url": settings.node.database_url,
            "system_database_engine": self._engine,
            "executor_id": executor_id,
            "application_version": index.VERSION,
            "serializer": DBOSPortableJSONSerializer(),
            "run_migrations": False,  # the parent has done it
            "log_level": "WARNING",
        }
        DBOS(config=config)
        # Before any work: an analysis that cannot be loaded is said at the start, not at a study.
        wanted = settings.node.analyses if "gpu" in queues else ()
        register(Steps(settings, self._engine, load_analyses(wanted, settings.analyze)))
        DBOS.listen_queues(queues)
        DBOS.launch()
        DBOS.register_queue("cpu", worker_concurrency=2, polling_interval_sec=POLL_SECONDS)
        DBOS.register_queue("gpu", worker_concurrency=1, polling_interval_sec=POLL_SECONDS)
        # Per destination: a dead archive blocks no other. Per worker: a dead worker blocks none.
        DBOS.register_queue(
            "deliver", partition_worker_concurrency=2, polling_interval_sec=POLL_SECONDS
        )

    def stop(self, seconds: int) -> None:
        """Take no more work, and let the steps in hand finish if they do within some seconds."""
        DBOS.destroy(workflow_completion_timeout_sec=seconds)
        self._engine.dispose()


@contextmanager
def _stage(word: str, study_uid: str, generation: int) -> Iterator[dict[str, Any]]:
    """Log one event when a stage's step ends, well or badly; fields may be added meanwhile."""
    started = time.monotonic()
    fields: dict[str, Any] = {"study": study_uid, "generation": generation}
    try:
        yield fields
    finally:
        error = sys.exc_info()[1]
        fields["seconds"] = round(time.monotonic() - started, 3)
        if error is not None:
            # Only our own sentences are known to hold no patient data; of others the places are logged.
            fields["reason"] = str(error) if isinstance(error, NodeError) else type(error).__name__
        event = _event(word, fields, error)
        level = logging.WARNING if event.startswith("failed") else logging.INFO
        trace = None if isinstance(error, NodeError) else error
        LOGGER.log(level, event, extra={"fields": fields}, exc_info=trace)


def _event(word: str, fields: Mapping[str, Any], error: BaseException | None) -> str:
    if error is not None or "retry" in fields:
        return f"failed to {word}"
    return "refused" if "refused" in fields else index.PAST[word]


@contextmanager
def _written(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its final name, durably, only when all is written."""
    scratch = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    yield scratch
    _sync_files(scratch)
    sync_folder(scratch)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.replace(folder)
    sync_folder(folder.parent)


@contextmanager
def _added(folder: Path, pattern: str) -> Iterator[Path]:
    """A folder to write into, whose files then replace, durably, those of a pattern in another one."""
    scratch = folder / "unfinished"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    yield scratch
    _sync_files(scratch)
    for path in folder.glob(pattern):
        path.unlink()
    for path in scratch.iterdir():
        path.replace(folder / path.name)
    scratch.rmdir()
    sync_folder(folder)


def _sync_files(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
