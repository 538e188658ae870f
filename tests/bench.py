"""Seconds and memory of the sentence, printed as tables: ``make bench``. Not a test: machines are noisy.

Each round pushes a B-mode study of 128 x 256 x 256 through a fresh node on SQLite.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import psutil
from rich.console import Console
from rich.table import Table

from dicom_node.deliver import deliver
from dicom_node.demo import at_port, configure, running_node, write_phantom
from dicom_node.jobs import list_jobs
from dicom_node.orders import PhantomOrder
from dicom_node.receive.archive import archive
from dicom_node.settings import Destination
from models.phantom import PhantomRequest, synthesize

ROUNDS = 3
SIZE = "128x256x256"
MIB = 1024**2


def receiver_mib() -> float:
    """Resident memory of the process that receives, in MiB."""
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        if process.info["cmdline"] and process.info["cmdline"][-2:-1] == ["receive"]:
            return process.info["memory_info"].rss / MIB
    raise LookupError("no receiving process")


def sentence(folder: Path, seed: int, console: Console) -> dict[str, float]:
    """One study through one node: seconds by stage, seconds from the last answer to the last arrival, MiB."""
    order = replace(PhantomOrder(), seed=seed, size=SIZE, shear_wave=False)
    files = write_phantom(folder / "sent", order)
    (folder / "archive").mkdir()
    with archive(folder / "archive") as pacs:
        settings, config = configure(folder, pacs)
        with running_node(config, folder / "node.log", console) as port:
            settings = at_port(settings, port)
            before = receiver_mib()
            node = Destination("node", settings.node.ae_title, "127.0.0.1", port)
            start = time.monotonic()
            deliver(files, node, "BENCH")
            pushed = time.monotonic()
            while (job := list_jobs(settings)[0]).state != "delivered":
                assert not job.reason, job.reason
                time.sleep(0.05)
            done, after = time.monotonic(), receiver_mib()
    seconds = {f"{word} s": value for word, value in job.seconds.items()}
    total = {"push s": pushed - start, "last answer to last arrival s": done - pushed}
    return total | seconds | {"receiver before MiB": before, "receiver after MiB": after}


def main() -> None:
    console = Console()
    rows = []
    for seed in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(sentence(Path(folder), seed, console))
    table = Table("figure", "mean", "SD", title=f"{SIZE}, {ROUNDS} rounds, quiet_seconds = 1.0")
    for key in rows[0]:
        values = [row[key] for row in rows]
        table.add_row(key, f"{mean(values):.2f}", f"{stdev(values):.2f}")
    console.print(table)
    start = time.process_time()
    for seed in range(10):
        synthesize(seed, PhantomRequest(shape=(64, 192, 192)))
    rate = 10 / (time.process_time() - start)
    console.print(f"simulator: {rate:.2f} volumes of 64 x 192 x 192 per second of one core")


if __name__ == "__main__":
    main()
