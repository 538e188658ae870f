"""jobs: what became of each study, and how to run a failed stage again or stop one.

Facts come from the index, progress from DBOS. A job is one generation of a study. UIDs only, no names.
"""

from dicom_node import index
from dicom_node.errors import NodeError
from dicom_node.jobs.acceptance import accept_patient
from dicom_node.jobs.memory import Memory
from dicom_node.jobs.resending import Resent, retry_destination
from dicom_node.jobs.states import FAILED, NOTHING, Delivery, Job, latest_of, said_by, state_of
from dicom_node.settings import Settings

__all__ = [
    "NOTHING",
    "Delivery",
    "Job",
    "Memory",
    "Resent",
    "accept_patient",
    "cancel_job",
    "list_jobs",
    "retry_destination",
    "retry_job",
    "show_job",
    "state_of",
]


def list_jobs(settings: Settings) -> tuple[Job, ...]:
    """The latest generation of each study that brought anything to analyze, the newest study first."""
    with Memory(settings) as memory:
        rows = memory.newest()
        runs = memory.runs([row.study_uid for row in rows])
        latest = [(row.study_uid, latest_of(row.study_uid, row.generation, runs)) for row in rows]
        return tuple(memory.job(study_uid, number, runs) for study_uid, number in latest)


def show_job(settings: Settings, study_uid: str) -> tuple[Job, ...]:
    """Every generation of a study, the newest first. Raises NodeError for an unknown study."""
    with Memory(settings) as memory:
        runs = memory.runs([study_uid])
        latest = memory.generation(study_uid)
        return tuple(memory.job(study_uid, number, runs) for number in range(latest, -1, -1))


def retry_job(settings: Settings, study_uid: str) -> str:
    """Run what failed, was refused or canceled again; returns what was done.

    A failed delivery begins anew, with all its patience; a canceled stage goes on. A stage that failed or
    refused has been answered, so the study is analyzed as a new generation, whose report names that answer.
    Raises NodeError when the study is unknown, or nothing of it has failed.
    """
    with Memory(settings) as memory:
        runs = memory.runs([study_uid])
        newest = memory.generation(study_uid)
        mine = runs[study_uid, latest_of(study_uid, newest, runs)]
        stopped = [run for run in mine if run.status.status in (*FAILED, "CANCELLED")]
        outcome = index.outcome_of(memory.engine, study_uid, newest)[0]
        is_refused = outcome == "refused" or any(said_by(run, "refused") for run in mine)
        if any(run.word != "deliver" and run.status.status in FAILED for run in stopped) or (
            not stopped and is_refused
        ):
            memory.reopen(study_uid, newest)
            return f"study {study_uid}: analyzed again, as generation {newest + 1}"
        if not stopped:
            outcome = outcome or state_of(mine)[0]
            waiting = [run.destination for run in mine if run.status.status == "DELAYED"]
            now = "".join(
                f"; --destination {name} sends now what waits" for name in waiting if name
            )
            raise NodeError(f"study {study_uid} is {outcome}; nothing of it has failed{now}")
        for run in stopped:
            if run.word == "deliver":
                memory.deliver_anew(run)
            else:
                # Without the queue's name it would run on whatever worker comes first.
                queue = index.QUEUES[run.word]
                memory.client.rewind_workflow(run.status.workflow_id, queue_name=queue)
    words = ", ".join(f"{run.word} {run.destination}".strip() for run in stopped)
    return f"study {study_uid}: runs again: {words}"


def cancel_job(settings: Settings, study_uid: str) -> str:
    """Stop all work on a study after the step in hand; returns what was done. Raises NodeError."""
    with Memory(settings) as memory:
        memory.generation(study_uid)
        generation = index.close_now(memory.engine, study_uid)
        if not (active := memory.active(study_uid, generation)):
            raise NodeError(f"study {study_uid}: no work on it is going on")
        while (
            active
        ):  # a stage that has just ended has enqueued the next one since it was looked at
            memory.client.cancel_workflows(active)
            active = memory.active(study_uid, generation)
    return f"study {study_uid}: canceled; what was received is kept"
