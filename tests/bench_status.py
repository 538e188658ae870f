"""How long status page, metrics, readiness and commands take at 100,000 studies: ``make bench-status``.

Fills a database with studies in every state, starts the web role on it and asks over HTTP; then runs commands
that look at all studies. SQLite always, Postgres where it is installed. Not a test: machines are noisy.
"""

import argparse
import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles

import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from dicom_node import index
from dicom_node.migrations import migrate
from dicom_node.node import Node
from dicom_node.settings import load
from tests.conftest import Postgres, free_port

STUDIES, REQUESTS = 100_000, 200
INSTANCES, OBJECTS = 4, 4
QUEUED_EVERY, DUE_EVERY, FAILED_EVERY = 20, 50, 200
"""5,000 studies wait for the GPU, 2,000 for the archive; 500 failed."""

PATHS = ("/", "/metrics", "/readyz", "/healthz")
COMMANDS = ("jobs list", "purge --dry-run")
"""Of ``check --deep`` reading the files is most, and here are none."""


STUDY = "'1.2.826.0.1.3680043.8.498.' || n"
AT = ":now - 30.0 * ({studies} - n)"
"""Half a minute between two studies."""

IS_QUEUED, HAS_FAILED = f"n % {QUEUED_EVERY} = 0", f"n % {FAILED_EVERY} = 1"
IS_WHOLE, IS_DUE = f"NOT ({IS_QUEUED} OR {HAS_FAILED})", f"n % {DUE_EVERY} = 3"
RUNS = (
    ("assemble:0", "'SUCCESS'", "n >= 0"),
    ("assemble:1", "'SUCCESS'", "n >= 0"),
    (
        "analyze:",
        f"CASE WHEN {IS_QUEUED} THEN 'ENQUEUED' WHEN {HAS_FAILED} THEN 'ERROR' ELSE 'SUCCESS' END",
        "n >= 0",
    ),
    ("report:", "'SUCCESS'", IS_WHOLE),
    ("deliver:0:pacs", f"CASE WHEN {IS_DUE} THEN 'DELAYED' ELSE 'SUCCESS' END", IS_WHOLE),
)


def statements(workflows: str) -> Iterator[str]:
    """All rows of all studies; ``numbers`` has one row for each."""
    yield (
        "INSERT INTO studies (study_uid, generation, closed, last_at, priority, source_ae, released,"
        f" expected_instances, expected_series) SELECT {STUDY}, 0, true, {AT}, 5, 'US3', true, 0, 0"
        " FROM numbers"
    )
    yield (
        "INSERT INTO generations (study_uid, generation, evidence, closed_at)"
        f" SELECT {STUDY}, 0, 'release', {AT} FROM numbers"
    )
    for item in range(INSTANCES):
        yield (
            "INSERT INTO instances (sop_uid, study_uid, generation, sop_class, series_uid,"
            " transfer_syntax, sha256, bytes, path, calling_ae, peer, received_at)"
            f" SELECT {STUDY} || '.1.{item}', {STUDY}, 0, '1.2.840.10008.5.1.4.1.1.3.1',"
            f" {STUDY} || '.1', '1.2.840.10008.1.2.1', 'f00', 9, 'store/' || n || '-{item}.dcm',"
            f" 'US3', '10.0.0.9', {AT} FROM numbers"
        )
    for item in range(OBJECTS):
        yield (
            "INSERT INTO results (sop_uid, study_uid, generation, analysis, acquisition, kind,"
            f" sop_class, sha256, path, verdict, made_at) SELECT {STUDY} || '.2.{item}', {STUDY}, 0,"
            " 'layer', 0, 'segmentation', '1.2.840.10008.5.1.4.1.1.66.4', 'f00', 'results/' || n,"
            f" 'conforms', {AT} FROM numbers WHERE {IS_WHOLE}"
        )
        yield (
            "INSERT INTO deliveries (sop_uid, destination, status, reason, attempts, tried_at,"
            f" due_at, delivered_at) SELECT {STUDY} || '.2.{item}', 'pacs',"
            f" CASE WHEN {IS_DUE} THEN 'waiting' ELSE 'delivered' END, '', 1, {AT}, {AT},"
            f" CASE WHEN {IS_DUE} THEN NULL ELSE {AT} END FROM numbers WHERE {IS_WHOLE}"
        )
    for what, status, which in RUNS:
        word = what.partition(":")[0]
        at_ms = f"CAST(1000 * ({AT}) AS BIGINT)"
        yield (
            f"INSERT INTO {workflows} (workflow_uuid, status, name, queue_name, created_at,"
            " updated_at, priority, application_version, delay_until_epoch_ms, completed_at)"
            f" SELECT {STUDY} || ':0:{what}', {status}, '{word}', '{index.QUEUES[word]}',"
            f" {at_ms}, {at_ms}, 5, '{index.VERSION}', {at_ms},"
            f" CASE WHEN {status} IN ('SUCCESS', 'ERROR') THEN {at_ms} END FROM numbers WHERE {which}"
        )


