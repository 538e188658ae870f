"""A study by the name that log, audit trail and status page give it: a keyed hash, or its UID."""

from collections.abc import Iterator

import sqlalchemy as sa

from dicom_node import index
from dicom_node.errors import NodeError
from dicom_node.pseudonyms import Pseudonyms, open_pseudonyms
from dicom_node.settings import Settings

AT_ONCE = 1000


def study_named(settings: Settings, name: str) -> str:
    """The Study Instance UID of a study; what is no hash is taken for the UID itself. Raises NodeError."""
    engine = index.open_engine(settings.node.database_url)
    try:
        return find_study(engine, open_pseudonyms(settings), name) or name
    except index.DATABASE_ERRORS as error:
        raise NodeError("no node has run on this database yet, or it cannot be reached") from error
    finally:
        engine.dispose()


def log_name(settings: Settings, study_uid: str) -> str:
    """What log, audit trail and status page call a study."""
    return open_pseudonyms(settings).of(study_uid)


def find_study(engine: sa.Engine, pseudonyms: Pseudonyms, name: str) -> str:
    """The UID of the study with a pseudonym, "" where there is none: the newest are looked at first."""
    return next((uid for uid in _study_uids(engine) if pseudonyms.of(uid) == name), "")


def _study_uids(engine: sa.Engine) -> Iterator[str]:
    """All of them, the newest first, some at a time."""
    studies = index.studies
    order = (studies.c.last_at.desc(), studies.c.study_uid)
    before: float | None = None
    seen: set[str] = set()
    while True:
        query = sa.select(studies.c.study_uid, studies.c.last_at).order_by(*order).limit(AT_ONCE)
        if before is not None:
            query = query.where(studies.c.last_at <= before)
        with engine.connect() as connection:
            rows = connection.execute(query).all()
        new = [row for row in rows if row.study_uid not in seen]
        yield from (row.study_uid for row in new)
        if not new:
            return
        seen, before = {row.study_uid for row in rows}, rows[-1].last_at
