"""The four workflows, named assemble, analyze, report and deliver.

Their code is deterministic: clock, files and network are in steps. Each enqueues the next under a
deterministic id, so that a replay cannot fork a second one. A study that cannot be analyzed goes to
``report`` too, where the answer that says why is written, and from there to ``deliver``.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any, cast

from dbos import DBOS, EnqueueOptions, StepOptions

from dicom_node import index
from dicom_node.errors import StoreAway, Unreachable
from dicom_node.pipeline.guard import RECOVERIES
from dicom_node.pipeline.steps import Steps

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
GIVE_UP_SECONDS = 72 * 3600.0
"""A weekend: an archive that was down on Friday evening is seen to on Monday."""

ATTEMPTS = 12
"""Of a step that database or object store failed; pauses of 1, 2, 4 ... seconds: half an hour in all."""

ANSWER = ":answer"
"""Ends the id of a report that says why a study was not analyzed: one for each generation."""


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

    def go_on(self, made: dict[str, Any], word: str) -> None:
        """Enqueue the next stage, or the answer where this one refused; nothing where there is nothing."""
        if "refused" in made:
            self.enqueue("report", ANSWER, made["grounds"])
        elif "nothing" not in made:
            self.enqueue(word, "")


def _options(name: str) -> StepOptions:
    """A database or a store that is away is no reason to give a study up; all else is raised at once."""
    return {
        "name": name,
        "retries_allowed": True,
        "max_attempts": ATTEMPTS,
        "should_retry": lambda error: isinstance(error, (*index.DATABASE_AWAY, StoreAway)),
    }


def _step(steps: Steps, name: str, work: Callable[..., dict[str, Any]], *of: Any) -> dict[str, Any]:
    """Run a step, or take its result from the database."""
    bound = partial(steps.guard.run, str(DBOS.workflow_id), name, work, *of)
    return DBOS.run_step(_options(name), bound)


def _assembling(steps: Steps, ticket: Ticket, turn: int) -> dict[str, Any]:
    of = (ticket.study_uid, ticket.generation)
    state = _step(steps, "close", steps.close_if_complete, *of)
    ticket = Ticket(*of, state["priority"])
    if state["wait_seconds"] > 0:
        # Not a sleep: that would keep a slot, and two slow scanners could stop all others.
        again = turn + 1
        ticket.enqueue("assemble", str(again), again, delay_seconds=state["wait_seconds"])
        return {"waiting": state["wait_seconds"]}
    made = _step(steps, "assemble", steps.assemble, *of)
    ticket.go_on(made, "analyze")
    return made


def _analyzing(steps: Steps, ticket: Ticket) -> dict[str, Any]:
    made = _step(steps, "analyze", steps.analyze, ticket.study_uid, ticket.generation)
    ticket.go_on(made, "report")
    return made


def _reporting(
    steps: Steps, ticket: Ticket, grounds: list[list[str]] | None = None
) -> dict[str, Any]:
    of = (ticket.study_uid, ticket.generation)
    if grounds is None:
        made = _step(steps, "report", steps.report, *of)
    else:
        made = _step(steps, "answer", steps.answer, *of, grounds)
    if "refused" in made:
        ticket.enqueue("report", ANSWER, made["grounds"])
        return made
    # As the step has recorded them: a replay under other settings must enqueue the same ones.
    for name in made["due"]:
        attempt = {"turn": 0, "waited": 0.0}
        ticket.enqueue("deliver", f"0:{name}", name, attempt, queue_partition_key=name)
    return made


def _delivering(steps: Steps, ticket: Ticket, name: str, attempt: dict[str, Any]) -> dict[str, Any]:
    of = (ticket.study_uid, ticket.generation)
    # The first of its attempts, or of those that ``jobs retry`` has begun.
    is_first = not (attempt.get("waited") or attempt.get("since"))
    answer = _step(steps, "send", steps.send, *of, name, is_first)
    if not answer["retry"]:
        return answer
    # By the sum of attempts and pauses: the wall clock may be set meanwhile. What an earlier version has
    # enqueued says since when instead.
    before = attempt.get("since") and answer["at"] - attempt["since"]
    waited = attempt.get("waited", before or 0.0) + answer.get("seconds", 0.0)
    if answer.get("acknowledged"):  # it takes objects: pauses and patience begin anew
        waited = 0.0
    if waited > GIVE_UP_SECONDS:
        raise Unreachable(name, f"given up after three days: {answer['retry']}")
    # As long again as it has been tried: pauses double, and do so anew after ``jobs retry``.
    pause = min(max(waited, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
    turn = attempt["turn"] + 1
    ticket.enqueue(
        *("deliver", f"{turn}:{name}", name, {"turn": turn, "waited": waited + pause}),
        queue_partition_key=name,
        delay_seconds=pause,
    )
    return answer


def register(steps: Steps) -> None:
    """Tell DBOS the four workflows."""

    def bound(body: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def run(study_uid: str, generation: int, priority: int, *rest: Any) -> dict[str, Any]:
            return body(steps, Ticket(study_uid, generation, priority), *rest)

        return run

    bodies: tuple[Callable[..., dict[str, Any]], ...]
    bodies = (_assembling, _analyzing, _reporting, _delivering)
    for word, bound_body in zip(index.QUEUES, map(bound, bodies), strict=True):
        DBOS.workflow(name=word, max_recovery_attempts=RECOVERIES)(bound_body)
