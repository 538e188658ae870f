"""cohort through its front door: real reports and findings in, tables and a page by person out."""

import csv
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from dicom_node.cohort.command import Order, cohort
from dicom_node.cohort.persons import Tally, average, counted
from dicom_node.cohort.read import read_files
from dicom_node.cohort.rows import Seen, open_rows
from dicom_node.cohort.statistics import Random
from dicom_node.cohort.subjects import Subjects, identify, read_subjects
from dicom_node.errors import SettingsError
from dicom_node.report import write_objects
from dicom_node.scanner import Style, write_study
from dicom_node.study import Outcome
from models import codes
from models.findings import Classification, Findings, Measurement, Run, Segmentation
from models.layer import concepts
from models.layer.labels import SEGMENTS
from models.phantom import PhantomRequest, synthesize
from tests.cohort_rows import B_MODE, SHEAR_WAVE, Plan, make_rows, store
from tests.report_phantom import make_labelmap, make_scan, write_source

SECRET, ISSUER, NAME = "SECRET-7391-", "CLINIC-OF-NOBODY", "Doe^Jane"
FEW_DRAWS = Random(draws=50)
DRIVER = 5
RESULTS = ("cohort.csv", "table.csv", "tests.csv", "cohort.html", "cohort.png")


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
        write_objects(study, (Outcome(0, "layer", findings),), folder / f"study-{number}")
        shutil.rmtree(source)
    return folder


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in RESULTS}


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("dicom-node")), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=600,
    )


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


