"""Alembic's entry: runs on the connection that ``dicom_node.index.migrate`` hands over."""

from typing import Any

from alembic import context

from dicom_node.index import METADATA


def ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compare: Any) -> bool:
    """On SQLite the tables of DBOS live beside ours; autogenerate must not drop them."""
    return kind != "table" or name in METADATA.tables


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    include_object=ours,
    render_as_batch=True,  # SQLite cannot alter most of a table in place
)
with context.begin_transaction():
    context.run_migrations()
