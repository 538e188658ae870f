"""cohort on real measurement reports: tables and a page by person, nothing of the patient, nothing twice."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from dicom_node.cohort.command import Order, cohort
from dicom_node.cohort.read import read_files
from dicom_node.cohort.rows import open_rows
from dicom_node.report import write_objects
from dicom_node.scanner import Style
from dicom_node.study import Outcome
from models import codes
from models.findings import Classification, Findings, Measurement, Run, Segmentation
from models.layer import concepts
from models.layer.labels import SEGMENTS
from tests.cohort_rows import B_MODE, FEW_DRAWS, RESULTS, lines, results
from tests.report_phantom import make_labelmap, make_scan, write_source
from tests.report_reading import NO_PAGES

SECRET, ISSUER, NAME = "SECRET-7391-", "CLINIC-OF-NOBODY", "Doe^Jane"
DRIVER = 5


def planted_findings(labelmap: np.ndarray, random: np.random.Generator) -> Findings:
    """Findings as the layer analysis writes them, in which the deep fascia drives."""
    measurements = []
    for segment in SEGMENTS:
        boost = 3.0 if segment.number == DRIVER else 1.0
        value = float(boost * random.lognormal(0, 0.1))
        measurements += [
            Measurement(codes.THICKNESS, value, codes.MM, segment.number, concepts.TILT_3D, code)
            for code in (codes.MEAN, codes.STANDARD_DEVIATION, codes.MEDIAN)
        ]
        method = concepts.EVIDENCE
        measurements += [
            Measurement(
                codes.SALIENCY, value / 10, codes.NO_UNITS, segment.number, method, codes.MEAN
            ),
            Measurement(concepts.ENRICHMENT, value, codes.RATIO, segment.number, method),
        ]
        measurements += [
            Measurement(
                concepts.CONTRIBUTION,
                factor * value,
                codes.NO_UNITS,
                segment.number,
                concepts.SHAPLEY,
                derivation,
            )
            for factor, derivation in ((-1, None), (-9, concepts.LOWER), (9, concepts.UPPER))
        ]
    unit = codes.NO_UNITS
    measurements += [
        Measurement(codes.SALIENCY, 0.13, unit, None, concepts.EVIDENCE_NULL, codes.MEAN),
        Measurement(codes.SALIENCY, 0.14, unit, None, concepts.EVIDENCE_NOT_MUSCLE, codes.MEAN),
    ]
    outcomes = (concepts.PAIN_PRESENT, 0.75), (concepts.PAIN_ABSENT, 0.25)
    return Findings(
        Segmentation(SEGMENTS, labelmap),
        (Classification(concepts.PAIN, outcomes, 1.1),),
        (),
        tuple(measurements),
        (),
        Run("layer", "1", "a" * 64, {"channels": B_MODE, "weights": "1"}),
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven persons, the first with two studies, written by the real report writer."""
    folder = tmp_path_factory.mktemp("reports")
    for number in range(8):
        person = max(0, number - 1)
        random = np.random.default_rng(number)

        def name(dataset: Dataset, person: int = person) -> None:
            dataset.PatientID, dataset.PatientName = f"{SECRET}{person}", NAME
            dataset.IssuerOfPatientID = ISSUER

        source = folder / f"source-{number}"
        study = write_source(source, make_scan(), Style(form="enhanced", seed=number), name)
        findings = planted_findings(make_labelmap(), random)
        (folder / f"study-{number}").mkdir()
        write_objects(study, (Outcome(0, "layer", findings),), folder / f"study-{number}", NO_PAGES)
        shutil.rmtree(source)
    return folder


def test_reports_of_the_real_writer_become_a_table_by_person(reports: Path, tmp_path: Path) -> None:
    assert cohort([reports], Order(tmp_path, random=FEW_DRAWS)) == 0
    table = {(row["quantity"], row["layer"]): row for row in lines(tmp_path / "table.csv")}
    cell = table["saliency", "Deep fascial membrane"]
    assert (cell["persons"], cell["scans"]) == ("7", "8")
    # What was planted, averaged over the two scans of the first person before it is over persons.
    planted = np.zeros((8, 6))
    for number in range(8):
        found = planted_findings(make_labelmap(), np.random.default_rng(number)).measurements
        planted[number] = [m.value for m in found if m.quantity == concepts.ENRICHMENT]
    persons = np.vstack([planted[:2].mean(axis=0), planted[2:]])
    for segment in SEGMENTS:
        row = table["enrichment", segment.label]
        assert float(row["mean"]) == pytest.approx(persons[:, segment.number - 1].mean(), rel=1e-5)
        assert float(row["sd"]) == pytest.approx(
            persons[:, segment.number - 1].std(ddof=1), rel=1e-4
        )
        assert float(table["contribution", segment.label]["mean"]) < 0
        assert float(table["magnitude", segment.label]["mean"]) > 0
        assert table["thickness", segment.label]["method"] == "T2-3D"
    tests = lines(tmp_path / "tests.csv")
    (differ,) = [
        row for row in tests if (row["question"], row["quantity"]) == ("layers differ", "saliency")
    ]
    assert float(differ["p"]) < 0.05
    assert int(differ["persons"]) == 7
    text = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    assert "7 persons, 8 scans" in text
    assert "Greatest in deep fascial membrane" in text
    assert "not a report: Segmentation Storage" in text
    assert (tmp_path / "cohort.png").read_bytes()[:4] == b"\x89PNG"


