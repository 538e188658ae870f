"""Cohorts of rows with planted layer effects: no image, no network, any number of persons and scans."""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dicom_node.cohort.persons import Cohort, Tally, average, counted
from dicom_node.cohort.reports import ScanRow, Version
from dicom_node.cohort.rows import Seen, StoredScan, open_rows
from dicom_node.cohort.statistics import Random
from dicom_node.cohort.subjects import Subjects, identify

B_MODE = "b-mode"
SHEAR_WAVE = "b-mode, shear-wave-speed, shear-wave-valid"
CONTRIBUTIONS = ("SHAPLEY-TOTAL", "SHAPLEY-LOOK", "SHAPLEY-THICK")
WORDS = {
    "CAM-P99.5": "Mean of the evidence map (CAM), its 99.5th percentile as 1",
    "SHAPLEY-TOTAL": "Layer total, exact Shapley value against the average scan",
    "SHAPLEY-LOOK": "Part from appearance, exact Shapley value",
    "SHAPLEY-THICK": "Part from thickness, exact Shapley value",
    "UNTRAINED-CAM": "The same of 10 networks that have learned nothing",
    "T2-3D": "Complete columns, times cosine of tilt",
    "SIMULATED": "Trained on simulated data",
    "TRUNCATED": "Muscle cut off by the image",
}
NO_MUSCLE_THICKNESS = frozenset({("contribution|SHAPLEY-THICK", 6)})
"""As the node writes it: the image cuts the muscle off."""
FEW_DRAWS = Random(draws=50)
RESULTS = ("cohort.csv", "table.csv", "tests.csv", "cohort.html", "cohort.png")
THICKNESS_MM = np.array([2.2, 8.0, 1.1, 12.0, 1.9, 27.0])


@dataclass(frozen=True)
class Plan:
    """Who is in a cohort and what is planted in it; without a driver, layers mean nothing.

    driver     layer (1 to 6) with three times the saliency, enrichment and contribution.
    thicker    factor of the deep fascia's thickness in persons with pain.
    pain       how much pain moves contributions and probability; 0: the groups are alike.
    """

    persons: int = 20
    scans: int = 3
    seed: int = 0
    driver: int = 0
    thicker: float = 1.0
    pain: float = 0.0
    channels: tuple[str, ...] = (B_MODE,)
    absent: frozenset[int] = field(default_factory=frozenset)
    missing: frozenset[tuple[str, int]] = field(default_factory=frozenset)


def make_rows(plan: Plan) -> Iterator[tuple[ScanRow, str, str]]:
    """Rows with subject and group: every second person has pain; persons differ, their scans less."""
    random = np.random.default_rng([plan.seed, plan.persons, plan.driver])
    for person in range(plan.persons):
        group = "pain" if person % 2 else "control"
        own = random.normal(0, 0.3, (3, 6))
        for scan in range(plan.scans):
            channels = plan.channels[scan % len(plan.channels)]
            name = f"{plan.seed}.{person}.{scan}"
            numbers = _numbers(plan, group == "pain", own, random)
            chance = 1 / (1 + np.exp(-random.normal(plan.pain * (2 if group == "pain" else -2), 1)))
            yield _row(name, person, channels, numbers, float(chance)), f"S{person}", group


def _numbers(
    plan: Plan, pain: bool, own: np.ndarray, random: np.random.Generator
) -> dict[str, dict[int, float]]:
    boost = np.ones(6)
    if plan.driver:
        boost[plan.driver - 1] = 3.0
    saliency = np.clip(0.15 * boost * np.exp(own[0] + random.normal(0, 0.2, 6)), 0, 1)
    enrichment = boost * np.exp(own[1] + random.normal(0, 0.2, 6))
    toward = plan.pain * (1 if pain else -1)
    columns = {"saliency|CAM-P99.5": saliency, "enrichment|CAM-P99.5": enrichment}
    untrained = np.clip(0.15 * np.exp(own[0] + random.normal(0, 0.2, 6)), 0, 1)
    columns["untrained saliency|CAM"] = untrained
    for method in CONTRIBUTIONS:
        noise = own[2] + random.normal(0, 0.3, 6)
        columns[f"contribution|{method}"] = boost * (noise + toward * (boost > 1))
    thickness = THICKNESS_MM * np.exp(0.3 * own[1] + random.normal(0, 0.05, 6))
    thickness[4] *= plan.thicker if pain else 1.0
    columns["thickness|T2-3D"] = thickness
    numbers = {
        column: {
            layer: float(value)
            for layer, value in enumerate(values, start=1)
            if layer not in plan.absent and (column, layer) not in plan.missing
        }
        for column, values in columns.items()
    }
    numbers["flat saliency|CAM"] = {0: float(saliency.mean())}
    numbers["non-muscle saliency|CAM"] = {0: float(saliency[:5].mean())}
    return numbers


def _row(
    name: str, person: int, channels: str, numbers: dict[str, dict[int, float]], chance: float
) -> ScanRow:
    return ScanRow(
        uid=f"2.25.{name}",
        study_uid=f"2.25.9.{name}",
        acquisition=0,
        patient=(f"ID-{person}", "HOSPITAL"),
        version=Version(0, 3, (1,)),
        channels=channels,
        weights="a" * 64,
        probability=chance,
        numbers=numbers,
        flags=("SIMULATED", "TRUNCATED"),
        words=WORDS,
    )


def make_cohorts(plan: Plan) -> dict[str, Cohort]:
    """The cohorts of a plan, as the rows file would give them."""
    rows = list(make_rows(plan))
    groups = {row.study_uid: group for row, _, group in rows}
    people = identify(Subjects({row.study_uid: name for row, name, _ in rows}, groups), ())
    scans = [_stored(row) for row, _, _ in rows]
    return average(counted(scans, people, Tally()), people)[0]


def _stored(row: ScanRow) -> StoredScan:
    return StoredScan(
        uid=row.uid,
        digest=digest_of(row.uid),
        study_uid=row.study_uid,
        acquisition=row.acquisition,
        patient="",
        report=True,
        version=row.version,
        mtime_ns=1,
        channels=row.channels,
        weights=row.weights,
        probability=row.probability,
        numbers=row.numbers,
        flags=row.flags,
    )


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def store(plan: Plan, out: Path) -> Path:
    """Put the rows where ``dicom-node cohort`` keeps them; returns a list of subjects beside them."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["study,subject,pain"]
    with open_rows(out) as rows:
        for row, subject, group in make_rows(plan):
            rows.store(row, Seen(Path("/", row.uid), 1, 1), digest_of(row.uid), report=True)
            lines.append(f"{row.study_uid},{subject},{int(group == 'pain')}")
        rows.commit()
    path = out / "subjects.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in RESULTS}