def test_killed_while_reading_it_has_lost_nothing_that_was_kept(tmp_path: Path) -> None:
    """Rows that were not committed are read again; those that were are not."""
    store(Plan(persons=5, scans=2), tmp_path)
    program = (
        "import os, sys; from pathlib import Path\n"
        "from dicom_node.cohort.rows import Seen, open_rows\n"
        "with open_rows(Path(sys.argv[1])) as rows:\n"
        "    rows.note(Seen(Path('/kept'), 1, 1)); rows.commit()\n"
        "    rows.note(Seen(Path('/lost'), 1, 1)); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    with open_rows(tmp_path) as rows:
        assert rows.known(Seen(Path("/kept"), 1, 1))
        assert not rows.known(Seen(Path("/lost"), 1, 1))
        assert len(list(rows.scans())) == 10


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


def test_three_phantoms_from_sweep_to_cohort(tmp_path: Path) -> None:
    """process on real files, then cohort on what it wrote: by PatientID, and by a list of subjects."""
    for seed in range(3):
        request = PhantomRequest((3, 128, 96), (0.8, 0.3, 0.35))
        write_study(synthesize(seed, request).scan, tmp_path / "in" / str(seed), Style(seed=seed))
    done = run("process", "in", "--out", "found", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("cohort", "found", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "B-mode: 3 persons, 3 scans" in done.stderr
    table = lines(tmp_path / "out" / "table.csv")
    quantities = {row["quantity"] for row in table}
    expected = {"saliency", "untrained saliency", "enrichment", "contribution", "magnitude"}
    assert quantities == {*expected, "thickness"}
    assert all(row["unit"] for row in table)
    page = (tmp_path / "out" / "cohort.html").read_text(encoding="utf-8")
    assert "findings.json of a scan whose report (SR) is there" in page
    assert "3 persons, at least 5 are needed" in page
    tests = lines(tmp_path / "out" / "tests.csv")
    assert tests
    assert not any(row["p"] or row["holm_p"] for row in tests)
    _by_subjects(tmp_path, table)


def _by_subjects(folder: Path, table: list[dict[str, str]]) -> None:
    """The same numbers from findings.json alone, where a list says who is who."""
    studies = []
    for path in sorted((folder / "found").glob("*/findings.json")):
        studies.append(json.loads(path.read_text())["study_instance_uid"])
        (folder / "json" / path.parent.name).mkdir(parents=True)
        shutil.copy(path, folder / "json" / path.parent.name)
    rows = [f"{uid},person {number},pain" for number, uid in enumerate(studies)]
    (folder / "subjects.csv").write_text("\n".join(["study,subject,group", *rows]))
    arguments = ("cohort", "json", "--out", "again", "--subjects", "subjects.csv")
    done = run(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    again = lines(folder / "again" / "table.csv")
    assert len(again) == len(table)
    for one, other in zip(table, again, strict=True):
        assert one["layer"] == other["layer"]
        assert float(one["mean"]) == pytest.approx(float(other["mean"]), rel=1e-4, abs=1e-6)
    groups = {row["group"] for row in lines(folder / "again" / "cohort.csv")}
    assert groups == {"pain"}


def test_a_list_of_subjects_joins_patients_and_names_groups(tmp_path: Path) -> None:
    """One person under two PatientIDs is one; one PatientID with two subjects is nobody."""
    rows = list(make_rows(Plan(persons=4, scans=2)))
    studies = [row.study_uid for row, _, _ in rows]
    patients = [f"hash of {row.patient}" for row, _, _ in rows]
    listed = {studies[0]: "A", studies[2]: "A", studies[4]: "B", studies[5]: "C"}
    people = identify(Subjects(listed, {studies[0]: "pain"}), zip(studies, patients, strict=True))
    found = [people.person(*pair) for pair in zip(studies, patients, strict=True)]
    assert found[0] == found[1] == found[2] == found[3] != ""
    assert found[4] == found[5] == ""
    assert found[6] == found[7] == patients[6]
    assert people.group(found[3]) == "pain"
    assert people.group(found[6]) == ""
    with pytest.raises(SettingsError, match="both groups"):
        identify(Subjects(listed, {studies[0]: "pain", studies[2]: "control"}), ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subject,group\nA,pain\n", "first line must be study,subject"),
        ("study,subject,group\n1.2,SECRET,ill\n", "line 2: the group must be pain, control"),
        ("study,subject\n1.2,SECRET\n1.2,OTHER\n", "line 3: this study belongs to another"),
        ("study,subject\n1.2,\n", "line 2: study and subject must both be given"),
    ],
)
def test_a_wrong_list_of_subjects_is_named_by_its_line(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "subjects.csv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words) as caught:
        read_subjects(path)
    assert "SECRET" not in str(caught.value)


def test_channels_are_tabulated_apart(tmp_path: Path) -> None:
    plan = Plan(persons=6, scans=4, driver=5, pain=0.7, channels=(B_MODE, SHEAR_WAVE))
    subjects = store(plan, tmp_path)
    assert cohort([], Order(tmp_path, subjects, random=FEW_DRAWS)) == 0
    found = {
        (row["channels"], row["persons"], row["scans"]) for row in lines(tmp_path / "table.csv")
    }
    assert found == {("B-mode", "6", "12"), ("B-mode + shear wave", "6", "12")}
    page = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    assert "not tested: 3 persons, at least 5 are needed" in page  # of each group


def test_memory_does_not_grow_with_the_scans(tmp_path: Path) -> None:
    """2,000 rows of 20 persons take what 200 of them take."""
    peaks = []
    for scans in (10, 100):
        out = tmp_path / str(scans)
        store(Plan(persons=20, scans=scans), out)
        with open_rows(out) as rows:
            people = identify(Subjects(), rows.patients())
            tracemalloc.start()
            cohorts, _ = average(counted(rows.scans(), people, Tally()), people)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert cohorts["B-mode"].scan_count == 20 * scans
    assert peaks[1] < 1.5 * peaks[0]


def test_a_rows_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.sqlite").write_text("no database at all, but long enough to be looked at" * 9)
    (tmp_path / "rows.key").write_bytes(b"x" * 32)
    with pytest.raises(SettingsError, match="no rows file"):
        cohort([], Order(tmp_path))
    (tmp_path / "rows.key").unlink()
    with pytest.raises(SettingsError, match=r"rows\.key is missing"):
        cohort([], Order(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    with sqlite3.connect(other / "rows.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    (other / "rows.key").write_bytes(b"x" * 32)
    with pytest.raises(SettingsError, match="another version"):
        cohort([], Order(other))


def test_nothing_to_tabulate_is_said_and_is_exit_3(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    done = run("cohort", "note.txt", "--out", "out", cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "no scan to tabulate" in done.stderr
    assert "nothing to tabulate" in (tmp_path / "out" / "cohort.html").read_text()


def test_the_same_seed_gives_the_same_page_and_another_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store(Plan(persons=6), tmp_path / name)
        cohort([], Order(tmp_path / name, random=FEW_DRAWS))
    assert results(tmp_path / "one") == results(tmp_path / "two")
    cohort([], Order(tmp_path / "two", random=replace(FEW_DRAWS, seed=1)))
    assert results(tmp_path / "one")["table.csv"] != results(tmp_path / "two")["table.csv"]
