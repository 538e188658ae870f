"""When a study is complete, and what shows it: the strongest evidence first, quiet time last.

expected objects      as many instances as the site says its scanner sends
storage commitment    the scanner asked to commit to all that was received, and all it named is here
procedure step        every procedure step (MPPS) is completed, and all that they name is here
release               the last association was released, and no other carries the study
quiet time            none of these; also when something that was named or expected never came

What was named or expected and is not here outweighs a release: the study then waits for it.
"""

import time
from dataclasses import dataclass

import sqlalchemy as sa
from dbos import DBOSClient

from dicom_node.index.announcements import IN_PROGRESS, STEP
from dicom_node.index.arrivals import Rules, workflow_id
from dicom_node.index.runs import going_on
from dicom_node.index.tables import (
    announcements,
    associations,
    generations,
    instances,
    procedure_steps,
    studies,
)

EXPECTED, RELEASE, QUIET, CANCELED = "expected objects", "release", "quiet time", "canceled"

FORGOTTEN_ASSOCIATION_SECONDS = 3600.0
"""A receiver that has not touched an association for this long is gone with it."""

FORGOTTEN_STEP_SECONDS = 3600.0
"""A procedure step in progress holds a study open for this long after the last sign of life of the study."""

SHORTEST_WAIT_SECONDS = 0.5
"""Between two looks at a study that changes under one's eyes."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """Seconds to wait before a generation may close (0.0 = it is closed), its priority, what showed it."""

    wait_seconds: float
    priority: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the open generation of a study; counts of instances unless said otherwise.

    received, series    of all generations; ``received_before`` without the open one.
    named, missing      by the scanner, and of these not received; ``unnamed``: received, not named.
    named_here          named ones that the open generation brought: late data need evidence of their own.
    named_by            "storage commitment", "procedure step", both joined, or "".
    """

    received: int
    received_before: int
    series: int
    named: int
    missing: int
    unnamed: int
    named_here: int
    named_by: str
    last_named_at: float
    steps_in_progress: bool
    carried: bool
    released: bool
    last_at: float
    expected_instances: int
    expected_series: int


def judge(facts: Facts, rules: Rules, now: float) -> tuple[float, str]:
    """Seconds to wait (0.0 = complete now; more = look again then), and the evidence."""
    wanted = facts.expected_instances
    reached = 0 < wanted <= facts.received and facts.series >= facts.expected_series
    if reached and facts.received_before < wanted:
        return 0.0, f"{EXPECTED}: {wanted} instances"
    settle_seconds = min(rules.release_seconds, rules.quiet_seconds)
    idle = max(now - facts.last_at, 0.0)  # the clocks of machines differ, and are set
    in_progress = facts.steps_in_progress and idle < FORGOTTEN_STEP_SECONDS
    if not facts.missing and not facts.steps_in_progress and _is_about_all(facts):
        settled = settle_seconds - min(idle, max(now - facts.last_named_at, 0.0))
        return max(settled, 0.0), f"{facts.named_by}: {facts.named} instances"
    if facts.carried or in_progress:  # nobody can say for how long: look again now and then
        return max(rules.quiet_seconds, SHORTEST_WAIT_SECONDS), ""
    absent = _absent(facts)
    if facts.released and not absent:
        return max(settle_seconds - idle, 0.0), RELEASE
    return max(rules.quiet_seconds - idle, 0.0), f"{QUIET}{absent}"


def _is_about_all(facts: Facts) -> bool:
    """A step that is completed is over; a request for commitment may be about one image of many."""
    return facts.named_here > 0 and (STEP in facts.named_by or not facts.unnamed)


def _absent(facts: Facts) -> str:
    """What was announced or expected and is not here, as the end of a sentence, or ""."""
    parts = []
    if facts.missing:
        parts.append(f"{facts.missing} of {facts.named} announced instances never came")
    if facts.received < facts.expected_instances:
        parts.append(f"{facts.received} of {facts.expected_instances} expected instances came")
    if facts.series < facts.expected_series:
        parts.append(f"{facts.series} of {facts.expected_series} expected series came")
    return "".join(f"; {part}" for part in parts)


