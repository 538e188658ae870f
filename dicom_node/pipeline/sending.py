"""The step of deliver: one attempt to bring a destination what it has not acknowledged yet."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.counters import SENT
from dicom_node.deliver import Receipt, deliver
from dicom_node.errors import (
    Busy,
    Declined,
    DeliveryError,
    ReportError,
    SettingsError,
    StoreAway,
    Unreachable,
)
from dicom_node.files import Files, Local
from dicom_node.pipeline.committing import commit, give_up
from dicom_node.pipeline.handover import handover
from dicom_node.pipeline.stage import stage
from dicom_node.settings import Destination, Settings


class Sender:
    """Sends results from where they are kept; what each is answered is remembered."""

    def __init__(self, settings: Settings, engine: sa.Engine, files: Files) -> None:
        self._settings = settings
        self._engine = engine
        self._files = files

    def send(self, study_uid: str, generation: int, name: str) -> dict[str, Any]:
        """One attempt to deliver what a destination has not acknowledged yet.

        Returns ``retry``: the reason to try again, or nothing. Raises Declined, SettingsError.
        """
        found = [each for each in self._settings.destinations if each.name == name]
        due = index.results_due(self._engine, study_uid, generation, name)
        if not due and not any(each.commitment for each in found):
            # Superseded meanwhile; or cut off after the last answer was recorded, before the step was.
            return {"retry": "", "at": time.time()}
        with stage("deliver", study_uid, generation) as fields:
            fields |= {"destination": name, "instances": len(due), "acknowledged": 0}
            if not found:
                sentence = f"destination {name} is no longer configured; results wait for it"
                raise SettingsError(sentence)
            self._send(due, found[0], fields, (study_uid, generation))
        retry = fields.get("retry") or fields.get("waits", "")
        return {"retry": retry, "at": time.time(), "seconds": fields["seconds"]}

    def _send(
        self,
        due: Sequence[sa.Row[Any]],
        destination: Destination,
        fields: dict[str, Any],
        of: tuple[str, int],
    ) -> None:
        """Send results and ask for commitment; what each is answered is remembered, counted and audited.

        Raises Declined.
        """
        name, waiting = destination.name, {row.sop_uid for row in due}
        ae_title, acknowledged = self._settings.node.ae_title, set[str]()

        def answered(receipt: Receipt) -> None:
            waiting.discard(receipt.sop_instance_uid)
            if receipt.is_delivered:
                acknowledged.add(receipt.sop_instance_uid)
            status = "delivered" if receipt.is_delivered else "failed"
            status = "warning" if receipt.is_warning else status
            reason = "" if status == "delivered" else f"0x{receipt.status:04X}"
            index.record_delivery(self._engine, receipt.sop_instance_uid, name, status, reason)
            SENT.labels(name, status).inc()

        def unanswered(status: str, error: DeliveryError) -> None:
            for sop_uid in waiting:
                index.record_delivery(self._engine, sop_uid, name, status, error.reason)

        try:
            give_up(self._engine, name, *of)
            if due:
                with self._files.local(of[0]) as local:
                    paths = _paths(due, local)
                    with handover(due, paths, ae_title, destination, acknowledged):
                        deliver(paths, destination, ae_title, answered)
            fields["waits"] = commit(self._engine, destination, ae_title, *of)
        except (Unreachable, Busy) as error:
            fields["retry"] = error.reason
            unanswered("waiting", error)
        except StoreAway as error:
            fields["retry"] = str(error)
            unanswered("waiting", Unreachable(name, str(error)))
        except Declined as error:
            unanswered("failed", error)
            raise
        finally:
            fields["acknowledged"] = len(acknowledged)


def _paths(due: Sequence[sa.Row[Any]], local: Local) -> list[Path]:
    """Raises FileLost, or ReportError where one is gone."""
    paths = [local.file(row.path, row.sha256) for row in due]
    if gone := [str(row.path) for row, path in zip(due, paths, strict=True) if not path.exists()]:
        raise ReportError(f"{', '.join(gone)}: gone; see `dicom-node check --deep`")
    return paths
