"""The facts, as tables: what arrived, what was made, what was acknowledged. UIDs only, no patient names."""

import sqlalchemy as sa

METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)
_UID = sa.String(64)

studies = sa.Table(
    "studies",
    METADATA,
    sa.Column("study_uid", _UID, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("source_ae", sa.String(16), nullable=False),
)
instances = sa.Table(
    "instances",
    METADATA,
    sa.Column("sop_uid", _UID, primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sop_class", _UID, nullable=False),
    sa.Column("transfer_syntax", _UID, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
)
associations = sa.Table(
    "associations",
    METADATA,
    sa.Column("association", sa.String(64), primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), primary_key=True),
    sa.Column("receiver", sa.String(128), nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)
results = sa.Table(
    "results",
    METADATA,
    sa.Column("sop_uid", _UID, primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("analysis", sa.String(64), nullable=False),
    sa.Column("acquisition", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("sop_class", _UID, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
)
deliveries = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("sop_uid", _UID, sa.ForeignKey("results.sop_uid"), primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("tried_at", sa.Float),
    sa.Column("delivered_at", sa.Float),
)
