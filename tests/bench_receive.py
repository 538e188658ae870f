"""How fast instances are taken in, beside DCMTK and Orthanc: ``make bench-receive``. Not a test.

One sender for all (DCMTK's storescu; TCP_NODELAY on both sides, without which DCMTK and Orthanc wait 40 ms
per instance for an acknowledgment), rounds interleaved, so that a ratio compares receivers and not the
machine's mood. The receivers of others sync no file and keep no index, Orthanc excepted; ours does both
before it answers.
``--quick``: one round, less data. ``--only "small+node"``: cases and receivers whose names begin so.
"""

import argparse
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import psutil
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from rich.console import Console
from rich.table import Table

from tests.chaos import log_into
from tests.conftest import free_port, start_node, wait_for

ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
REFERENCE = "storescp"
SHAPES = {
    "small": (16, 180, 180),
    "jpeg": (16, 180, 180),
    "large": (64, 1024, 1024),
    "huge": (512, 1024, 1024),
}
"""Frames, rows, columns of 8 bit: 0.5 MB, 67 MB and 537 MB."""


@dataclass(frozen=True)
class Case:
    """What is sent: files of one kind, over so many associations at once, or one after the other."""

    name: str
    files: int
    kind: str
    associations: int
    one_each: bool = False


CASES = (
    Case("small, 1 association", 200, "small", 1),
    Case("small, 4 associations", 200, "small", 4),
    Case("small, 16 associations", 200, "small", 16),
    Case("small, one association each", 50, "small", 1, True),
    Case("small JPEG, 1 association", 200, "jpeg", 1),
    Case("large, 1 association", 6, "large", 1),
    Case("large, 4 associations", 8, "large", 4),
    Case("large, 16 associations", 16, "large", 16),
    Case("huge, 1 association", 1, "huge", 1),
)


@dataclass(frozen=True)
class Receiver:
    """Something that listens: its port, AE title and processes."""

    port: int
    ae_title: str
    pids: tuple[int, ...]


def write_files(folder: Path, kind: str, count: int) -> list[Path]:
    """Instances of one study; what fills them is random, so that nothing gains by compressing."""
    frames, rows, columns = SHAPES[kind]
    study_uid, series_uid, paths = generate_uid(), generate_uid(), []
    pixels = os.urandom(frames * rows * columns)
    for number in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
        dataset.SOPInstanceUID, dataset.StudyInstanceUID = generate_uid(), study_uid
        dataset.SeriesInstanceUID, dataset.InstanceNumber = series_uid, number + 1
        dataset.PatientName, dataset.PatientID, dataset.Modality = "Bench^Only", "bench", "US"
        dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20260101", "120000", ""
        dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, frames
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        syntax = JPEGBaseline8Bit if kind == "jpeg" else ExplicitVRLittleEndian
        if kind == "jpeg":  # nobody decodes it on the way
            size = rows * columns
            pieces = [pixels[n * size : (n + 1) * size] for n in range(frames)]
            dataset.PixelData = encapsulate(pieces)
            dataset["PixelData"].is_undefined_length = True
        else:
            dataset.PixelData = pixels
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
        path = folder / f"{kind}-{number:03}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


Take = dict[tuple[str, str], list["Figure"]]
LIMIT = "TCP, write, fsync"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Receiver]:
    port = free_port()
    command = ["/usr/bin/storescp", *options, "+xa", "-od", str(folder), "-aet", "ANY", str(port)]
    with running(command, port) as pid:
        yield Receiver(port, "ANY", (pid,))


@contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    port = free_port()
    configuration = {
        "HttpPort": free_port(),
        "DicomPort": port,
        "DicomAet": "ANY",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAlwaysAllowStore": True,
        "DicomThreadsCount": 16,
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    with running(
        [shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or "", str(file)], port
    ) as pid:
        yield Receiver(port, "ANY", (pid,))


@contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for(lambda: listens(port), command[0])
            time.sleep(0.2)  # the knock itself is an association to DCMTK
            yield process.pid
        finally:
            process.terminate()


@contextmanager
def node(folder: Path, processes: int = 1) -> Iterator[Receiver]:
    lines = f"processes = {processes}"
    with start_node(folder, roles=("receive",), quiet_seconds=600.0, receive=lines) as started:
        pids = tuple(started.node.pids().values())
        yield Receiver(started.node.port, "DICOM_NODE", pids)


RECEIVERS: dict[str, Callable[[Path], AbstractContextManager[Receiver]]] = {
    REFERENCE: storescp,
    "storescp --fork": lambda folder: storescp(folder, "--fork"),
    "storescp +B --fork, 128k": lambda folder: storescp(folder, "+B", "--fork", "-pdu", "131072"),
    "Orthanc": orthanc,
    "node": node,
    "node, 2 processes": lambda folder: node(folder, processes=2),
}


def usage(receiver: Receiver) -> tuple[float, float]:
    """Processor seconds of the processes so far, and their peak resident MB, both in sum."""
    figures = [usage_of(pid) for pid in receiver.pids]
    return sum(each[0] for each in figures), sum(each[1] for each in figures)


def usage_of(pid: int) -> tuple[float, float]:
    """Of a process and its children, the ended ones too, the peak of the largest."""
    seconds, peak = 0.0, 0.0
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
            status = Path(f"/proc/{each.pid}/status").read_text()
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
        seconds += times.user + times.system
        if each is process:
            seconds += times.children_user + times.children_system
        if "VmHWM:" in status:
            peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) / 1e3)
    return seconds, peak


def send(receiver: Receiver, files: list[Path], case: Case) -> float:
    """Seconds until every sender has ended; each instance goes out under a UID of its own."""
    command = ["/usr/bin/storescu", "-q", "-R", "+II", "-xy" if case.kind == "jpeg" else "-xe"]
    command += ["-aec", receiver.ae_title, "127.0.0.1", str(receiver.port)]
    batches = [files[n :: case.associations] for n in range(case.associations)]
    start = time.monotonic()
    if case.one_each:
        for path in files:
            subprocess.run([*command, path], env=ENVIRONMENT, check=True, capture_output=True)
        return time.monotonic() - start
    senders = [
        subprocess.Popen([*command, *batch], env=ENVIRONMENT, stderr=subprocess.PIPE)
        for batch in batches
    ]
    for sender in senders:
        _, told = sender.communicate()
        assert sender.returncode == 0, told
    return time.monotonic() - start


@dataclass(frozen=True)
class Figure:
    """One case with one receiver in one round."""

    seconds: float
    cpu: float
    peak: float


def measure(receiver: Receiver, files: list[Path], case: Case) -> Figure:
    for pid in receiver.pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the peak so far
    before, _ = usage(receiver)
    seconds = send(receiver, files, case)
    after, peak = usage(receiver)
    return Figure(seconds, after - before, peak)


def raw(folder: Path, files: list[Path], case: Case) -> Figure:
    """The limit: bytes over TCP, written and synced; no DICOM at all."""
    server = socket.create_server(("127.0.0.1", 0))

    def take(number: int, connection: socket.socket) -> None:
        buffer = bytearray(1 << 20)
        view = memoryview(buffer)
        for item in itertools.count():
            header = connection.recv(8, socket.MSG_WAITALL)
            if not header:
                break
            with (folder / f"raw-{number}-{item}").open("wb", buffering=0) as file:
                left = int.from_bytes(header)
                while left:
                    count = connection.recv_into(view[: min(left, len(buffer))])
                    assert count, "the sender has gone"
                    file.write(view[:count])
                    left -= count
                os.fsync(file.fileno())
            connection.sendall(b"k")

    def accept() -> None:
        takers = []
        for number in range(case.associations):
            connection, _ = server.accept()
            takers.append(threading.Thread(target=take, args=(number, connection)))
            takers[-1].start()
        for taker in takers:
            taker.join()

    program = (
        "import socket,sys\ns=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\n"
        "s.setsockopt(socket.IPPROTO_TCP,socket.TCP_NODELAY,1)\n"
        "for p in sys.argv[2:]:\n d=open(p,'rb').read();s.sendall(len(d).to_bytes(8)+d);s.recv(1)\n"
    )
    accepting = threading.Thread(target=accept)
    accepting.start()
    used, start = time.process_time(), time.monotonic()
    senders = []
    for number in range(case.associations):
        batch = files[number :: case.associations]
        senders.append(
            subprocess.Popen([sys.executable, "-c", program, str(server.getsockname()[1]), *batch])
        )
    for sender in senders:
        sender.wait()
    accepting.join()
    seconds = time.monotonic() - start
    server.close()
    return Figure(seconds, time.process_time() - used, 0.0)


