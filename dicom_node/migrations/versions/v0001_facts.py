"""The first tables: studies, instances, associations, results, deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

UID = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.Column("last_at", sa.Float, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("source_ae", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", name="pk_studies"),
    )
    op.create_table(
        "instances",
        sa.Column("sop_uid", UID, nullable=False),
        _study_uid("instances"),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("sop_class", UID, nullable=False),
        sa.Column("transfer_syntax", UID, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("calling_ae", sa.String(16), nullable=False),
        sa.Column("peer", sa.String(64), nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("sop_uid", name="pk_instances"),
    )
    op.create_index("ix_instances_study_uid", "instances", ["study_uid"])
    op.create_table(
        "associations",
        sa.Column("association", sa.String(64), nullable=False),
        _study_uid("associations"),
        sa.Column("receiver", sa.String(128), nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("association", "study_uid", name="pk_associations"),
    )
    _create_results()


def _create_results() -> None:
    op.create_table(
        "results",
        sa.Column("sop_uid", UID, nullable=False),
        _study_uid("results"),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("analysis", sa.String(64), nullable=False),
        sa.Column("acquisition", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("sop_class", UID, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("sop_uid", name="pk_results"),
    )
    op.create_index("ix_results_study_uid", "results", ["study_uid"])
    op.create_table(
        "deliveries",
        sa.Column(
            "sop_uid",
            UID,
            sa.ForeignKey("results.sop_uid", name="fk_deliveries_sop_uid"),
            nullable=False,
        ),
        sa.Column("destination", sa.String, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("tried_at", sa.Float),
        sa.Column("delivered_at", sa.Float),
        sa.PrimaryKeyConstraint("sop_uid", "destination", name="pk_deliveries"),
    )


def _study_uid(table: str) -> "sa.Column[str]":
    key = sa.ForeignKey("studies.study_uid", name=f"fk_{table}_study_uid")
    return sa.Column("study_uid", UID, key, nullable=False)
