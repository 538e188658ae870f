"""An analysis without a network for the node's tests: splits each frame by depth, in no time or on command.

What a test needs to know or to decide passes through the folder named by DICOM_NODE_TEST_GATE: each run
leaves a file ``ran-...`` with the number of slices, and waits while there is a file ``hold``.
"""

import os
import resource
import signal
import sys
import time
import uuid
from pathlib import Path

import numpy as np

from models import codes
from models.analysis import Refusal
from models.findings import Code, Findings, Measurement, Run, Segment, Segmentation
from models.scan import Scan

LONGEST_HOLD_SECONDS = 60.0


class Plain:
    """Two layers, halved at the middle row; refuses scans of seven slices, and fails on nine.

    Takes too long on 13 slices, 2 GiB on 16, dies on 17, lacks memory on 14, and on 15 unless it spares.
    """

    name = "plain"
    version = "1"
    spared = False

    def spare(self) -> None:
        self.spared = True

    def prepare(self, device: str, threads: int) -> None:
        # As some libraries do; the node must not take it for the word of a role.
        sys.stdout.write("Loading checkpoint shards\n")
        sys.stdout.flush()

    def accepts(self, scan: Scan) -> bool:
        return "b-mode" in scan.channels

    def run(self, scan: Scan) -> Findings:
        slices, rows, columns = scan.shape
        if slices == 7:
            raise Refusal("seven slices are one too many")
        if slices == 9:
            raise ZeroDivisionError("what no sender and no archive shall read")
        time.sleep(float(os.environ.get("DICOM_NODE_TEST_SECONDS", "0")))
        _pass_gate(slices)
        if slices == 13:
            time.sleep(LONGEST_HOLD_SECONDS)
        if slices == 17:
            os.kill(os.getpid(), signal.SIGKILL)
        if slices == 16:
            np.ones(1 << 28)  # 2 GiB, written: what the kernel allows ends it
        if slices == 14 or (slices == 15 and not self.spared):
            _lack_memory()
        labelmap = np.ones((slices, rows, columns), dtype=np.uint8)
        labelmap[:, rows // 2 :] = 2
        segments = tuple(
            Segment(number, label, codes.TISSUE, kind, codes.LUMBAR_REGION, (200, 100, 50))
            for number, label, kind in ((1, "upper", codes.SKIN), (2, "lower", codes.FAT))
        )
        measured = tuple(
            Measurement(
                Code("000000", "DCM", "Nonsense") if slices == 11 else codes.THICKNESS,
                rows / 2 * scan.spacing_mm[1],
                codes.MM,
                segment=number,
                derivation=codes.MEAN,
            )
            for number in (1, 2)
        )
        run = Run(self.name, self.version, "0" * 64)
        return Findings(Segmentation(segments, labelmap), (), (), measured, (), run)


def _lack_memory() -> None:
    """A limit of this process's address space a little above what it has, and far more asked for."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    np.ones(1 << 30)


def _pass_gate(slices: int) -> None:
    if "DICOM_NODE_TEST_GATE" not in os.environ:
        return
    gate = Path(os.environ["DICOM_NODE_TEST_GATE"])
    (gate / f"ran-{time.time_ns()}-{uuid.uuid4().hex}").write_text(str(slices))
    end = time.monotonic() + LONGEST_HOLD_SECONDS
    while (gate / "hold").exists() and time.monotonic() < end:
        time.sleep(0.02)


analysis = Plain()