def one_round(
    cases: list[Case], running_ones: dict[str, Receiver], files: dict[str, list[Path]], take: Take
) -> None:
    for case in cases:
        sent = files[case.kind][: case.files]
        if not case.one_each:
            with tempfile.TemporaryDirectory() as folder:
                take.setdefault((case.name, LIMIT), []).append(raw(Path(folder), sent, case))
        for name, receiver in running_ones.items():
            take.setdefault((case.name, name), []).append(measure(receiver, sent, case))


def tables(cases: list[Case], take: Take, sizes: dict[str, int]) -> Iterator[Table]:
    for case in cases:
        total = sizes[case.kind] * case.files / 1e6
        table = Table(
            "receiver",
            "MB/s",
            "instances/s",
            f"ratio to {REFERENCE}",
            "CPU s per GB",
            "peak MB",
            title=case.name,
        )
        reference = take.get((case.name, REFERENCE), [])
        for (of, name), figures in take.items():
            if of != case.name:
                continue
            ratios = sorted(
                r.seconds / f.seconds for r, f in zip(reference, figures, strict=False)
            ) or [float("nan")]
            seconds = median(f.seconds for f in figures)
            table.add_row(
                name,
                f"{total / seconds:.0f}",
                f"{case.files / seconds:.0f}",
                f"{median(ratios):.2f} [{ratios[0]:.2f}-{ratios[-1]:.2f}]",
                f"{median(f.cpu for f in figures) / total * 1e3:.2f}",
                f"{max(f.peak for f in figures):.0f}",
            )
        yield table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    only = tuple(filter(None, options.only.split("+")))
    cases = [case for case in CASES if case.name.startswith(only)] if only else []
    cases = cases or [case for case in CASES if not (options.quick and case.associations > 4)]
    if options.quick:
        cases = [replace(case, files=max(case.associations, case.files // 4)) for case in cases]
    names = [name for name in RECEIVERS if name.startswith(only)] if only else []
    console = Console(width=120)
    load = os.getloadavg()[0]
    take: Take = {}
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        files = {
            kind: write_files(root, kind, max(c.files for c in cases if c.kind == kind))
            for kind in {case.kind for case in cases}
        }
        running_ones = {}
        for name in names or RECEIVERS:
            folder = root / name
            folder.mkdir()
            start = time.monotonic()
            with log_into(folder / "log"):
                running_ones[name] = stack.enter_context(RECEIVERS[name](folder))
            seconds, peak = time.monotonic() - start, usage(running_ones[name])[1]
            console.print(f"{name}: ready after {seconds:.1f} s, {peak:.0f} MB")
        kind, first = next((kind, paths[:1]) for kind, paths in files.items())
        for receiver in running_ones.values():
            send(receiver, first, Case("warm-up", 1, kind, 1))
        for _ in range(rounds):
            one_round(cases, running_ones, files, take)
        sizes = {kind: paths[0].stat().st_size for kind, paths in files.items()}
    after = os.getloadavg()[0]
    console.print(f"{rounds} rounds; load of the machine {load:.1f} before, {after:.1f} after")
    for table in tables(cases, take, sizes):
        console.print(table)


if __name__ == "__main__":
    main()
