"""How often work was taken over from a machine that was lost."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "rescues",
        sa.Column("workflow_id", sa.String, primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("rescued_at", sa.Float, nullable=False),
    )
