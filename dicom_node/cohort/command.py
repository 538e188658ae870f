"""The command: read what is new, then draw the table from all rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from dicom_node.cohort.page import Account, write_page
from dicom_node.cohort.persons import Tally, average, counted
from dicom_node.cohort.picture import draw
from dicom_node.cohort.read import read_files
from dicom_node.cohort.rows import Rows, open_rows
from dicom_node.cohort.statistics import Random
from dicom_node.cohort.subjects import identify, read_subjects
from dicom_node.cohort.table import Tables, tabulate
from dicom_node.cohort.words import counted_persons
from dicom_node.cohort.write import write_numbers, write_table, write_tests
from dicom_node.errors import SettingsError

NOTHING = 3
"""Exit status when there is no scan to tabulate; 2 is wrong usage, 1 an error."""
NAMED = 20
"""Unreadable files that are named one by one; all are counted."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted: where the results go, who was scanned, the margin of equality, the seed."""

    out: Path
    subjects: Path | None = None
    margin: float = 0.05
    random: Random = field(default_factory=Random)


def run(
    paths: Sequence[Path], out: Path, subjects: Path | None, *, margin: float, seed: int
) -> int:
    """What the command line asks for; returns the exit status."""
    return cohort(paths, Order(out, subjects, margin, Random(seed)))


def cohort(paths: Sequence[Path], order: Order) -> int:
    """Read the files, write the tables, the figure and the page; returns the exit status (0 or 3).

    Raises SettingsError when the margin, the list of subjects or the rows file cannot be used.
    """
    if not order.margin > 0:
        raise SettingsError(f"--margin {order.margin:g}: it must be above 0")
    console = Console(stderr=True, soft_wrap=True)
    subjects = read_subjects(order.subjects)
    order.out.mkdir(parents=True, exist_ok=True)
    with open_rows(order.out) as rows:
        _read(paths, rows, console)
        people = identify(subjects, rows.patients())
        tally = Tally()
        with console.status("averaging over persons"):
            cohorts, names = average(counted(rows.scans(), people, tally), people)
        with console.status("comparing layers"):
            words = rows.words()
            tables = tabulate(cohorts, order.random, order.margin, words)
            scans = counted(rows.scans(), people, Tally())
            write_numbers(order.out / "cohort.csv", scans, names, people)
        account = Account(tally, rows.reasons(), order.random, order.margin, bool(subjects.group))
    with console.status("drawing"):
        _write(order.out, tables, account)
    for channels in tables.cohorts:
        console.print(
            f"{channels.channels}: {counted_persons(len(channels.names))}, {channels.scan_count} scans"
        )
    console.print(f"look at {order.out / 'cohort.html'}" if tally.scans else "no scan to tabulate")
    return 0 if tally.scans else NOTHING


def _read(paths: Sequence[Path], rows: Rows, console: Console) -> None:
    """Read what is new; says how many files and names those that are damaged."""
    new = known = damaged = 0
    with console.status("reading") as status:
        for item in read_files(paths, rows):
            known += item.known
            new += not item.known
            if item.unreadable:
                damaged += 1
                if damaged <= NAMED:
                    console.print(
                        f"[yellow]not read[/] {escape(str(item.path))}: {escape(item.unreadable)}"
                    )
            status.update(f"reading: {new} new files, {known} known")
    console.print(f"{new} new files, {known} read before, {damaged} that cannot be read")


def _write(out: Path, tables: Tables, account: Account) -> None:
    write_table(out / "table.csv", tables)
    write_tests(out / "tests.csv", tables)
    picture = draw(tables)
    (out / "cohort.png").write_bytes(picture)
    write_page(out / "cohort.html", tables, picture, account)
