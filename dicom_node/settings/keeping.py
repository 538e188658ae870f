"""How long files and job rows stay: [keep]."""

from dataclasses import dataclass

from dicom_node.settings.allowed import Allowed, between, key

LEAST_AUDIT_DAYS = 365
"""Who looked at what is asked for long after; many laws ask for six years (2190)."""

DAYS, GIB = between(0, 36500), between(0, 1 << 20)
AUDIT_DAYS = Allowed(
    f"0, or {LEAST_AUDIT_DAYS} to 36500",
    lambda days: days == 0 or LEAST_AUDIT_DAYS <= days <= 36500,
)


@dataclass(frozen=True, slots=True)
class Keep:
    """[keep]: limits of what is delivered everywhere; 0 = none. Nothing else is ever removed."""

    sources_days: float = key(0.0, "received images, after the last of a study came", DAYS)
    sources_gib: float = key(0.0, "the oldest studies go first", GIB)
    results_days: float = key(0.0, "results; a later report cannot name one that is gone", DAYS)
    results_gib: float = key(0.0, "the oldest studies go first", GIB)
    work_days: float = key(
        7.0, "arrays between the stages: large, and made again from images", DAYS
    )
    jobs_days: float = key(30.0, "job rows; what became of a study is still told", DAYS)
    audit_days: float = key(
        0.0, "files of the audit trail; what was not sent to [audit] host stays", AUDIT_DAYS
    )
