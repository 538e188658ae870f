"""What the check of every written object said."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("results") as results:
        results.add_column(sa.Column("verdict", sa.String, nullable=False, server_default=""))
