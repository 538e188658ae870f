"""Postgres stopped under load (-m immediate): how long after it is up again until all is finished.

``python -m tests.bench_outage [--as-dbos]``; with the option workers do not begin anew after an outage, but
wait as DBOS does. Not a test: it takes minutes. Prints a table, and the longest wait that DBOS announced.
"""

import itertools
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from dicom_node.errors import DeliveryError
from tests.conftest import Pacs, Postgres, RunningNode, make_study, start_node

STUDIES = 8
AS_DBOS = """
import sys
if "dicom_node.role" in sys.orig_argv and "receive" not in sys.orig_argv:
    from dicom_node.pipeline.worker import Worker
    Worker._begin_anew = lambda self: None
"""
PATIENCE_SECONDS = 300.0
OUTAGES = ((60, 1), (3, 4), (3, 4), (120, 1))
"""Seconds, and how often."""


def send_all(node: RunningNode, folder: Path, first_seed: int) -> None:
    """As a patient scanner does: what is not taken is sent again."""
    for seed in range(first_seed, first_seed + STUDIES):
        paths = make_study(folder / str(seed), seed=seed, slices=2)
        while True:
            try:
                node.send(*paths)
                break
            except DeliveryError:
                time.sleep(0.5)


def unfinished(node: RunningNode, studies: int) -> int:
    """Studies without their results at the archive, and stages that are going on."""
    query = (
        "select (select count(distinct study_uid) from results join deliveries using (sop_uid) "
        "where delivered_at is not null), (select count(*) from dbos.workflow_status "
        "where status in ('ENQUEUED', 'DELAYED', 'PENDING'))"
    )
    ((delivered, active),) = node.rows(query)
    return studies - delivered + active


def finished_after(node: RunningNode, studies: int) -> str:
    """Wait until all is done; what was last to be waited for."""
    began, last = time.monotonic(), ""
    while time.monotonic() - began < PATIENCE_SECONDS:
        with suppress(sa.exc.OperationalError):
            if not unfinished(node, studies):
                return last
            query = "select name, executor_id from dbos.workflow_status where status = 'PENDING'"
            last = ", ".join(f"{name} at {who}" for name, who in node.rows(query)) or last
        time.sleep(0.25)
    return f"never finished: {last}"


def silence(node: RunningNode, since: float) -> tuple[float, float]:
    """Seconds from then to the first record of a step, and the longest time between two, until the last."""
    query = (
        f"select completed_at_epoch_ms / 1000.0 from dbos.operation_outputs "
        f"where completed_at_epoch_ms > {since * 1000:.0f} order by 1"
    )
    times = [since, *(float(at) for (at,) in node.rows(query))]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return (gaps[0], max(gaps)) if gaps else (0.0, 0.0)


@contextmanager
def log_of(path: Path) -> Iterator[None]:
    """Standard error of all processes into a file."""
    kept = os.dup(2)
    with path.open("w") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def longest_wait(log: Path) -> float:
    """What DBOS said of its longest pause between two attempts, in seconds."""
    found = re.findall(r"Retrying in ([0-9.]+)s", log.read_text())
    return max(map(float, found), default=0.0)


def main(as_dbos: bool) -> None:
    console, table = (
        Console(),
        Table("outage", "first record, s", "longest silence, s", "all finished, s", "repeated"),
    )
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as data:
        folder = Path(name)
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        postgres, pacs = Postgres(programs, Path(data)), Pacs()
        ends = ExitStack()
        ends.callback(postgres.stop)
        ends.callback(pacs.stop)
        (folder / "sitecustomize.py").write_text(AS_DBOS if as_dbos else "")
        os.environ["DICOM_NODE_TEST_SECONDS"] = "0.3"
        with (
            ends,
            log_of(folder / "log"),
            start_node(folder, pacs.destination, database=postgres.url) as node,
        ):
            seed, sent = 0, 0
            for outage, times in OUTAGES[:2] if as_dbos else OUTAGES:
                before = len(node.runs())
                sender = threading.Thread(target=send_all, args=(node, folder, seed))
                sender.start()
                for _ in range(times):
                    time.sleep(4.0)
                    postgres.stop(signal.SIGQUIT)
                    time.sleep(outage)
                    postgres.start()
                up, clock = time.monotonic(), time.time()
                sender.join()
                seed, sent = seed + STUDIES, sent + STUDIES
                last = finished_after(node, sent)
                seconds = time.monotonic() - up
                repeated = len(node.runs()) - before - STUDIES
                figures = [*silence(node, clock), seconds]
                row = (f"{times} x {outage} s", *(f"{each:.1f}" for each in figures), str(repeated))
                table.add_row(*row)
                console.print("  ".join(row), "last:", last)
        console.print(table)
        log = (folder / "log").read_text()
        console.print(f"longest wait that DBOS announced: {longest_wait(folder / 'log'):.1f} s")
        console.print(f"workers that began anew: {log.count('worker begins anew')}")
        console.print(f"load average: {' '.join(Path('/proc/loadavg').read_text().split()[:3])}")


if __name__ == "__main__":
    main("--as-dbos" in sys.argv)
