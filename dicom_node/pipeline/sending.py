"""The step of deliver: one attempt to bring a destination what it has not acknowledged yet."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.counters import SENT
from dicom_node.deliver import NOT_SUPPORTED, Receipt, deliver
from dicom_node.deliver.causes import REFUSES
from dicom_node.errors import (
    Busy,
    Declined,
    DeliveryError,
    Rejected,
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

    def send(
        self, study_uid: str, generation: int, name: str, with_failed: bool = True
    ) -> dict[str, Any]:
        """One attempt to deliver what a destination has not acknowledged yet.

        ``with_failed``: also what it has refused for good, as at the first attempt and after ``jobs retry``.
        Returns ``retry``: the reason to try again, or nothing. Raises Declined, SettingsError.
        """
        found = [each for each in self._settings.destinations if each.name == name]
        due = index.results_due(self._engine, study_uid, generation, name, with_failed)
        refused = {} if due else index.results_failed(self._engine, study_uid, generation, name)
        if not due and not refused and not any(each.commitment for each in found):
            # Superseded meanwhile; or cut off after the last answer was recorded, before the step was.
            return {"retry": "", "at": time.time()}
        with stage("deliver", study_uid, generation) as fields:
            fields |= {"destination": name, "instances": len(due), "acknowledged": 0}
            if not found:
                sentence = f"destination {name} is no longer configured; results wait for it"
                raise SettingsError(sentence)
            self._send(due, found[0], fields, (study_uid, generation))
        retry = fields.get("retry") or fields.get("waits", "")
        done = {key: fields[key] for key in ("acknowledged", "seconds")}
        return {"retry": retry, "at": time.time()} | done

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
        name, ae_title = destination.name, self._settings.node.ae_title
        ledger = _Ledger(self._engine, destination, {row.sop_uid for row in due})
        try:
            give_up(self._engine, name, *of)
            if due:
                with self._files.local(of[0]) as local:
                    paths = _paths(due, local)
                    with handover(due, paths, ae_title, destination, ledger.acknowledged):
                        deliver(paths, destination, ae_title, ledger.answered, ledger.sending)
            if refused := index.results_failed(self._engine, *of, name):
                # Of this attempt or of an earlier one, after which others were still waited for.
                said = (f"instance {sop_uid}: {why}" for sop_uid, why in refused.items())
                raise Declined(name, "; ".join(said), REFUSES)
            fields["waits"] = commit(self._engine, destination, ae_title, *of)
        except (Unreachable, Busy, Rejected) as error:
            fields |= {"retry": error.reason, "cause": error.cause}
            ledger.close("waiting", error)
        except StoreAway as error:
            fields["retry"] = str(error)
            ledger.close("waiting", Unreachable(name, str(error)))
        except Declined as error:
            fields["cause"] = error.cause
            ledger.close("failed", error)
            raise
        finally:
            fields["acknowledged"] = len(ledger.acknowledged)


class _Ledger:
    """What each object of an attempt has come to, recorded before the next one is sent."""

    def __init__(self, engine: sa.Engine, destination: Destination, waiting: set[str]) -> None:
        self._engine = engine
        self._destination = destination
        self._waiting = waiting
        self.acknowledged = set[str]()

    def sending(self, sop_uid: str) -> bool:
        """Whether the destination may be believed when it says that it has the object already."""
        is_open = index.record_sending(self._engine, sop_uid, self._destination.name)
        return is_open or self._destination.commitment

    def answered(self, receipt: Receipt) -> None:
        sop_uid, name = receipt.sop_instance_uid, self._destination.name
        if receipt.is_deferred:
            index.record_answer(self._engine, sop_uid, name)
            SENT.labels(name, "deferred").inc()
            return  # waits, with what else is left at the end of the attempt
        self._waiting.discard(sop_uid)
        status, reason = _said(receipt)
        if receipt.is_delivered:
            self.acknowledged.add(sop_uid)
        elif receipt.status != NOT_SUPPORTED:
            index.record_answer(self._engine, sop_uid, name)
        index.record_delivery(self._engine, sop_uid, name, status, reason)
        SENT.labels(name, status).inc()

    def close(self, status: str, error: DeliveryError) -> None:
        """What is left, at the end of the attempt."""
        for sop_uid in self._waiting:
            index.record_delivery(
                self._engine, sop_uid, self._destination.name, status, error.reason
            )


def _said(receipt: Receipt) -> tuple[str, str]:
    """Status and reason of a delivery."""
    code = f"0x{receipt.status:04X}"
    if receipt.is_repeated:
        return "warning", f"{code}: it was there already, from a send that was not answered"
    if receipt.is_warning:
        return "warning", code
    return ("delivered", "") if receipt.is_delivered else ("failed", receipt.said)


def _paths(due: Sequence[sa.Row[Any]], local: Local) -> list[Path]:
    """Raises FileLost, or ReportError where one is gone."""
    paths = [local.file(row.path, row.sha256) for row in due]
    if gone := [str(row.path) for row, path in zip(due, paths, strict=True) if not path.exists()]:
        raise ReportError(f"{', '.join(gone)}: gone; see `dicom-node check --deep`")
    return paths
