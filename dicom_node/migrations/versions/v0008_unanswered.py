"""How often an object was sent to a destination that did not answer."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column(
        "deliveries", sa.Column("unanswered", sa.Integer, nullable=False, server_default="0")
    )
