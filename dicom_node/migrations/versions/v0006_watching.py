"""Signs of life, and indexes for what the status page and the metrics ask."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "heartbeats",
        sa.Column("executor", sa.String(128), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.Column("starts", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("executor", name="pk_heartbeats"),
    )
    op.create_index("ix_studies_last_at", "studies", ["last_at"])
    op.add_column("deliveries", sa.Column("due_at", sa.Float, nullable=False, server_default="0"))
    op.execute(
        "UPDATE deliveries SET due_at = COALESCE("
        "(SELECT MIN(made_at) FROM results WHERE results.sop_uid = deliveries.sop_uid), 0)"
    )
    undelivered = sa.text("delivered_at IS NULL")
    op.create_index(
        "ix_deliveries_undelivered",
        "deliveries",
        ["destination", "status", "due_at"],
        sqlite_where=undelivered,
        postgresql_where=undelivered,
    )
