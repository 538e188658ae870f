"""What is asked before the work of every step: its worker lost too often, room, a clock that was set."""

import logging
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node import index
from dicom_node.clock import Clock
from dicom_node.errors import DiskFull, SetAside
from dicom_node.pipeline.room import Room
from dicom_node.settings import Settings

LOGGER = logging.getLogger(__name__)

RECOVERIES = 5
"""A stage that ends its process or its machine this often is set aside; the worker lives on."""

WITHOUT_FILES = ("close", "send")
"""Steps that write into the database alone."""


class Guard:
    """Used by many threads at once."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self._engine = engine
        self._clock = Clock()
        self.room = Room(settings)

    def run(
        self, workflow_id: str, name: str, work: Callable[..., dict[str, Any]], *of: Any
    ) -> dict[str, Any]:
        """Do a step's work once there is room, unless its machines were lost too often. Raises SetAside."""
        if (lost := index.rescues_of(self._engine, workflow_id)) > RECOVERIES:
            raise SetAside(f"its worker was lost {lost} times in this stage; it is not tried again")
        while True:
            self.room.wait(for_files=name not in WITHOUT_FILES)
            self.mind_clock()
            try:
                return work(*of)
            except DiskFull:
                self.room.pause()

    def mind_clock(self) -> bool:
        """Whether the clock was set since the last look; then what waits is counted from now on."""
        if not (seconds := self._clock.was_set()):
            return False
        index.count_anew(self._engine)
        fields = {"seconds": round(seconds, 1), "what": "what waits is counted from now on"}
        LOGGER.warning("the clock was set", extra={"fields": fields})
        return True

    def look_ahead(self, client: DBOSClient, longest_seconds: dict[str, float]) -> None:
        """Let no stage wait for a time that the clock, set back, reaches only in hours."""
        if count := index.hasten_far_ones(client, longest_seconds):
            LOGGER.warning("the clock was set back", extra={"fields": {"hastened": count}})
