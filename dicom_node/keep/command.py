"""What `check --deep` and `purge` print."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dicom_node.clock import Clock
from dicom_node.files import open_files
from dicom_node.jobs import Memory
from dicom_node.keep.deep import ADVICE, SETTLE_SECONDS, Deep, Problem
from dicom_node.keep.progress import Progress as Runs
from dicom_node.keep.purge import plan, purge
from dicom_node.keep.repair import Repair
from dicom_node.keep.trail import purge_trail
from dicom_node.settings import Settings


def check_deep(settings: Settings, repair: bool) -> int:
    """Look at every row, file and study; print what is wrong, study by study. Returns the exit status.

    0 all is well, or was mended; 1 something is left to do for a person.
    """
    files, runs_settle = open_files(settings), _settle_seconds(settings)
    console, left, found = Console(soft_wrap=True, highlight=False), 0, 0
    with Memory(settings) as memory, _bar() as bar:
        runs = Runs(memory.engine, memory.client)
        look = Deep(memory.engine, runs, files, runs_settle)
        mender = Repair(memory.engine, memory.client, files, runs, look)
        task = bar.add_task("rows and files", total=look.count())
        look.looked = lambda count: bar.advance(task, count)
        study = ""
        for problem in look.problems():
            found += 1
            if problem.study_uid != study:
                study = problem.study_uid
                console.print(f"study {study}")
            done, is_mended = mender.mend(problem) if repair else (ADVICE[problem.kind], False)
            left += not is_mended
            _tell(console, problem, done)
        bar.update(task, completed=bar.tasks[0].total)
    console.print(f"{found} problems, {left} left" if found else "Index and files are of one mind.")
    return 1 if left else 0


def _tell(console: Console, problem: Problem, done: str) -> None:
    console.print(f"  {escape(problem.sentence)}: {escape(done)}")


@contextmanager
def _bar() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        yield bar


def _settle_seconds(settings: Settings) -> float:
    """Where no receiver can be at work, a file without a row will get none."""
    lock = settings.node.data_dir / "receive.lock"
    if not settings.node.database_url.startswith("sqlite") or not lock.exists():
        return SETTLE_SECONDS
    with lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return SETTLE_SECONDS
    return 0.0


def run_purge(settings: Settings, dry_run: bool) -> int:
    """Print what goes, or would go, and why; and what stays although its time has come."""
    count, size, held = 0, 0, 0
    for order in plan(settings) if dry_run else purge(settings):
        of = f"{order.study.study_uid} {order.what}"
        if order.held:
            held += 1
            typer.echo(f"stays  {of}: {order.why}, but {order.held}")
            continue
        count, size = count + order.files, size + order.bytes
        word = "would go" if dry_run else "gone"
        mib = f"{order.files} files, {order.bytes / 2**20:.1f} MiB"
        typer.echo(f"{word}  {of}: {mib}: {order.why}")
    word = "would go" if dry_run else "gone"
    for path in purge_trail(settings, Clock().cautious(), dry_run):
        typer.echo(f"{word}  audit/{path.name}: older than {settings.keep.audit_days:g} days")
    word = "would be removed" if dry_run else "removed"
    typer.echo(f"{count} files, {size / 2**30:.3f} GiB {word}; {held} held back")
    return 0
