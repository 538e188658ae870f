"""The log: one JSON line per event on standard error; identifiers as pseudonyms, never patient data."""

import json
import logging
import sys
import time
import warnings
from typing import Any

from dicom_node.pseudonyms import Pseudonyms, unknown_key

LOGGER = logging.getLogger("dicom_node")

IDENTIFIERS = frozenset({"study", "series", "instance", "step", "transaction"})
"""Fields that hold one identifier, which may be anything that a sender made up."""

PLAIN = frozenset({"sop_classes"})
"""Fields whose UIDs say nothing of a patient, and which a manufacturer made up: they go into the settings."""

REPEAT_SECONDS = 60.0


class JsonLines(logging.Formatter):
    """One line: when, how bad, which role, what happened, and the event's own fields."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role
        self.pseudonyms: Pseudonyms = unknown_key()

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "role": self._role,
            "event": self.pseudonyms.hide(record.getMessage()),
            **{name: self._hidden(name, value) for name, value in fields.items()},
        }
        if record.exc_info:
            line["trace"] = _places(record)
        return json.dumps(line)

    def _hidden(self, name: str, value: Any) -> Any:
        """A field's value, whatever is in it, with pseudonyms for identifiers."""
        if name in PLAIN:
            return value
        if isinstance(value, dict):
            return {self.pseudonyms.hide(str(k)): self._hidden(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple | set):
            return [self._hidden(name, item) for item in value]
        if isinstance(value, int | float | None):
            return value
        text = str(value)
        return self.pseudonyms.of(text) if name in IDENTIFIERS else self.pseudonyms.hide(text)


def _places(record: logging.LogRecord) -> list[str]:
    """Where it happened, without the message: a library's message may quote a patient's name."""
    places = []
    trace = record.exc_info[2] if record.exc_info else None
    while trace:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places


class Sparing(logging.Filter):
    """Lets the same words through once a minute: DBOS says four times a second that a disk is full."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, words = time.monotonic(), record.getMessage()
        self._said = {text: at for text, at in self._said.items() if now - at < REPEAT_SECONDS}
        return self._said.setdefault(words, now) == now


def write_logs(role: str) -> JsonLines:
    """Send our events to standard error; what libraries say is dropped, as it may quote headers.

    The lines' pseudonyms are to be set as soon as the settings are known.
    """
    handler = logging.StreamHandler(sys.stderr)
    lines = JsonLines(role)
    handler.setFormatter(lines)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    logging.getLogger().addHandler(logging.NullHandler())
    dbos = logging.getLogger("dbos")
    dbos.addHandler(handler)
    dbos.addFilter(Sparing())
    dbos.setLevel(logging.WARNING)
    dbos.propagate = False
    warnings.simplefilter("ignore")
    return lines


def log(event: str, level: int = logging.INFO, /, **fields: Any) -> None:
    """One event of the process itself."""
    LOGGER.log(level, event, extra={"fields": fields})
