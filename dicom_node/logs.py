"""The log: one JSON line per event on standard error, with UIDs and counts, never patient data."""

import json
import logging
import sys
import time
import warnings
from typing import Any

LOGGER = logging.getLogger("dicom_node")


class JsonLines(logging.Formatter):
    """One line: when, how bad, which role, what happened, and the event's own fields."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "role": self._role,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = _places(record)
        return json.dumps(line)


def _places(record: logging.LogRecord) -> list[str]:
    """Where it happened, without the message: a library's message may quote a patient's name."""
    places = []
    trace = record.exc_info[2] if record.exc_info else None
    while trace:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places


def write_logs(role: str) -> None:
    """Send our events to standard error; what libraries say is dropped, as it may quote headers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(role))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    logging.getLogger().addHandler(logging.NullHandler())
    dbos = logging.getLogger("dbos")
    dbos.addHandler(handler)
    dbos.setLevel(logging.WARNING)
    dbos.propagate = False
    warnings.simplefilter("ignore")


def log(event: str, **fields: Any) -> None:
    """One event of the process itself."""
    LOGGER.info(event, extra={"fields": fields})
