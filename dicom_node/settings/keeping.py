"""How long files and job rows stay: [keep]."""

from dataclasses import dataclass

from dicom_node.settings.allowed import between, key

DAYS, GIB = between(0, 36500), between(0, 1 << 20)


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
