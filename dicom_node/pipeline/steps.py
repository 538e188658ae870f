"""The steps: thin calls into the verbs. Between steps travel paths and small JSON, never arrays."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.analyze.apart import Apart
from dicom_node.assemble import assemble_study
from dicom_node.assemble.identity import own_results, shared_header
from dicom_node.counters import REFUSALS, SENT
from dicom_node.deliver import Receipt, deliver
from dicom_node.errors import (
    Busy,
    Declined,
    DeliveryError,
    Incomplete,
    NotConformant,
    PatientsDiffer,
    ReportError,
    SettingsError,
    StudyError,
    Unreachable,
    reason_of,
)
from dicom_node.pipeline.committing import commit, give_up
from dicom_node.pipeline.guard import Guard
from dicom_node.pipeline.handover import handover
from dicom_node.pipeline.stage import added, stage, written
from dicom_node.reasons import INTERNAL_ERROR, OTHER_PATIENT
from dicom_node.report import Written, follow, hold_back, write_answer, write_objects
from dicom_node.settings import Destination, Settings
from dicom_node.study import (
    Ground,
    StoredInstance,
    Study,
    Unanalyzed,
    load_outcomes,
)

LOGGER = logging.getLogger(__name__)

REPORTS = ("measurements", "refusal")
"""Kinds of results that are documents, and so name their predecessors."""

RETURNED = "all instances are results of this program that came back"


class Steps:
    """The steps, with the settings, the database and the analyses."""

    def __init__(self, settings: Settings, engine: sa.Engine, analyses: Apart) -> None:
        self._settings = settings
        self._engine = engine
        self._data = settings.node.files
        self._analyses = analyses
        self.guard = Guard(settings, engine)

    def close_if_complete(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Seconds to wait until the generation may be complete (0.0 = it is), and its priority."""
        receive = self._settings.receive
        rules = index.Rules(receive.quiet_seconds, receive.release_seconds)
        made = index.close_if_complete(self._engine, study_uid, generation, rules)
        if not made.wait_seconds:
            what = {"study": study_uid, "generation": generation, "evidence": made.evidence}
            LOGGER.info("complete", extra={"fields": what})
        return asdict(made)

    def assemble(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Instances to Scans, on disk; or the reason why they cannot become any."""
        with stage("assemble", study_uid, generation) as fields:
            rows = index.instances_of(self._engine, study_uid, generation)
            fields["instances"] = len(rows)
            instances = self._foreign(study_uid, rows)
            arrived = {row.sop_uid for row in rows if row.generation == generation}
            if arrived and not arrived & {item.sop_instance_uid for item in instances}:
                # An archive that sends on what it gets must not be answered again, and again.
                made: dict[str, Any] = {"nothing": RETURNED}
            else:
                made = self._assembled(study_uid, generation, instances)
            fields |= made
        return made | {"seconds": fields["seconds"]}

    def _foreign(self, study_uid: str, rows: Sequence[sa.Row[Any]]) -> list[StoredInstance]:
        """The instances that are not results of this program, of this node or another one."""
        mine = index.results.c.study_uid == study_uid
        with self._engine.connect() as connection:
            known = set(connection.scalars(sa.select(index.results.c.sop_uid).where(mine)))
        instances = [
            StoredInstance(row.sop_uid, row.sop_class, self._data / row.path, row.calling_ae)
            for row in rows
            if row.sop_uid not in known and row.state == index.KEPT
        ]
        own = own_results(instances)
        return [item for item in instances if item.sop_instance_uid not in own]

    def _assembled(
        self, study_uid: str, generation: int, instances: Sequence[StoredInstance]
    ) -> dict[str, Any]:
        largest_bytes = self._settings.assemble.largest_mib * 2**20
        try:
            self._all_here(study_uid, generation)
            study = assemble_study(
                study_uid, generation, instances, self._settings.sources, largest_bytes
            )
        except StudyError as error:
            return _refused([Ground(error.code.value, error.reason)])
        with written(self._work(study_uid, generation)) as folder:
            study.save(folder)
        unused = Counter(item.reason for item in study.unused)
        return {"scans": len(study.acquisitions), "unused": dict(unused)}

    def _all_here(self, study_uid: str, generation: int) -> None:
        """Raises Incomplete where instances were purged or lost: part of a study is another study."""
        rows = index.instances_of(self._engine, study_uid, generation)
        if gone := [row.state for row in rows if row.state != index.KEPT]:
            counts = ", ".join(f"{count} {state}" for state, count in sorted(Counter(gone).items()))
            reason = (
                f"of {len(rows)} instances that came, {counts}; send the study again as a whole"
            )
            raise Incomplete(study_uid, reason)

    def analyze(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Scans to Findings, on disk; or the reasons why no analysis gave any."""
        with stage("analyze", study_uid, generation) as fields:
            work = self._work(study_uid, generation)
            with added(work, "findings-*") as folder:
                said = self._analyses.run(work, folder)
            made: dict[str, Any] = {"findings": [each.analysis for each in said if not each.ground]}
            if not made["findings"]:
                made = _refused([each.ground for each in said if each.ground])
            fields |= made | {"scans": len({each.acquisition for each in said})}
        return made | {"seconds": fields["seconds"]}

    def report(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Findings to DICOM objects, on disk and in the index, each due at each destination."""
        with stage("report", study_uid, generation) as fields:
            work, folder = self._work(study_uid, generation), self._results(study_uid, generation)
            earlier = self._earlier_reports(study_uid, generation)
            study, destinations = Study.load(work), self._settings.destinations
            outcomes = load_outcomes(work)
            if not outcomes:
                raise ReportError(
                    f"study {study_uid}: no findings lie in {work}; a shared folder must be mounted "
                    "without a cache of its entries (NFS: actimeo=0)"
                )
            fault: NotConformant | None = None
            try:
                with written(folder) as scratch:
                    try:
                        made = write_objects(study, outcomes, scratch, destinations)
                        made = follow(made, earlier)
                        hold_back(study_uid, made)
                    except NotConformant as error:
                        # Kept and remembered with their verdicts, due nowhere.
                        fault, made = error, tuple(replace(each, due=()) for each in error.written)
            except PatientsDiffer as error:
                refused = _refused([Ground(OTHER_PATIENT.value, str(error))])
                fields |= refused
            else:
                refused = {}
                due = self._record(study_uid, generation, made, folder)
                fields["objects"] = [item.kind for item in made]
                cautions = _caution(study_uid, generation, made)
            if fault:
                raise fault
        if refused:
            return refused | {"seconds": fields["seconds"]}
        return {
            "objects": len(made),
            "due": due,
            "cautions": cautions,
            "seconds": fields["seconds"],
        }

    def answer(
        self, study_uid: str, generation: int, grounds: Sequence[Sequence[str]]
    ) -> dict[str, Any]:
        """The report that a study was not analyzed, and why, due where such reports are wanted."""
        due: list[str] = []
        with stage("report", study_uid, generation) as fields:
            fields["codes"] = [code for code, _ in grounds]
            for code in dict.fromkeys(fields["codes"]):
                REFUSALS.labels(code).inc()
            if self._settings.report.refusals and not self._has_results(study_uid, generation):
                rows = index.instances_of(self._engine, study_uid, generation)
                header = shared_header(study_uid, self._foreign(study_uid, rows))
                unanalyzed = Unanalyzed(
                    study_uid, tuple(Ground(code, text) for code, text in grounds), header
                )
                earlier = self._earlier_reports(study_uid, generation)
                # A folder of its own: results that were held back stay to be looked at.
                folder = self._answers(study_uid, generation)
                with written(folder) as scratch:
                    answers = write_answer(unanalyzed, scratch, self._settings.destinations)
                    made = follow(answers, earlier)
                    hold_back(study_uid, made)
                due = self._record(study_uid, generation, made, folder)
                fields["objects"] = [item.kind for item in made]
        return {"answered": bool(due), "due": due, "seconds": fields["seconds"]}

    def dead_letter(
        self, study_uid: str, generation: int, word: str, error: BaseException | None
    ) -> list[list[str]]:
        """The grounds to answer a stage that failed for good; none where a later generation is there."""
        studies = index.studies
        with self._engine.connect() as connection:
            latest = connection.scalar(
                sa.select(studies.c.generation).where(studies.c.study_uid == study_uid)
            )
        if latest != generation:
            return []
        reason = reason_of(getattr(error, "name", type(error).__name__))
        sentence = f"The study was received, but the program could not {word} it"
        if reason != INTERNAL_ERROR:
            sentence += f": {error}"
        return [list(astuple(Ground(reason.value, f"{sentence}.")))]

    def _has_results(self, study_uid: str, generation: int) -> bool:
        """Whether a stage that failed for good had sent what it made on its way before it failed."""
        results, deliveries = index.results, index.deliveries
        query = sa.exists().where(
            results.c.study_uid == study_uid,
            results.c.generation == generation,
            results.c.analysis != "",
            deliveries.c.sop_uid == results.c.sop_uid,
        )
        with self._engine.connect() as connection:
            return bool(connection.scalar(sa.select(query)))

    def _earlier_reports(self, study_uid: str, generation: int) -> dict[str, list[Path]]:
        """By destination, the documents of the latest earlier generation of which it has any.

        What it has not yet, it will not have: it is superseded when this generation is recorded.
        """
        found = index.earlier_results(self._engine, study_uid, generation)
        documents = [item for item in found if item.kind in REPORTS]
        earlier: dict[str, list[Path]] = {}
        for name in {name for item in documents for name in item.acknowledged}:
            theirs = [item for item in documents if name in item.acknowledged]
            latest = max(item.generation for item in theirs)
            earlier[name] = [self._data / each.path for each in theirs if each.generation == latest]
        return earlier

    def _record(
        self, study_uid: str, generation: int, made: Sequence[Written], folder: Path
    ) -> list[str]:
        """Into the index, each object due where it is wanted; returns the names of these destinations."""
        folder = folder.relative_to(self._data)
        groups: dict[tuple[str, ...], list[index.Result]] = defaultdict(list)
        for item in made:
            result = index.Result(
                item.sop_instance_uid,
                study_uid,
                generation,
                item.analysis,
                item.acquisition,
                item.kind,
                item.sop_class_uid,
                item.sha256,
                str(folder / item.path.name),
                item.verdict or index.CONFORMS,
                (self._data / folder / item.path.name).stat().st_size,
            )
            groups[self._wanted(item)].append(result)
        for names, results in groups.items():
            for sop_uid in index.record_results(self._engine, results, names):
                what = {"study": study_uid, "generation": generation, "instance": sop_uid}
                LOGGER.info("superseded by this generation", extra={"fields": what})
        return list(dict.fromkeys(name for names in groups for name in names))

    def _wanted(self, item: Written) -> tuple[str, ...]:
        """Where an object is due; a refusal only where such reports are wanted."""
        if item.kind != "refusal":
            return item.due
        wanted = [each.name for each in self._settings.destinations if each.refusals]
        is_wanted = self._settings.report.refusals
        return tuple(name for name in item.due if is_wanted and name in wanted)

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
                paths = self._files(due)
                with handover(due, paths, ae_title, destination, acknowledged):
                    deliver(paths, destination, ae_title, answered)
            fields["waits"] = commit(self._engine, destination, ae_title, *of)
        except (Unreachable, Busy) as error:
            fields["retry"] = error.reason
            unanswered("waiting", error)
        except Declined as error:
            unanswered("failed", error)
            raise
        finally:
            fields["acknowledged"] = len(acknowledged)

    def _files(self, due: Sequence[sa.Row[Any]]) -> list[Path]:
        """Raises ReportError where one is gone."""
        paths = [self._data / row.path for row in due]
        if gone := [
            str(row.path) for row, path in zip(due, paths, strict=True) if not path.exists()
        ]:
            raise ReportError(f"{', '.join(gone)}: gone; see `dicom-node check --deep`")
        return paths

    def _work(self, study_uid: str, generation: int) -> Path:
        return self._data / "work" / study_uid / str(generation)

    def _results(self, study_uid: str, generation: int) -> Path:
        return self._data / "results" / study_uid / str(generation)

    def _answers(self, study_uid: str, generation: int) -> Path:
        return self._data / "answers" / study_uid / str(generation)


def _caution(study_uid: str, generation: int, made: Sequence[Written]) -> list[str]:
    """Say once which viewers will not show what was made; returns the sentences."""
    cautions = list(dict.fromkeys(text for item in made for text in item.cautions))
    for caution in cautions:
        what = {"study": study_uid, "generation": generation, "caution": caution}
        LOGGER.warning("not shown by every viewer", extra={"fields": what})
    return cautions


def _refused(grounds: Sequence[Ground]) -> dict[str, Any]:
    """What the output of a step says of a refusal: for people one sentence, for the answer every ground."""
    once = dict.fromkeys(grounds)
    return {
        "refused": "; ".join(dict.fromkeys(ground.sentence for ground in once)),
        "grounds": [list(astuple(ground)) for ground in once],
    }
