"""What queue and database cost a study, and what a second worker is worth: ``make bench-pipeline``.

Not a test: machines are noisy. Costs are seconds of processor (of the database too), and ratios are taken
within one run. Stages without work show what the queue alone costs; a stand-in that sleeps for a fixed time
shows what a second worker is worth, also on few processors.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from rich.console import Console

from dicom_node import index
from dicom_node.migrations import migrate
from dicom_node.pipeline.worker import POLL_SECONDS
from dicom_node.pipeline.workflows import register
from dicom_node.settings import Node
from models.analysis import load
from models.phantom import PhantomRequest, synthesize
from tests.conftest import ROOT, Pacs, Postgres, RunningNode, make_study, start_node, wait_for

STUDIES, FEW, MANY = 20, 10, 10_000
FIRST = 100_000
"""Number of the first of the many."""
ANALYSIS_SECONDS, ANALYSES = 3.0, 12
PATIENCE_SECONDS = 900.0
CLOSED = {"wait_seconds": 0.0, "evidence": "", "priority": 5}


class NoWork:
    """The steps without their work: what is left is the queue's and the database's."""

    def run(self, workflow_id: str, _name: str, work: Callable[..., Any], *of: Any) -> Any:
        """As the guard does, beside its looks at disk and clock."""
        index.rescues_of(self.engine, workflow_id)
        return work(*of)

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.guard = self

    def close_if_complete(self, study_uid: str, generation: int) -> dict[str, Any]:
        index.close_if_complete(self.engine, study_uid, generation, index.Rules(0.0, 0.0))
        return CLOSED

    def assemble(self, *_of: Any) -> dict[str, Any]:
        return {"scans": 1}

    def analyze(self, *_of: Any) -> dict[str, Any]:
        return {"findings": ["plain"]}

    def report(self, study_uid: str, generation: int) -> dict[str, Any]:
        result = index.Result(
            f"{study_uid}.9", study_uid, generation, "plain", 0, "map", "1.2.5", "0", "results/none"
        )
        index.record_results(self.engine, [result], ["pacs"])
        return {"objects": 1, "due": ["pacs"]}

    def send(self, study_uid: str, _generation: int, name: str) -> dict[str, Any]:
        index.record_delivery(self.engine, f"{study_uid}.9", name, "delivered")
        return {"retry": "", "at": 0.0}


class Bench:
    """A worker on all queues in this process, whose stages do nothing."""

    def __init__(self, url: str, server: int | None) -> None:
        migrate(url)
        self.engine = index.open_engine(url)
        self.client = index.open_client(self.engine)
        self._server = server
        config: DBOSConfig = {
            "name": index.APPLICATION,
            "system_database_url": url,
            "system_database_engine": self.engine,
            "executor_id": "bench",
            "application_version": index.VERSION,
            "serializer": DBOSPortableJSONSerializer(),
            "run_migrations": False,
            "log_level": "ERROR",
        }
        DBOS(config=config)
        register(NoWork(self.engine))  # type: ignore[arg-type]
        DBOS.listen_queues(["cpu", "gpu", "deliver"])
        DBOS.launch()
        DBOS.register_queue("cpu", worker_concurrency=2, polling_interval_sec=POLL_SECONDS)
        DBOS.register_queue("gpu", worker_concurrency=1, polling_interval_sec=POLL_SECONDS)
        DBOS.register_queue(
            "deliver", partition_worker_concurrency=2, polling_interval_sec=POLL_SECONDS
        )

    def processor_seconds(self) -> float:
        """Of this process, and of the database server with all that it has started."""
        total = time.process_time()
        if self._server:
            server = psutil.Process(self._server)
            for process in (server, *server.children(recursive=True)):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def accept(self, first: int, count: int, rules: index.Rules) -> None:
        for number in range(first, first + count):
            uid = f"1.2.{number}"
            arrival = index.Arrival(
                *(f"{uid}.1", "1.2.5", uid, f"{uid}.2", "1.2.6", "0" * 64, 1),
                *(f"store/{number}", "US", "host"),
            )
            carrier = index.Carrier(f"carrier-{number}", "bench", 5)
            index.accept(self.engine, self.client, arrival, carrier, rules)
            index.release(self.engine, carrier.association, released=True)

    def cost(self, first: int) -> float:
        """Seconds of processor per study, from its first instance to its delivery; idle time is taken off."""
        began, before = time.monotonic(), self.processor_seconds()
        time.sleep(5.0)
        idle = (self.processor_seconds() - before) / (time.monotonic() - began)
        began, before = time.monotonic(), self.processor_seconds()
        self.accept(first, STUDIES, index.Rules(0.0, 0.0))
        mine = [f"1.2.{number}.9" for number in range(first, first + STUDIES)]
        deliveries = index.METADATA.tables["deliveries"].c
        done = sa.select(sa.func.count()).where(
            deliveries.sop_uid.in_(mine), deliveries.status == "delivered"
        )

        def delivered() -> bool:
            with self.engine.connect() as connection:
                return connection.scalar(done) == STUDIES

        wait_for(delivered, "the studies", PATIENCE_SECONDS)
        spent = self.processor_seconds() - before
        return (spent - idle * (time.monotonic() - began)) / STUDIES

    def fill(self) -> None:
        """Copies of one study, in the index and in the queue.

        Half of them wait for their time, half for a worker of another version: none shall run.
        """
        self.accept(FIRST - 1, 1, index.Rules(1e6, 1e6))
        schema = "" if self.engine.dialect.name == "sqlite" else "dbos."
        tables = {
            f"{schema}workflow_status": ("workflow_uuid", ":0:assemble:0"),
            "studies": ("study_uid", ""),
            "instances": ("sop_uid", ".1"),
        }
        with self.engine.begin() as connection:
            for table, (key, tail) in tables.items():
                self._copy(connection, table, key, tail)
            connection.execute(
                sa.text(
                    f"update {schema}workflow_status set status = 'ENQUEUED', queue_name = 'gpu', "
                    "name = 'analyze', application_version = 'another' where status = 'DELAYED' "
                    "and substr(workflow_uuid, 10, 1) in ('0', '2', '4', '6', '8')"
                )
            )
            for table in tables:
                connection.execute(sa.text(f"analyze {table}"))

    def _copy(self, connection: sa.Connection, table: str, key: str, tail: str) -> None:
        schema, _, name = table.rpartition(".")
        columns = [
            column["name"]
            for column in sa.inspect(connection).get_columns(name, schema or None)
            if column["name"] not in (key, "study_uid") and not column.get("computed")
        ]
        uid = "'1.2.' || cast(n as text)"
        targets, sources = [key, *columns], [f"{uid} || '{tail}'", *columns]
        if table == "instances":
            targets, sources = [*targets, "study_uid"], [*sources, uid]
        connection.execute(
            sa.text(
                f"insert into {table} ({', '.join(targets)}) "
                f"with recursive numbers(n) as (select {FIRST} union all "
                f"select n + 1 from numbers where n < {FIRST + MANY - 1}) "
                f"select {', '.join(sources)} from {table}, numbers "
                f"where {key} = '1.2.{FIRST - 1}{tail}'"
            )
        )

    def end(self) -> None:
        self.client.destroy()
        DBOS.destroy(destroy_registry=True)
        self.engine.dispose()


def analysis_seconds() -> float:
    """Seconds of processor of the real analysis of a small volume, 64 x 192 x 192, once it is loaded."""
    analysis = load("models.layer:analysis")
    analysis.prepare("cpu", 1)
    scan = synthesize(0, PhantomRequest(shape=(64, 192, 192))).scan
    before = time.process_time()
    analysis.run(scan)
    return time.process_time() - before


def costs(name: str, url: str, server: int | None, reference: float, console: Console) -> None:
    bench = Bench(url, server)
    bench.accept(0, FEW, index.Rules(1e6, 1e6))
    few = [bench.cost(1000), bench.cost(2000)]
    bench.fill()
    many = [bench.cost(3000), bench.cost(4000)]
    bench.end()
    mean_few, mean_many = sum(few) / 2, sum(many) / 2
    console.print(
        f"{name}: {1000 * mean_few:.0f} ms of processor per study with {FEW} in queue and index "
        f"({', '.join(f'{1000 * each:.0f}' for each in few)}), {1000 * mean_many:.0f} with {MANY} "
        f"({', '.join(f'{1000 * each:.0f}' for each in many)}): ratio {mean_many / mean_few:.2f}; "
        f"{100 * mean_few / reference:.2f} % of an analysis"
    )


def rate(node: RunningNode, folder: Path, first_seed: int) -> float:
    """Seconds from one analysis to the next, with all studies waiting for theirs."""
    node.forget()
    hold = node.gate / "hold"
    hold.touch()
    for seed in range(first_seed, first_seed + ANALYSES):
        node.send(*make_study(folder / str(seed), seed=seed, slices=2))
    waiting = (
        "select count(*) from dbos.workflow_status "
        "where name = 'analyze' and status in ('ENQUEUED', 'PENDING')"
    )
    wait_for(lambda: node.rows(waiting) == [(ANALYSES,)], "the scans", PATIENCE_SECONDS)
    hold.unlink()
    began = time.monotonic()
    wait_for(lambda: node.rows(waiting) == [(0,)], "the analyses", PATIENCE_SECONDS)
    return (time.monotonic() - began) / ANALYSES


def workers(url: str, folder: Path, console: Console) -> None:
    """One worker, then a second beside it on the same database."""
    os.environ["DICOM_NODE_TEST_SECONDS"] = str(ANALYSIS_SECONDS)
    pacs = Pacs()
    files = folder / "files"
    files.mkdir()
    with start_node(folder, pacs.destination, database=url, own=f'files_dir = "{files}"') as node:
        one = rate(node, folder, 0)
        environment = dict(os.environ) | {
            "PYTHONPATH": str(ROOT),
            "DICOM_NODE_TEST_GATE": str(node.gate),
            "DICOM_NODE__NODE__NAME": "second",
            "DICOM_NODE__NODE__DATA_DIR": f'"{folder / "second"}"',
        }
        (folder / "second").mkdir()
        command = [
            sys.executable,
            "-P",
            "-m",
            "dicom_node.role",
            "infer",
            str(folder / "node.toml"),
        ]
        second = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert second.stdout is not None
        while not second.stdout.readline().startswith("{"):
            pass
        two = rate(node, folder, 100)
        second.terminate()
        second.communicate()
    pacs.stop()
    console.print(
        f"analyses of {ANALYSIS_SECONDS:g} s: {one:.2f} s each with one worker, {two:.2f} s with two: "
        f"{one / two:.2f} times as fast; "
        f"one worker spends {100 * (one / ANALYSIS_SECONDS - 1):.1f} % beside the analysis"
    )


def main() -> None:
    console = Console(width=110)
    reference = analysis_seconds()
    console.print(f"the real analysis of 64 x 192 x 192: {reference:.1f} s of one processor")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        costs("SQLite", Node(data_dir=folder).database_url, None, reference, console)
        with tempfile.TemporaryDirectory() as data:
            postgres = Postgres(programs[-1].parent / "bin", Path(data))
            costs("Postgres", postgres.url, postgres.pid, reference, console)
            postgres.stop()
        with tempfile.TemporaryDirectory() as data:
            postgres = Postgres(programs[-1].parent / "bin", Path(data))
            workers(postgres.url, folder, console)
            postgres.stop()
    console.print(f"load average: {' '.join(Path('/proc/loadavg').read_text().split()[:3])}")


if __name__ == "__main__":
    main()
