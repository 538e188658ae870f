"""Which files are kept, purged or missing; what destinations committed to; outcomes without job rows."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

UID = sa.String(64)


def upgrade() -> None:
    # Not in batches: SQLite would make these tables anew, to which others refer.
    op.add_column("instances", _added("state", sa.String(16), "kept"))
    op.add_column("results", _added("state", sa.String(16), "kept"))
    op.add_column("results", _added("bytes", sa.BigInteger, "0"))
    op.add_column("generations", _added("outcome", sa.String(64), ""))
    op.add_column("generations", _added("reason", sa.String, ""))
    op.add_column("deliveries", sa.Column("committed_at", sa.Float))
    op.add_column("deliveries", _added("commitment_failures", sa.Integer, "0"))
    op.create_table(
        "commitment_requests",
        sa.Column("transaction_uid", UID, nullable=False),
        sa.Column("destination", sa.String, nullable=False),
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("sop_uids", sa.JSON, nullable=False),
        sa.Column("asked_at", sa.Float, nullable=False),
        sa.Column("answered_at", sa.Float),
        sa.PrimaryKeyConstraint("transaction_uid", name="pk_commitment_requests"),
    )
    op.create_index("ix_commitment_requests_study_uid", "commitment_requests", ["study_uid"])


def _added(name: str, kind: Any, default: Any) -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=False, server_default=default)
