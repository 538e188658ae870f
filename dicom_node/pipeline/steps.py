"""The steps: thin calls into the verbs. Between steps travel paths and small JSON, never arrays."""

import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.analyze.apart import Apart
from dicom_node.assemble import assemble_study
from dicom_node.assemble.identity import one_patient, own_results, shared_header
from dicom_node.counters import REFUSALS
from dicom_node.errors import (
    FileLost,
    Incomplete,
    NotConformant,
    ReportError,
    SeveralPatients,
    StudyError,
    reason_of,
)
from dicom_node.files import Local, open_files, unfinished_name
from dicom_node.pipeline.guard import Guard
from dicom_node.pipeline.sending import Sender
from dicom_node.pipeline.stage import stage
from dicom_node.reasons import INTERNAL_ERROR
from dicom_node.report import Moments, Written, follow, hold_back, write_answer, write_objects
from dicom_node.settings import Settings
from dicom_node.study import (
    Ground,
    Outcome,
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
        self._files = open_files(settings)
        self._analyses = analyses
        self.send = Sender(settings, engine, self._files).send
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
            arrived = {row.sop_uid for row in rows if row.generation == generation}
            with self._files.local(study_uid) as local:
                instances = self._foreign(study_uid, rows, local)
                if arrived and not arrived & {item.sop_instance_uid for item in instances}:
                    # An archive that sends on what it gets must not be answered again, and again.
                    made: dict[str, Any] = {"nothing": RETURNED}
                else:
                    made = self._assembled(study_uid, generation, instances, local)
            fields |= made
        return made | {"seconds": fields["seconds"]}

    def _foreign(
        self, study_uid: str, rows: Sequence[sa.Row[Any]], local: Local, without_lost: bool = False
    ) -> list[StoredInstance]:
        """The instances that are not results of this program, of this node or another one.

        Raises FileLost, unless one may do without what is lost.
        """
        mine = index.results.c.study_uid == study_uid
        with self._engine.connect() as connection:
            known = set(connection.scalars(sa.select(index.results.c.sop_uid).where(mine)))
        instances = []
        rows = [row for row in rows if row.sop_uid not in known and row.state == index.KEPT]
        local.gather([(row.path, row.sha256) for row in rows])
        for row in rows:
            try:
                path = local.file(row.path, row.sha256)
            except FileLost:
                if without_lost:
                    continue
                raise
            instances.append(StoredInstance(row.sop_uid, row.sop_class, path, row.calling_ae))
        own = own_results(instances)
        return [item for item in instances if item.sop_instance_uid not in own]

    def _assembled(
        self, study_uid: str, generation: int, instances: Sequence[StoredInstance], local: Local
    ) -> dict[str, Any]:
        largest_bytes = self._settings.assemble.largest_mib * 2**20
        try:
            self._all_here(study_uid, generation)
            if delivered := self._delivered(study_uid, generation, local):
                one_patient(study_uid, instances, self._settings.sources, delivered)
            study = assemble_study(
                study_uid, generation, instances, self._settings.sources, largest_bytes
            )
        except StudyError as error:
            if isinstance(error, SeveralPatients):
                # Of an earlier generation: whose they are is in doubt now.
                index.withhold_results(self._engine, study_uid, error.code.meaning)
            return _refused([Ground(error.code.value, error.reason)])
        with local.written(_folder("work", study_uid, generation)) as folder:
            study.save(folder)
        unused = Counter(item.reason for item in study.unused)
        made: dict[str, Any] = {"scans": len(study.acquisitions), "unused": dict(unused)}
        return made | ({"cautions": list(study.cautions)} if study.cautions else {})

    def _delivered(self, study_uid: str, generation: int, local: Local) -> list[StoredInstance]:
        """The newest report that any destination has, if its file is kept: it names the patient too."""
        found = index.earlier_results(self._engine, study_uid, generation)
        for each in found:
            if each.kind == "measurements" and each.acknowledged:
                with contextlib.suppress(FileLost):
                    path = local.file(each.path, each.sha256)
                    return [StoredInstance(each.sop_uid, each.sop_class, path)]
        return []

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
            name = _folder("work", study_uid, generation)
            with self._files.local(study_uid) as local:
                work = local.folder(name)
                with local.added(name, "findings-*") as folder:
                    said = self._analyses.run(work, folder)
            made: dict[str, Any] = {"findings": [each.analysis for each in said if not each.ground]}
            if not made["findings"]:
                made = _refused([each.ground for each in said if each.ground])
            fields |= made | {"scans": len({each.acquisition for each in said})}
        return made | {"seconds": fields["seconds"]}

    def report(self, study_uid: str, generation: int) -> dict[str, Any]:
        """Findings to DICOM objects, on disk and in the index, each due at each destination."""
        with (
            stage("report", study_uid, generation) as fields,
            self._files.local(study_uid) as local,
        ):
            folder = _folder("results", study_uid, generation)
            earlier = self._earlier_reports(study_uid, generation, local)
            study, outcomes = self._found(study_uid, generation, local)
            destinations = self._settings.destinations
            fault: NotConformant | None = None
            with local.written(folder) as scratch:
                try:
                    moments = self._moments(study_uid, generation)
                    made = write_objects(study, outcomes, scratch, destinations, moments)
                    made = follow(made, earlier)
                    hold_back(study_uid, made)
                except NotConformant as error:
                    # Kept and remembered with their verdicts, due nowhere.
                    fault, made = error, tuple(replace(each, due=()) for each in error.written)
            due = self._record(study_uid, generation, made, folder)
            fields["objects"] = [item.kind for item in made]
            cautions = _caution(study_uid, generation, made)
            if fault:
                raise fault
        return {
            "objects": len(made),
            "due": due,
            "cautions": cautions,
            "seconds": fields["seconds"],
        }

    def _found(
        self, study_uid: str, generation: int, local: Local
    ) -> tuple[Study, tuple[Outcome, ...]]:
        """The study, its sources at hand, and what the analyses say of it. Raises ReportError, FileLost."""
        work = local.folder(_folder("work", study_uid, generation))
        study, outcomes = Study.load(work), load_outcomes(work)
        if not outcomes:
            raise ReportError(
                f"study {study_uid}: no findings lie in {work}; a shared folder must be mounted "
                "without a cache of its entries (NFS: actimeo=0)"
            )
        used = {
            path.name
            for acquisition in study.acquisitions
            for source in acquisition.sources
            for path in source.paths
        }
        rows = [
            row
            for row in index.instances_of(self._engine, study_uid, generation)
            if row.state == index.KEPT and Path(row.path).name in used
        ]
        local.gather([(row.path, row.sha256) for row in rows])
        for row in rows:
            local.file(row.path, row.sha256)  # which says what is lost
        return study, outcomes

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
                with self._files.local(study_uid) as local:
                    made, folder = self._answered(study_uid, generation, grounds, local)
                due = self._record(study_uid, generation, made, folder)
                fields["objects"] = [item.kind for item in made]
            for kind in ("work", "results"):  # of a stage whose process was killed over and over
                left = Path(_folder(kind, study_uid, generation))
                self._files.remove_tree(str(unfinished_name(left)))
        return {"answered": bool(due), "due": due, "seconds": fields["seconds"]}

    def _answered(
        self, study_uid: str, generation: int, grounds: Sequence[Sequence[str]], local: Local
    ) -> tuple[Sequence[Written], str]:
        """The answer, written; and where."""
        rows = index.instances_of(self._engine, study_uid, generation)
        foreign = self._foreign(study_uid, rows, local, without_lost=True)
        header = shared_header(study_uid, foreign, self._settings.sources)
        unanalyzed = Unanalyzed(
            study_uid, tuple(Ground(code, text) for code, text in grounds), header
        )
        earlier = self._earlier_reports(study_uid, generation, local)
        # A folder of its own: results that were held back stay to be looked at.
        folder = _folder("answers", study_uid, generation)
        with local.written(folder) as scratch:
            destinations = self._settings.destinations
            moments = self._moments(study_uid, generation)
            answers = write_answer(unanalyzed, scratch, destinations, moments)
            made = follow(answers, earlier)
            hold_back(study_uid, made)
        return made, folder

    def _moments(self, study_uid: str, generation: int) -> Moments:
        """As recorded when the generation was closed: a stage that runs again writes the same bytes."""
        closed_at, earlier = index.moments_of(self._engine, study_uid, generation)
        return Moments(earlier=earlier) if closed_at is None else Moments(closed_at, earlier)

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

    def _earlier_reports(
        self, study_uid: str, generation: int, local: Local
    ) -> dict[str, list[Path]]:
        """By destination, the documents of the latest earlier generation of which it has any.

        What it has not yet, it will not have: it is superseded when this generation is recorded.
        """
        found = index.earlier_results(self._engine, study_uid, generation)
        documents = [item for item in found if item.kind in REPORTS]
        earlier: dict[str, list[Path]] = {}
        for name in {name for item in documents for name in item.acknowledged}:
            theirs = [item for item in documents if name in item.acknowledged]
            latest = max(item.generation for item in theirs)
            earlier[name] = [
                local.file(each.path, each.sha256) for each in theirs if each.generation == latest
            ]
        return earlier

    def _record(
        self, study_uid: str, generation: int, made: Sequence[Written], folder: str
    ) -> list[str]:
        """Into the index, each object due where it is wanted; returns the names of these destinations."""
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
                f"{folder}/{item.path.name}",
                item.verdict or index.CONFORMS,
                self._files.size(f"{folder}/{item.path.name}"),
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


def _folder(kind: str, study_uid: str, generation: int) -> str:
    return f"{kind}/{study_uid}/{generation}"


def _caution(study_uid: str, generation: int, made: Sequence[Written]) -> list[str]:
    """Say once what to know of the results that were made; returns the sentences."""
    cautions = list(dict.fromkeys(text for item in made for text in item.cautions))
    for caution in cautions:
        what = {"study": study_uid, "generation": generation, "caution": caution}
        LOGGER.warning("results have a caution", extra={"fields": what})
    return cautions


def _refused(grounds: Sequence[Ground]) -> dict[str, Any]:
    """What the output of a step says of a refusal: for people one sentence, for the answer every ground."""
    once = dict.fromkeys(grounds)
    return {
        "refused": "; ".join(dict.fromkeys(ground.sentence for ground in once)),
        "grounds": [list(astuple(ground)) for ground in once],
    }