def fill(url: str, studies: int) -> None:
    """Every table, by the database itself."""
    migrate(url)
    engine = index.open_engine(url)
    workflows = "workflow_status"
    if engine.dialect.name == "postgresql":
        workflows = "dbos.workflow_status"
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE numbers (n INTEGER)"))
        numbers = sa.table("numbers", sa.column("n"))
        connection.execute(numbers.insert(), [{"n": number} for number in range(studies)])
        for statement in statements(workflows):
            sql = statement.replace("{studies}", str(studies)).replace(":now", str(time.time()))
            connection.exec_driver_sql(sql.replace("%", "%%") if "dbos." in workflows else sql)
        connection.execute(sa.text("DROP TABLE numbers"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    engine.dispose()


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Of some processes so far: what a loaded machine does not change."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def measure(folder: Path, url: str) -> dict[str, list[float]]:
    """Milliseconds of every request, by path; the last one: processor milliseconds of one, on the mean."""
    port, config = free_port(), folder / "node.toml"
    lines = ["[node]", f'data_dir = "{folder / "data"}"', f'database = "{url}"']
    lines += ["[web]", f"port = {port}", "[[destinations]]", 'name = "pacs"']
    lines += ['ae_title = "PACS"', 'host = "127.0.0.1"']
    lines += ["[keep]", "sources_days = 5.0", "jobs_days = 5.0"]
    config.write_text("\n".join(lines))
    took: dict[str, list[float]] = {}
    with Node(load(config, {}), config, ("web",)) as node:
        node.wait_ready()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for path in PATHS:
            ask(connection, path)  # the first one compiles queries and the template
            servers = [psutil.Process(node.pid("web")), *postgres_processes(url)]
            before = cpu_seconds(servers)
            took[path] = [ask(connection, path) for _ in range(REQUESTS)]
            took[path].append(1000 * (cpu_seconds(servers) - before) / REQUESTS)
        connection.close()
    return took


def command(words: str, config: Path) -> tuple[str, ...]:
    """Seconds, processor seconds and peak MiB of one command, as they were last seen."""
    line = [sys.executable, "-m", "dicom_node", *words.split(), "--config", str(config)]
    began, used, peak = time.perf_counter(), 0.0, 0.0
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                used = cpu_seconds([watched])
                peak = max(peak, watched.memory_info().rss / 2**20)
            time.sleep(0.02)
    assert process.returncode == 0, words
    figures = (time.perf_counter() - began, used, peak)
    return (f"dicom-node {words}", *(f"{each:.1f}" for each in figures))


def ask(connection: http.client.HTTPConnection, path: str) -> float:
    """Milliseconds until the whole answer is here."""
    start = time.perf_counter()
    connection.request("GET", path)
    assert connection.getresponse().read(), path
    return 1000 * (time.perf_counter() - start)


def postgres_processes(url: str) -> list[psutil.Process]:
    """The server's processes that serve us now."""
    if url.startswith("sqlite"):
        return []
    return [each for each in psutil.Process().children(recursive=True) if each.name() == "postgres"]


@contextlib.contextmanager
def databases() -> Iterator[dict[str, Callable[[Path], str]]]:
    """A URL for each kind of database, as far as it is here."""
    found: dict[str, Callable[[Path], str]] = {
        "SQLite": lambda folder: f"sqlite:///{folder / 'n.db'}"
    }
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        yield found
        return
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(programs[-1].parent, Path(folder))
        found["Postgres"] = lambda _folder: server.url
        yield found
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    studies = parser.parse_args().studies
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with databases() as found:
        for name, make_url in found.items():
            with tempfile.TemporaryDirectory() as folder:
                url = make_url(Path(folder))
                fill(url, studies)
                title = f"{name}, {studies} studies; load of the machine {os.getloadavg()[0]:.0f}"
                table = Table("path", "p50 ms", "p95 ms", "max ms", "processor ms", title=title)
                for path, (*values, cpu) in measure(Path(folder), url).items():
                    row = (median(values), quantiles(values, n=20)[-1], max(values), cpu)
                    table.add_row(path, *(f"{value:.1f}" for value in row))
                Console().print(table)
                table = Table("command", "s", "processor s", "peak MiB")
                for words in COMMANDS:
                    table.add_row(*command(words, Path(folder) / "node.toml"))
                Console().print(table)


if __name__ == "__main__":
    main()