def look(connection: sa.Connection, study_uid: str) -> Facts:
    """All that the tables say of a study."""
    study = connection.execute(sa.select(studies).where(studies.c.study_uid == study_uid)).one()
    mine = instances.c.study_uid == study_uid
    here = sa.exists().where(instances.c.sop_uid == announcements.c.sop_uid)
    count = sa.func.count()
    earlier = sa.case((instances.c.generation < study.generation, 1), else_=0)
    received = connection.execute(
        sa.select(
            count.label("all"),
            sa.func.coalesce(sa.func.sum(earlier), 0).label("before"),
            sa.func.count(instances.c.series_uid.distinct()).label("series"),
        ).where(mine)
    ).one()
    of_study = announcements.c.study_uid == study_uid
    named = connection.execute(
        sa.select(
            count.label("all"),
            sa.func.coalesce(sa.func.sum(sa.case((here, 0), else_=1)), 0).label("missing"),
            sa.func.max(announcements.c.announced_at).label("last_at"),
        ).where(of_study)
    ).one()
    words = connection.scalars(
        sa.select(announcements.c.evidence).where(of_study).distinct().order_by("evidence")
    ).all()
    is_named = sa.exists().where(of_study, announcements.c.sop_uid == instances.c.sop_uid)
    in_open = instances.c.generation == study.generation
    return Facts(
        received=received.all,
        received_before=received.before,
        series=received.series,
        named=named.all,
        missing=named.missing,
        unnamed=connection.scalar(sa.select(count).where(mine, ~is_named)) or 0,
        named_here=connection.scalar(sa.select(count).where(mine, in_open, is_named)) or 0,
        named_by=" and ".join(words),
        last_named_at=named.last_at or 0.0,
        steps_in_progress=_is_examined(connection, study_uid),
        carried=_is_carried(connection, study_uid),
        released=study.released,
        last_at=study.last_at,
        expected_instances=study.expected_instances,
        expected_series=study.expected_series,
    )


def _is_examined(connection: sa.Connection, study_uid: str) -> bool:
    going_on = sa.exists().where(
        procedure_steps.c.study_uid == study_uid, procedure_steps.c.status == IN_PROGRESS
    )
    return bool(connection.scalar(sa.select(going_on)))


def _is_carried(connection: sa.Connection, study_uid: str) -> bool:
    seen = associations.c.seen_at > time.time() - FORGOTTEN_ASSOCIATION_SECONDS
    carried = sa.exists().where(associations.c.study_uid == study_uid, seen)
    return bool(connection.scalar(sa.select(carried)))


def close_if_complete(
    engine: sa.Engine, study_uid: str, generation: int, rules: Rules
) -> Completeness:
    """Close a generation when its evidence suffices; what closed it is kept with it."""
    mine = studies.c.study_uid == study_uid
    with engine.begin() as connection:
        now = time.time()
        # A write first: on SQLite it takes the lock, on Postgres that of the row. What is said to have
        # happened later than now was written before the clock was set back; waiting for it would be long.
        seen = sa.case((studies.c.last_at > now, now), else_=studies.c.last_at)
        connection.execute(studies.update().where(mine).values(last_at=seen))
        study = connection.execute(sa.select(studies).where(mine)).one()
        if study.closed or study.generation > generation:
            return Completeness(0.0, study.priority, _evidence(connection, study_uid, generation))
        wait_seconds, evidence = judge(look(connection, study_uid), rules, now)
        if wait_seconds > 0:
            wait_seconds = max(wait_seconds, SHORTEST_WAIT_SECONDS)
            return Completeness(wait_seconds, study.priority, evidence)
        _close(connection, study_uid, generation, evidence)
    return Completeness(0.0, study.priority, evidence)


def _close(connection: sa.Connection, study_uid: str, generation: int, evidence: str) -> None:
    connection.execute(studies.update().where(studies.c.study_uid == study_uid).values(closed=True))
    connection.execute(
        generations.insert().values(
            study_uid=study_uid,
            generation=generation,
            evidence=evidence,
            closed_at=time.time(),
        )
    )


def _evidence(connection: sa.Connection, study_uid: str, generation: int) -> str:
    return (
        connection.scalar(
            sa.select(generations.c.evidence).where(
                generations.c.study_uid == study_uid, generations.c.generation == generation
            )
        )
        or ""
    )


def evidence_of(engine: sa.Engine, study_uid: str, generation: int) -> str:
    """What closed a generation; "" while it is open."""
    with engine.connect() as connection:
        return _evidence(connection, study_uid, generation)


def close_now(engine: sa.Engine, study_uid: str) -> int:
    """Close the open generation, whatever is missing, and return the latest.

    An instance that still arrives opens the next one.
    """
    mine = studies.c.study_uid == study_uid
    with engine.begin() as connection:
        connection.execute(studies.update().where(mine).values(study_uid=study_uid))
        study = connection.execute(sa.select(studies).where(mine)).one()
        if not study.closed:
            _close(connection, study_uid, study.generation, CANCELED)
    return int(study.generation)


def wake(engine: sa.Engine, client: DBOSClient, study_uid: str, rules: Rules) -> bool:
    """Bring the next look at a study forward to when its evidence may suffice.

    Returns False while a look is just going on, which may have missed the evidence: ask again soon.
    """
    with engine.connect() as connection:
        mine = studies.c.study_uid == study_uid
        study = connection.execute(sa.select(studies).where(mine)).one_or_none()
        if study is None or study.closed:
            return True
        wait_seconds, _ = judge(look(connection, study_uid), rules, time.time())
    beginning = workflow_id(study_uid, study.generation, "assemble", "")
    looks = going_on(engine, beginning, ["DELAYED", "PENDING"])
    due = int((time.time() + wait_seconds) * 1000)
    for item in looks:
        if item.status == "DELAYED" and (item.delay_until_epoch_ms or 0) > due:
            client.set_workflow_delay(item.workflow_uuid, delay_until_epoch_ms=due)
    return all(item.status == "DELAYED" for item in looks)
