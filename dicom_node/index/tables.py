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
    sa.Column("last_at", sa.Float, nullable=False, index=True),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("source_ae", sa.String(16), nullable=False),
    # How the last association that carried the study ended: released, or cut off.
    sa.Column("released", sa.Boolean, nullable=False),
    # What the site says that its scanner sends; 0 = nothing is said.
    sa.Column("expected_instances", sa.Integer, nullable=False),
    sa.Column("expected_series", sa.Integer, nullable=False),
    # From which on its results are of the patient as corrected; 0 = never corrected.
    sa.Column("accepted_generation", sa.Integer, nullable=False, server_default="0"),
)
instances = sa.Table(
    "instances",
    METADATA,
    sa.Column("sop_uid", _UID, primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sop_class", _UID, nullable=False),
    sa.Column("series_uid", _UID, nullable=False),
    sa.Column("transfer_syntax", _UID, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, server_default="kept"),  # keeping.STATES
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
)
set_aside = sa.Table(  # instances that are no part of their study; see set_aside.REASONS
    "set_aside",
    METADATA,
    sa.Column("sop_uid", _UID, primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("study_uid", _UID, nullable=False, index=True),
    sa.Column("sop_class", _UID, nullable=False),
    sa.Column("series_uid", _UID, nullable=False),
    sa.Column("transfer_syntax", _UID, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
)
associations = sa.Table(
    "associations",
    METADATA,
    sa.Column("association", sa.String(64), primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), primary_key=True),
    sa.Column("receiver", sa.String(128), nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)
generations = sa.Table(  # the closed ones
    "generations",
    METADATA,
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("evidence", sa.String, nullable=False),
    sa.Column("closed_at", sa.Float, nullable=False),
    # What became of it, once its job rows are gone.
    sa.Column("outcome", sa.String(64), nullable=False, server_default=""),
    sa.Column("reason", sa.String, nullable=False, server_default=""),
)
announcements = sa.Table(  # instances that a scanner says belong to a study, received or not
    "announcements",
    METADATA,
    sa.Column("study_uid", _UID, primary_key=True),
    sa.Column("sop_uid", _UID, primary_key=True),
    sa.Column("evidence", sa.String(32), nullable=False),
    sa.Column("announced_at", sa.Float, nullable=False),
)
procedure_steps = sa.Table(  # performed ones, PS3.4 annex F.7; may be known before any instance
    "procedure_steps",
    METADATA,
    sa.Column("step_uid", _UID, primary_key=True),
    sa.Column("study_uid", _UID, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)
commitments = sa.Table(  # requests for storage commitment, PS3.4 annex J
    "commitments",
    METADATA,
    sa.Column("transaction_uid", _UID, primary_key=True),
    sa.Column("requestor", sa.String(16), nullable=False),
    sa.Column("referenced", sa.JSON, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("answered_at", sa.Float),
)
commitment_requests = sa.Table(  # what we asked of destinations, PS3.4 annex J
    "commitment_requests",
    METADATA,
    sa.Column("transaction_uid", _UID, primary_key=True),
    sa.Column("destination", sa.String, nullable=False),
    sa.Column("study_uid", _UID, nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sop_uids", sa.JSON, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
    sa.Column("answered_at", sa.Float),
)
results = sa.Table(
    "results",
    METADATA,
    sa.Column("sop_uid", _UID, primary_key=True),
    # What a late instance does not change is the same object in both generations.
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("study_uid", _UID, sa.ForeignKey("studies.study_uid"), nullable=False, index=True),
    sa.Column("analysis", sa.String(64), nullable=False),
    sa.Column("acquisition", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("sop_class", _UID, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("state", sa.String(16), nullable=False, server_default="kept"),  # keeping.STATES
    sa.Column("verdict", sa.String, nullable=False, server_default=""),
    sa.Column("made_at", sa.Float, nullable=False),
)
rescues = sa.Table(  # of stages, from machines that were lost
    "rescues",
    METADATA,
    sa.Column("workflow_id", sa.String, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("rescued_at", sa.Float, nullable=False),
)
deliveries = sa.Table(  # of an object, whichever generations it is a result of
    "deliveries",
    METADATA,
    sa.Column("sop_uid", _UID, primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("tried_at", sa.Float),
    sa.Column("delivered_at", sa.Float),
    sa.Column("due_at", sa.Float, nullable=False, server_default="0"),
    # Storage commitment, where the destination is asked for it.
    sa.Column("committed_at", sa.Float),
    sa.Column("commitment_failures", sa.Integer, nullable=False, server_default="0"),
    # Times that it was sent and no answer came, so that the destination may have it.
    sa.Column("unanswered", sa.Integer, nullable=False, server_default="0"),
)
# What is still to be delivered, among all that was.
sa.Index(
    "ix_deliveries_undelivered",
    deliveries.c.destination,
    deliveries.c.status,
    deliveries.c.due_at,
    sqlite_where=deliveries.c.delivered_at.is_(None),
    postgresql_where=deliveries.c.delivered_at.is_(None),
)
heartbeats = sa.Table(  # of the processes that are at work, on every machine
    "heartbeats",
    METADATA,
    sa.Column("executor", sa.String(128), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("starts", sa.Integer, nullable=False),
)
