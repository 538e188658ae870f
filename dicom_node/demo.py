"""demo: the tour. A phantom travels scanner -> node -> archive over real connections, and is shown."""

import json
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import UID
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node.deliver import deliver
from dicom_node.errors import NodeError, SettingsError
from dicom_node.install import own_command
from dicom_node.jobs import Job, list_jobs
from dicom_node.orders import PhantomOrder
from dicom_node.receive.archive import Archive, archive
from dicom_node.report.page import write_page
from dicom_node.report.table import columns_of, true_thickness_mm
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Destination, Settings, load
from dicom_node.study import Outcome, Study, load_outcomes

PATIENCE_SECONDS = 600.0
"""Longer than any machine needs; the demo then says that it gave up instead of waiting for ever."""

SHOWN = {
    "thickness": "thickness (mm)",
    "saliency": "saliency (0-1)",
    "contribution": "contribution (log-odds)",
}
"""The columns of the printed table, by how the quantity's name begins."""

ENDED = ("refused", "failed", "canceled")
"""States after which nothing more will arrive."""


def write_phantom(out: Path, order: PhantomOrder) -> tuple[Path, ...]:
    """Write a synthetic study to ``out/dicom`` and its truth to ``out/truth``; returns the DICOM files.

    Raises SettingsError when the size cannot be read, or is one that nobody scans.
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", order.size)
    slices, rows, columns = (int(number) for number in match.groups()) if match else (0, 0, 0)
    if not (2 <= slices <= 1024 and 64 <= rows <= 1024 and 64 <= columns <= 1024):
        raise SettingsError(
            f"--size {order.size!r} is not SLICESxROWSxCOLUMNS with 2 to 1024 slices, 64 to 1024 rows "
            "and columns; for example 64x192x192"
        )
    phantoms = import_module("models.phantom")
    request = phantoms.PhantomRequest(shape=(slices, rows, columns), shear_wave=order.shear_wave)
    phantom = phantoms.synthesize(order.seed, request)
    for folder in (out / "dicom", out / "truth"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    phantoms.write_truth(phantom, out / "truth")
    style = Style(form=order.form, encoding=order.encoding, seed=order.seed)
    return write_study(phantom.scan, out / "dicom", style)


def demo(out: Path, seed: int) -> int:
    """Run the tour; returns 0 only if Segmentation and Structured Report arrived and can be read."""
    console = Console(highlight=False)
    console.print("[bold]dicom-node demo[/]   research use only, not a medical device\n")
    with console.status("a lumbar study is being synthesized, B-mode and shear wave"):
        files = write_phantom(out / "sent", PhantomOrder(shear_wave=True, seed=seed))
    console.print(f"scanner   {len(files)} instances synthesized, with known truth")
    arrived = out / "archive"
    shutil.rmtree(arrived, ignore_errors=True)
    arrived.mkdir()
    with tempfile.TemporaryDirectory() as scratch, archive(arrived) as pacs:
        settings, config = configure(Path(scratch), pacs)
        with running_node(config, out / "node.log", console) as port:
            study, outcomes = travel(at_port(settings, port), pacs, files, console)
    truth = json.loads((out / "sent" / "truth" / "truth.json").read_text(encoding="utf-8"))
    page = write_page(study, outcomes, out, truth)
    for outcome in outcomes:
        _show(outcome, truth, console)
    return _conclude(arrived, page, console)


def at_port(settings: Settings, port: int) -> Settings:
    """The settings with the port that the node has really bound."""
    return replace(settings, receive=replace(settings.receive, port=port))


def configure(scratch: Path, pacs: Archive) -> tuple[Settings, Path]:
    """A node on a free port with a temporary SQLite database, and the archive as its destination."""
    path = scratch / "node.toml"
    path.write_text(
        f"[node]\ndata_dir = {json.dumps(str(scratch / 'data'))}\n"
        "[receive]\nport = 0\nquiet_seconds = 1.0\n"
        f'[[destinations]]\nname = "archive"\nae_title = "{pacs.ae_title}"\n'
        f'host = "127.0.0.1"\nport = {pacs.port}\n',
        encoding="utf-8",
    )
    return load(path, {}), path


@contextmanager
def running_node(config: Path, log: Path, console: Console) -> Iterator[int]:
    """A node in processes of its own; yields its port once all of it is ready."""
    command = [sys.executable, "-P", "-m", "dicom_node", "serve", "--config", str(config)]
    with console.status("the node is starting"), log.open("w", encoding="utf-8") as file:
        node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)  # noqa: S603
        assert node.stdout is not None
        ready = node.stdout.readline()
    if not ready:
        raise NodeError(f"the node could not start; {log} says why")
    try:
        yield int(json.loads(ready)["port"])
    finally:
        node.terminate()
        node.wait()


def travel(
    settings: Settings, pacs: Archive, files: Sequence[Path], console: Console
) -> tuple[Study, tuple[Outcome, ...]]:
    """Push the study, and watch it until every object has arrived at the archive."""
    here = Destination("node", settings.node.ae_title, "127.0.0.1", settings.receive.port)
    began = time.monotonic()
    deliver(files, here, "SCANNER")
    console.print(f"receive   node on port {here.port} acknowledged {len(files)} instances")
    pushed = time.monotonic()
    with console.status("waiting for the results") as status:
        while (job := _job(settings)).state != "delivered":
            status.update(f"{job.state}; {time.monotonic() - began:.0f} s")
            if job.state.startswith(ENDED) or time.monotonic() - began > PATIENCE_SECONDS:
                raise NodeError(f"the study ended as {job.state}: {job.reason}")
            time.sleep(0.25)
    for word, seconds in job.seconds.items():
        console.print(f"{word:9} {seconds:.1f} s")
    names = _arrived(pacs)
    seconds = time.monotonic() - pushed
    console.print(f"archive   {len(names)} objects arrived, {seconds:.1f} s after the last image:")
    console.print("".join(f"          {name}\n" for name in names))
    work = settings.node.files / "work" / job.study / str(job.generation)
    return Study.load(work), load_outcomes(work)


def _job(settings: Settings) -> Job:
    (job,) = list_jobs(settings)
    return job


def _arrived(pacs: Archive) -> list[str]:
    names: list[str] = []
    while True:
        try:
            path = pacs.arrivals.get_nowait()
        except queue.Empty:
            return names
        names.append(UID(dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID).name)


def _show(outcome: Outcome, truth: dict[str, Any], console: Console) -> None:
    """Print what an outcome says of each segment, with the truth beside it."""
    findings = outcome.findings
    if findings is None:
        console.print(f"[yellow]refused:[/] {escape(outcome.refusal)}")
        return
    everything = columns_of(findings)
    # The first column of a quantity is its main one; the page shows them all.
    found = [
        next((c for c in everything if c.name.lower().startswith(word)), None) for word in SHOWN
    ]
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="-: not measured or not known; in brackets: 2.5th to 97.5th percentile",
    )
    table.add_column("layer")
    table.add_column("true thickness", width=len("thickness"))
    for word, column in zip(SHOWN.values(), found, strict=True):
        # Titles and names may be broken, numbers not.
        parts = [*word.split(), *(column.cells.values() if column else ())]
        table.add_column(word, width=max(map(len, parts)))
    for segment in findings.segmentation.segments:
        known = true_thickness_mm(truth, segment)
        cells = [column.cells.get(segment.number, "-") if column else "-" for column in found]
        table.add_row(segment.label, f"{known:.2f}" if known is not None else "-", *cells)
    console.print(table)
    for decision in findings.classifications:
        _, probability = decision.outcomes[0]
        percent = f"probability {100 * probability:.0f} %"
        planted = "with" if truth["pain"] else "without"
        console.print(f"{decision.concept.meaning}: {percent} (the phantom is one {planted} pain)")
    if findings.flags:
        console.print(f"{len(findings.flags)} reasons to distrust this; report.html names them:")
    for flag in findings.flags:
        console.print(f"  {escape(flag.code.meaning)}")


def _conclude(arrived: Path, page: Path, console: Console) -> int:
    """Say where everything is; nonzero when a result is missing."""
    modalities = {dcmread(path, stop_before_pixels=True).Modality for path in arrived.glob("*.dcm")}
    if missing := {"SEG", "SR"} - modalities:
        console.print(f"[red]missing at the archive:[/] {', '.join(sorted(missing))}")
        return 1
    folder, me = page.parent, own_command()
    console.print(
        f"\nlook at    {folder / 'overlay.png'}\n"
        f"           {page}\n"
        f"sent       {folder / 'sent'} (DICOM and truth)\n"
        f"received   {arrived} (SEG, SR, maps, pages)\n"
        f"log        {folder / 'node.log'}\n\n"
        f"next       {me} init --out node\n"
        f"           {me} check --config node/node.toml\n"
        f"           {me} serve --config node/node.toml",
        soft_wrap=True,
    )
    return 0
