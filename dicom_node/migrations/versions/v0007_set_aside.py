"""Instances that were set aside, and the generation from which on a corrected patient counts."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

UID = sa.String(64)


def upgrade() -> None:
    accepted = sa.Column("accepted_generation", sa.Integer, nullable=False, server_default="0")
    op.add_column("studies", accepted)
    op.create_table(
        "set_aside",
        sa.Column("sop_uid", UID, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("sop_class", UID, nullable=False),
        sa.Column("series_uid", UID, nullable=False),
        sa.Column("transfer_syntax", UID, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("calling_ae", sa.String(16), nullable=False),
        sa.Column("peer", sa.String(64), nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("sop_uid", "sha256", name="pk_set_aside"),
    )
    op.create_index("ix_set_aside_study_uid", "set_aside", ["study_uid"])
