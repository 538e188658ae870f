"""cohort as it is called: from sweep to page, lists of subjects, damaged rows, many scans."""

import json
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.cohort.command import Order, cohort
from dicom_node.cohort.persons import Tally, average, counted
from dicom_node.cohort.rows import Seen, open_rows
from dicom_node.cohort.subjects import Subjects, identify, read_subjects
from dicom_node.errors import SettingsError
from dicom_node.scanner import Style, write_study
from models.phantom import PhantomRequest, synthesize
from models.subjects import read_table
from models.training.subjects import read_words
from tests.cohort_rows import B_MODE, FEW_DRAWS, SHEAR_WAVE, Plan, lines, make_rows, results, store


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("dicom-node")), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=600,
    )


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
    assert quantities == {*expected, "thickness", "non-muscle saliency"}
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
    rows = [f"{uid},person {number},1" for number, uid in enumerate(studies)]
    (folder / "subjects.csv").write_text("\n".join(["study,subject,pain", *rows]))
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
        ("subject,pain\nA,1\n", "no column 'study'"),
        ("study,subject,group\n1.2,SECRET,pain\n", "column group is now called pain.*1 for pain"),
        (
            "study,subject,site\n1.2,SECRET,x\n",
            "unknown column 'site'; known: subject, study, pain",
        ),
        ("study,subject,pain\n1.2,SECRET,ill\n", "line 2: pain is 'ill', not 0 or 1"),
        ("study,subject\n1.2,SECRET\n1.2,OTHER\n", "line 3: its study is there twice"),
        ("study,subject\n1.2,\n", "line 2: subject is empty"),
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


def test_train_and_cohort_take_the_same_table(tmp_path: Path) -> None:
    """A file with all columns, a scale of pain and its words beside it."""
    (tmp_path / "layers.toml").write_text('pain_from = 4\n[layers]\n"Fascia" = 5\n[pain]\n"no" = 0')
    path = tmp_path / "subjects.csv"
    path.write_text(
        "Subject;Study;Pain;Sex;Age;BMI\nann;1.2;6;F;52;27.1\nben;1.3;no;;;\ncleo;1.4;;;;\n"
    )
    trained = read_table(path, read_words(tmp_path).pain)
    assert [(row.subject, row.pain) for row in trained.values()] == [
        ("ann", True), ("ben", False), ("cleo", None),
    ]  # fmt: skip
    found = read_subjects(path)
    assert found.subject == {study: row.subject for study, row in trained.items()}
    assert found.group == {"1.2": "pain", "1.3": "control"}


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