def test_no_identifier_of_a_patient_enters_any_file(reports: Path, tmp_path: Path) -> None:
    assert cohort([reports], Order(tmp_path, random=FEW_DRAWS)) == 0
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == 7
    for path in made:
        # The figure inside the page is base64, in which three letters may stand by chance.
        content = re.sub(rb"base64,[^\"]+", b"", path.read_bytes())
        for secret in (SECRET, ISSUER, NAME, NAME.split("^")[0], str(reports)):
            assert secret.encode() not in content, path
    for path in (tmp_path / "rows.sqlite", tmp_path / "rows.key"):
        assert path.stat().st_mode & 0o077 == 0
    for name in RESULTS:
        assert b"2.25." not in (tmp_path / name).read_bytes(), name


def test_a_broken_off_run_goes_on_and_more_files_are_only_added(
    reports: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    cohort([reports], Order(whole, random=FEW_DRAWS))
    parts.mkdir()
    with open_rows(parts) as rows:
        reading = read_files([reports], rows)
        for _ in range(5):
            next(reading)
        rows.commit()
    later = sorted(reports.iterdir(), reverse=True)
    cohort(later[:4], Order(parts, random=FEW_DRAWS))
    cohort(later, Order(parts, random=FEW_DRAWS))
    assert results(parts) == results(whole)
    with open_rows(parts) as rows:
        items = list(read_files([reports], rows))
    assert all(item.known for item in items)


def test_of_several_versions_of_a_scan_the_latest_counts(reports: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(reports, folder)
    path = next((folder / "study-3").glob("measurements*"))
    dataset = dcmread(path)
    old_time = path.stat().st_mtime_ns
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["newer"])
    for item in _numbers(dataset, "130404"):
        item.MeasuredValueSequence[0].NumericValue = "0.987"
    newer = folder / "a-newer.dcm"
    dataset.save_as(newer)
    os.utime(newer, ns=(old_time + 10**9, old_time + 10**9))
    shutil.copy2(path, folder / "z-copy.dcm")
    cohort([folder], Order(tmp_path / "out", random=FEW_DRAWS))
    numbers = lines(tmp_path / "out" / "cohort.csv")
    assert sum(row["value"] == "0.987" and row["layer"] == "Dermis" for row in numbers) == 1
    page = (tmp_path / "out" / "cohort.html").read_text(encoding="utf-8")
    assert "7 persons, 8 scans" in page
    assert "a second copy" in page


def _numbers(item: Dataset, code: str) -> list[Dataset]:
    found = [] if item.ValueType != "NUM" else [item]
    found = [i for i in found if i.ConceptNameCodeSequence[0].CodeValue == code]
    for child in item.get("ContentSequence", []):
        found += _numbers(child, code)
    return found


def test_every_file_that_is_not_taken_is_counted_with_its_reason(
    reports: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    shutil.copytree(reports / "study-0", folder)
    report = next(folder.glob("measurements*"))
    content = report.read_bytes()
    (folder / "half.dcm").write_bytes(content[: len(content) // 2])
    (folder / "note.txt").write_text("hello")
    (folder / "broken.json").write_text("{")
    (folder / "other.json").write_text("[1]")
    dataset = dcmread(report)
    dataset.SOPInstanceUID, dataset.PatientID = "1.2.3", ""
    dataset.StudyInstanceUID = "1.2.4"
    dataset.save_as(folder / "nobody.dcm")
    for item in _texts(dataset, "111001"):
        item.TextValue = "something else"
    dataset.SOPInstanceUID = "1.2.5"
    dataset.save_as(folder / "foreign.dcm")
    files = sum(path.is_file() for path in folder.rglob("*"))
    assert cohort([folder], Order(tmp_path / "out", random=FEW_DRAWS)) == 0
    with open_rows(tmp_path / "out") as rows:
        reasons = {reason: count for _, reason, count in rows.reasons()}
        taken = len(list(rows.scans()))
    assert sum(reasons.values()) + taken == files
    page = (tmp_path / "out" / "cohort.html").read_text(encoding="utf-8")
    for words in (
        "damaged: not what it says it is (JSONDecodeError)",
        "damaged: not what it says it is (EOFError)",
        "no DICOM file and no findings.json",
        "a JSON file that is no findings.json",
        "a measurement report of another program or analysis",
        "person unknown: no PatientID, and not in a list of subjects",
        "Not tested: 1 person, at least 5 are needed",
    ):
        assert words in page, words


def _texts(item: Dataset, code: str) -> list[Dataset]:
    found = [item] if item.ValueType == "TEXT" else []
    found = [i for i in found if i.ConceptNameCodeSequence[0].CodeValue == code]
    for child in item.get("ContentSequence", []):
        found += _texts(child, code)
    return found
