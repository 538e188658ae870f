"""What waits for one destination, or was given up, is sent at once: its administrator has mended it."""

from collections import Counter
from dataclasses import dataclass

from dicom_node import index
from dicom_node.errors import NodeError
from dicom_node.jobs.memory import ACTIVE, Memory
from dicom_node.jobs.states import FAILED, Run
from dicom_node.settings import Settings

ROUTINE = 5
SENT, GOING_ON, CANCELED = "sent now", "being sent already", "canceled, and left so"


@dataclass(frozen=True, slots=True)
class Resent:
    """What was done with the deliveries to one destination."""

    destination: str
    studies: tuple[str, ...]
    counts: dict[str, int]

    @property
    def sentence(self) -> str:
        told = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        return f"destination {self.destination}: studies: {told or 'none waits'}"


def retry_destination(settings: Settings, destination: str, study_uid: str = "") -> Resent:
    """Send what a destination has not, of one study or of all; what was given up has all its patience again.

    Canceled work is left. Raises NodeError for a destination that is not configured, or an unknown study.
    """
    names = {each.name: each for each in settings.destinations}
    if destination not in names:
        known = ", ".join(names) or "none"
        raise NodeError(f"no destination {destination!r} is configured; there is: {known}")
    with Memory(settings) as memory:
        if study_uid:
            memory.generation(study_uid)
        commitment = names[destination].commitment
        found = index.undelivered(memory.engine, destination, commitment)
        found = tuple(each for each in found if study_uid in ("", each[0]))
        runs = memory.runs([each[0] for each in found])
        counts, studies = Counter[str](), []
        for of in found:
            last = [
                run
                for run in runs.get(of, ())
                if run.word == "deliver" and run.destination == destination
            ]
            done = _send(memory, of, destination, last[0] if last else None)
            counts.update([done] if done else [])
            studies += [of[0]] if done == SENT else []
    return Resent(destination, tuple(studies), dict(counts))


def _send(memory: Memory, of: tuple[str, int], destination: str, run: Run | None) -> str:
    """Let a delivery be tried now, whatever its last attempt came to; what was done, or "" for nothing."""
    state = run.status.status if run else ""
    if state == "CANCELLED":
        return CANCELED
    if state in ACTIVE and state != "DELAYED":
        return GOING_ON
    if state in ("", "SUCCESS") and not index.results_due(memory.engine, *of, destination):
        return ""  # delivered before commitment was asked for
    index.fall_due_again(memory.engine, *of, destination)
    if run and state == "DELAYED":
        memory.client.set_workflow_delay(run.status.workflow_id, delay_seconds=0.0)
    elif run and state in FAILED:
        memory.deliver_anew(run)
    else:  # its job rows are gone
        memory.deliver(of, destination, run.turn + 1 if run else 0, ROUTINE)
    return SENT
