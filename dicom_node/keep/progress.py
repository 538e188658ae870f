"""Which studies DBOS still works on, or gave up: sets that are small however many studies there are."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient, WorkflowStatus

from dicom_node import index

ACTIVE = ["DELAYED", "ENQUEUED", "PENDING"]
FAILED = ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
CANCELED = ["CANCELLED"]

Stage = tuple[int, str, str]
"""Generation, word, destination."""


class Progress:
    """The runs of stages that are not simply done, as they were when this was made."""

    def __init__(self, engine: sa.Engine, client: DBOSClient) -> None:
        self._engine = engine
        self._client = client
        self._active = self._studies(ACTIVE)
        self._stopped = self._studies(FAILED + CANCELED)

    def _studies(self, statuses: Sequence[str]) -> set[str]:
        found = self._client.list_workflows(
            status=list(statuses), load_input=False, load_output=False
        )
        return {item.workflow_id.partition(":")[0] for item in found}

    def is_going_on(self, study_uid: str) -> bool:
        return study_uid in self._active

    def has_stopped(self, study_uid: str, generation: int) -> bool:
        """Whether a stage of the latest generation failed or was canceled, and was not run again since."""
        if study_uid not in self._stopped:
            return False
        return any(
            number == generation and run.status in FAILED + CANCELED
            for (number, _, _), run in self.runs(study_uid).items()
        )

    def runs(self, study_uid: str) -> dict[Stage, WorkflowStatus]:
        """The last run of each stage of a study, as they are now."""
        last: dict[Stage, tuple[int, WorkflowStatus]] = {}
        for item in self._list(study_uid):
            _, generation, word, detail = item.workflow_id.split(":", 3)
            turn, _, destination = detail.partition(":")
            stage = (int(generation), word, destination)
            if int(turn or 0) >= last.get(stage, (0,))[0]:
                last[stage] = (int(turn or 0), item)
        return {stage: item for stage, (_, item) in last.items()}

    def ids(self, study_uid: str) -> list[str]:
        return [item.workflow_id for item in self._list(study_uid)]

    def next_turn(self, study_uid: str, stage: Stage) -> int:
        """The turn of a stage that was not run yet."""
        turns = [-1]
        for name in self.ids(study_uid):
            _, generation, word, detail = name.split(":", 3)
            turn, _, destination = detail.partition(":")
            if (int(generation), word, destination) == stage:
                turns.append(int(turn or 0))
        return max(turns) + 1

    def known(self, workflow_ids: list[str]) -> set[str]:
        """Those of some runs that there are."""
        found: list[Any] = self._client.list_workflows(
            workflow_ids=workflow_ids, load_input=False, load_output=False
        )
        return {item.workflow_id for item in found}

    def _list(self, study_uid: str) -> list[WorkflowStatus]:
        return index.runs_of(self._engine, self._client, [f"{study_uid}:"])
