"""What shows that a study is complete, requests for commitment, and results that two generations share."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

UID = sa.String(64)


def upgrade() -> None:
    # Not in batches: SQLite would make these tables anew, to which others refer.
    op.add_column("studies", _added("released", sa.Boolean, sa.false()))
    op.add_column("studies", _added("expected_instances", sa.Integer, "0"))
    op.add_column("studies", _added("expected_series", sa.Integer, "0"))
    op.add_column("instances", _added("series_uid", UID, ""))
    _create_evidence()
    _create_commitments()
    # The reference first: it needs the key that goes with the next table.
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_constraint("fk_deliveries_sop_uid", type_="foreignkey")
    with op.batch_alter_table("results") as results:
        results.drop_constraint("pk_results", type_="primary")
        results.create_primary_key("pk_results", ["sop_uid", "generation"])


def _added(name: str, kind: Any, default: Any) -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=False, server_default=default)


def _create_evidence() -> None:
    op.create_table(
        "generations",
        sa.Column(
            "study_uid",
            UID,
            sa.ForeignKey("studies.study_uid", name="fk_generations_study_uid"),
            nullable=False,
        ),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("evidence", sa.String, nullable=False),
        sa.Column("closed_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("study_uid", "generation", name="pk_generations"),
    )
    op.create_table(
        "announcements",
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("sop_uid", UID, nullable=False),
        sa.Column("evidence", sa.String(32), nullable=False),
        sa.Column("announced_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("study_uid", "sop_uid", name="pk_announcements"),
    )
    op.create_table(
        "procedure_steps",
        sa.Column("step_uid", UID, nullable=False),
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("step_uid", "study_uid", name="pk_procedure_steps"),
    )


def _create_commitments() -> None:
    op.create_table(
        "commitments",
        sa.Column("transaction_uid", UID, nullable=False),
        sa.Column("requestor", sa.String(16), nullable=False),
        sa.Column("referenced", sa.JSON, nullable=False),
        sa.Column("asked_at", sa.Float, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("answered_at", sa.Float),
        sa.PrimaryKeyConstraint("transaction_uid", name="pk_commitments"),
    )
