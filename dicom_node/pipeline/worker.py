"""A worker: DBOS at work on some queues in this process, and dead letters that get an answer."""

import logging
import threading

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from dicom_node import index
from dicom_node.analyze.apart import Apart
from dicom_node.pipeline.steps import Steps
from dicom_node.pipeline.workflows import ANSWER, Ticket, register
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How late a stage may start; costs a few percent of one processor when idle."""

LOOK_SECONDS = 2.0
"""How late a stage that failed for good is answered."""

FAILED = ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
ANALYZING = ["assemble", "analyze", "report"]


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
        self._stopping = threading.Event()
        self._answered: set[str] = set()
        if "cpu" in queues:
            threading.Thread(target=self._answer_dead_letters, daemon=True).start()

    def stop(self, seconds: int) -> None:
        """Take no more work, and let the steps in hand finish if they do within some seconds."""
        self._stopping.set()
        DBOS.destroy(workflow_completion_timeout_sec=seconds)
        self._analyses.stop()
        self._engine.dispose()

    def _answer_dead_letters(self) -> None:
        """A stage that failed for good, or killed its process too often, ends in an answer all the same.

        Not in the stage itself: a process that died says nothing.
        """
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._answer_new_ones()
            except index.DATABASE_ERRORS as error:
                fields = {"reason": type(error).__name__}
                LOGGER.warning("failed to look for dead letters", extra={"fields": fields})

    def _answer_new_ones(self) -> None:
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
