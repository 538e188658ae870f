"""How far the newest studies are: one row each, one cell for each word of the sentence."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from dicom_node import index
from dicom_node.web.progress import failed_since, workflows

SHOWN = 50
LOOKS = 10
"""Assembly looks again until a study is complete; this many of its looks are asked for."""

FAILURES_READ = 2000
DONE, NOW, WAITING, STOPPED, NOTHING = "done", "now", "waiting", "stopped", "nothing"
"""Kinds of cells: it is done; it is being done; it waits; it ended here; it has not come to it."""

WORSE = ("committed", "delivered", "warning", "superseded", "pending", "waiting", "failed")


@dataclass(frozen=True, slots=True)
class Cell:
    """How far one word is: its kind, a few words, and when (seconds since 1970; 0.0 = not)."""

    kind: str
    text: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One study."""

    study_uid: str
    generation: int
    cells: tuple[Cell, ...]


@dataclass(slots=True)
class _Known:
    """What the tables say of one study's latest generation."""

    study: sa.Row[Any]
    instances: int = 0
    runs: dict[str, sa.Row[Any]] = field(default_factory=dict)
    failed: dict[str, bool] = field(default_factory=dict)
    made_at: float = 0.0
    deliveries: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    delivered_at: float = 0.0


def recent(engine: sa.Engine, most: int = SHOWN) -> tuple[Row, ...]:
    """The newest studies, the newest first. Raises DATABASE_AWAY."""
    newest = sa.select(index.studies).order_by(index.studies.c.last_at.desc()).limit(most)
    with engine.connect() as connection:
        known = {row.study_uid: _Known(row) for row in connection.execute(newest)}
        if known:
            _ask_index(connection, known)
            _ask_progress(connection, known)
    return tuple(
        Row(uid, each.study.generation, (*_cells(each), _delivered(each)))
        for uid, each in known.items()
    )


def _ask_index(connection: sa.Connection, known: Mapping[str, _Known]) -> None:
    instances, results, deliveries = index.instances, index.results, index.deliveries
    of_these = instances.c.study_uid.in_(known)
    counted = sa.select(instances.c.study_uid, sa.func.count()).where(of_these)
    for uid, count in connection.execute(counted.group_by(instances.c.study_uid)):
        known[uid].instances = count
    # Outer: a result may be due nowhere.
    of_results = results.c.study_uid.in_(known)
    rows = connection.execute(
        sa.select(
            *(results.c.study_uid, results.c.generation, results.c.made_at),
            *(deliveries.c.destination, deliveries.c.status, deliveries.c.delivered_at),
        )
        .outerjoin(deliveries, deliveries.c.sop_uid == results.c.sop_uid)
        .where(of_results)
    )
    for uid, generation, made_at, destination, status, delivered_at in rows:
        each = known[uid]
        if generation == each.study.generation:
            each.made_at = max(each.made_at, made_at)
            if destination:
                each.deliveries[destination][status] += 1
                each.delivered_at = max(each.delivered_at, delivered_at or 0.0)


def _ask_progress(connection: sa.Connection, known: Mapping[str, _Known]) -> None:
    table, asked = workflows(connection), {}
    for uid, each in known.items():
        for word in (*_assemblies(), "analyze:", "report:", "report::answer"):
            asked[f"{uid}:{each.study.generation}:{word}"] = (each, word)
    columns = (table.c.workflow_uuid, table.c.status, table.c.created_at)
    found = sa.select(*columns).where(table.c.workflow_uuid.in_(asked))
    for row in connection.execute(found):
        each, word = asked[row.workflow_uuid]
        each.runs[word] = row
    # Of any turn: what failed is found by its state.
    oldest = min(each.study.last_at for each in known.values()) - 86400
    for failure in failed_since(connection, oldest, FAILURES_READ):
        uid, generation, *_ = failure.workflow_id.split(":")
        if uid in known and known[uid].study.generation == int(generation):
            known[uid].failed[failure.name] = failure.is_canceled


def _assemblies() -> list[str]:
    return [f"assemble:{turn}" for turn in range(LOOKS)]


def _cells(known: _Known) -> tuple[Cell, ...]:
    """Of receive, assemble, analyze and report."""
    study, images = known.study, f"{known.instances} instances"
    received = Cell(DONE if study.closed else NOW, images, study.last_at)
    answer = known.runs.get("report::answer")
    cells = [received]
    for word, after in (("assemble", "analyze:"), ("analyze", "report:")):
        if word in known.failed:
            cells.append(_stop(known.failed[word]))
        elif after in known.runs:
            cells.append(Cell(DONE, "", known.runs[after].created_at / 1000))
        elif cells[-1].kind != DONE:
            cells.append(Cell(NOTHING, ""))
        elif answer is not None:
            cells.append(Cell(STOPPED, "refused", answer.created_at / 1000))
        else:
            cells.append(_going_on(known, word))
    return (*cells, _reported(known))


def _reported(known: _Known) -> Cell:
    if "report" in known.failed:
        return _stop(known.failed["report"])
    run = known.runs.get("report::answer") or known.runs.get("report:")
    if run is None:
        return Cell(NOTHING, "")
    if run.status == "SUCCESS":
        text = "" if run.workflow_uuid.endswith("report:") else "reason reported"
        if not known.made_at:
            return Cell(DONE, "no report wanted", run.created_at / 1000)
        return Cell(DONE, text, known.made_at)
    return _run_state(run)


def _going_on(known: _Known, word: str) -> Cell:
    """A stage that has not ended; or an assembly that had nothing to assemble."""
    if word == "analyze":
        return _run_state(known.runs["analyze:"])
    looks = [known.runs[each] for each in _assemblies() if each in known.runs]
    if looks and len(looks) < LOOKS and all(run.status == "SUCCESS" for run in looks):
        return Cell(STOPPED, "nothing to analyze")
    return Cell(NOW, "running")


def _run_state(run: sa.Row[Any]) -> Cell:
    return Cell(NOW, "running") if run.status == "PENDING" else Cell(WAITING, "waiting")


def _stop(is_canceled: bool) -> Cell:
    return Cell(STOPPED, "canceled" if is_canceled else "failed")


def _delivered(known: _Known) -> Cell:
    """To all destinations: the worst of them speaks for all, each is named."""
    if not known.deliveries:
        return Cell(NOTHING, "")
    states = {name: max(count, key=WORSE.index) for name, count in known.deliveries.items()}
    worst = max(states.values(), key=WORSE.index)
    done = {"committed", "delivered", "warning"}
    text = ", ".join(name if state in done else f"{name} {state}" for name, state in states.items())
    if worst in done:
        return Cell(DONE, text, known.delivered_at)
    return Cell(STOPPED if worst in ("failed", "superseded") else WAITING, text)


def clock(at: float, now: float) -> str:
    """A time of today as hours and minutes, an earlier one with its day."""
    if not at:
        return ""
    then = time.localtime(at)
    today = time.localtime(now)[:3] == then[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)
