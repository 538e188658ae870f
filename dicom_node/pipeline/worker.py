"""A worker: DBOS at work on some queues in this process, and dead letters that get an answer.

On Postgres a worker whose session was interrupted begins anew: DBOS waits longer and longer between attempts
to reach its database, up to 90 s, and a stage that it took in the very moment of the interruption is taken
without its knowing. A new process has neither. The same goes for SQLite whose disk was full.
"""

import logging
import threading
from collections.abc import Callable

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from dicom_node import index
from dicom_node.analyze.apart import Apart
from dicom_node.errors import AskedToStop
from dicom_node.pipeline.lost_writes import LostWrites
from dicom_node.pipeline.room import Room
from dicom_node.pipeline.steps import Steps
from dicom_node.pipeline.watchdog import Watchdog
from dicom_node.pipeline.workflows import ANSWER, LONGEST_PAUSE_SECONDS, Ticket, register
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How late a stage may start; costs a few percent of one processor when idle."""

LOOK_SECONDS = 2.0
"""How late a stage that failed for good is answered."""

STALLED_LOOK_SECONDS = 60.0

FAILED = ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
ANALYZING = ["assemble", "analyze", "report"]


class Worker:
    """DBOS at work on some queues in this process, beginning with what this executor left unfinished."""

    def __init__(
        self, settings: Settings, executor_id: str, queues: list[str], stopping: threading.Event
    ) -> None:
        """Sets ``stopping`` itself when it wants to begin anew.

        Waits for room on the disk of the database: nothing can begin without. Raises SettingsError, and
        NodeError when another process has this executor's name, AskedToStop when told so while it waits.
        """
        self._settings = settings
        self._stopping = stopping
        self._executor_id = executor_id
        self.begins_anew = self._has_looked_ahead = False
        _wait_for_room(settings, stopping)
        self._engine = index.open_engine(settings.node.database_url)
        self._lost_writes = LostWrites(self._engine)
        watchdog: Watchdog | None = None
        if self._engine.dialect.name == "postgresql":
            # Before DBOS begins: it would run again what a living process of this name is running.
            watchdog = Watchdog(self._engine, executor_id, stopping, settings.node.lost_seconds)
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
        self._analyses = Apart(settings.node.analyses, settings.analyze)
        if "gpu" in queues:
            self._analyses.start()
        self._steps = Steps(settings, self._engine, self._analyses)
        register(self._steps)
        DBOS.listen_queues(queues)
        DBOS.launch()
        DBOS.register_queue("cpu", worker_concurrency=2, polling_interval_sec=POLL_SECONDS)
        DBOS.register_queue("gpu", worker_concurrency=1, polling_interval_sec=POLL_SECONDS)
        # Per destination: a dead archive blocks no other. Per worker: a dead worker blocks none.
        DBOS.register_queue(
            "deliver", partition_worker_concurrency=2, polling_interval_sec=POLL_SECONDS
        )
        self._client = index.open_client(self._engine)
        self._answered: set[str] = set()
        self._told: set[str] = set()
        if "cpu" in queues:
            self._repeat(self._answer_new_ones, LOOK_SECONDS)
            self._repeat(self._tell_stalled, STALLED_LOOK_SECONDS)
            self._repeat(self._mind_clock, LOOK_SECONDS)
        self._repeat(self._mend_lost_writes, LOOK_SECONDS)
        if watchdog:
            watchdog.watch(self._client, self._begin_anew)

    def stop(self) -> None:
        """Take no more work, and let the steps in hand finish if they do within some seconds.

        The process of the analyses is left at what it does; it ends with this one.
        """
        self._stopping.set()
        seconds = self._settings.node.drain_seconds
        if self.begins_anew:
            # An analysis is worth more than a quick return; what waits for the database is not waited for.
            is_busy = self._analyses.is_busy
            seconds = int(self._settings.analyze.deadline_seconds) if is_busy else 0
        DBOS.destroy(workflow_completion_timeout_sec=seconds)
        self._engine.dispose()

    def _mind_clock(self) -> None:
        """At the start too: it may have been set while this process was not there to see it."""
        if self._steps.guard.mind_clock() or not self._has_looked_ahead:
            longest = longest_pauses(self._settings)
            self._steps.guard.look_ahead(self._client, longest)
            self._has_looked_ahead = True

    def _mend_lost_writes(self) -> None:
        """Begin anew when there is room again, once what could not be written then can be."""
        if self._lost_writes.any and self._steps.guard.room.is_for_database():
            index.beat(self._engine, self._executor_id)
            LOGGER.warning("the database could not write")
            self._begin_anew()

    def _begin_anew(self) -> None:
        LOGGER.warning("worker begins anew")
        self.begins_anew = True
        self._stopping.set()

    def _repeat(self, work: Callable[[], None], seconds: float) -> None:
        """Do something again and again, in a thread of its own, also after the database was away."""

        def run() -> None:
            while not self._stopping.wait(seconds):
                try:
                    work()
                except index.DATABASE_ERRORS as error:
                    fields = {"reason": type(error).__name__}
                    LOGGER.warning("failed to look after the work", extra={"fields": fields})

        threading.Thread(target=run, daemon=True).start()

    def _tell_stalled(self) -> None:
        """Say once of each stage that it does not go on, and of each version that its work waits."""
        for each in index.stalled(self._client, stall_limits(self._settings)):
            if each.workflow_id not in self._told:
                self._told.add(each.workflow_id)
                fields = {"stage": each.workflow_id, "executor": each.executor}
                fields["seconds"] = str(round(each.seconds))
                LOGGER.error("stalled", extra={"fields": fields})
        for version, count in index.of_other_versions(self._client).items():
            if version not in self._told:
                self._told.add(version)
                fields = {"version": version, "stages": str(count), "mine": index.VERSION}
                LOGGER.warning("work of another version waits", extra={"fields": fields})

    def _answer_new_ones(self) -> None:
        """A stage that failed for good, or killed its process too often, ends in an answer all the same.

        Not in the stage itself: a process that died says nothing.
        """
        found = DBOS.list_workflows(
            status=FAILED, name=ANALYZING, load_input=False, load_output=False
        )
        for status in found:
            name = status.workflow_id
            if name in self._answered or name.endswith(ANSWER):
                continue  # an answer that cannot be written is not answered
            study_uid, generation, word, _ = name.split(":", 3)
            ticket = Ticket(study_uid, int(generation), status.priority or 0)
            (whole,) = DBOS.list_workflows(workflow_ids=[name], load_input=False)
            grounds = self._steps.dead_letter(study_uid, ticket.generation, word, whole.error)
            if grounds:
                ticket.enqueue("report", ANSWER, grounds)
            self._answered.add(name)


def _wait_for_room(settings: Settings, stopping: threading.Event) -> None:
    room = Room(settings)
    room.wait_for_database(stopping)
    if stopping.is_set():
        why = "it had begun" if room.is_for_database() else "there was room on the database's disk"
        raise AskedToStop(f"asked to stop before {why}")


def longest_pauses(settings: Settings) -> dict[str, float]:
    """For each word whose stages are put off, the most that they ever are, in seconds."""
    receive = settings.receive
    look = max(receive.quiet_seconds, receive.release_seconds, index.SHORTEST_WAIT_SECONDS)
    return {"assemble": look, "deliver": LONGEST_PAUSE_SECONDS}


def stall_limits(settings: Settings) -> dict[str, float]:
    """For each word, after how many seconds without a record a stage counts as stalled."""
    limits = dict.fromkeys(index.QUEUES, settings.node.stalled_seconds)
    # A study may have two attempts, and records nothing meanwhile.
    limits["analyze"] += 2 * settings.analyze.deadline_seconds
    return limits
