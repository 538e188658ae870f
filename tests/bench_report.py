"""Processor seconds and size of what is sent, as a list: ``make bench``. One run each; machines are noisy.

The layers are smooth and made up, so that real masks compress less. One size alone:
``python -m tests.bench_report 128x256x256``.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from dicom_node.report import write_objects
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from dicom_node.study import Outcome
from models import codes
from models.findings import Attribution, Findings, Run, Segmentation
from models.scan import Geometry, Scan
from tests.report_phantom import SEGMENTS, write_source

SIZES = ("128x256x256", "256x512x512")
FORMS = {
    "SEG binary": Destination(objects=("SEG",)),
    "SEG binary, deflated": Destination(objects=("SEG",), encoding="deflated"),
    "SEG binary, JPEG 2000": Destination(objects=("SEG",), encoding="j2k"),
    "SEG label map": Destination(objects=("SEG",), seg="labelmap"),
    "SEG label map, JPEG 2000": Destination(objects=("SEG",), seg="labelmap", encoding="j2k"),
    "SEG binary and SR": Destination(objects=("SEG", "SR")),
    "maps": Destination(objects=("PM",)),
    "maps, deflated": Destination(objects=("PM",), encoding="deflated"),
    "pages": Destination(objects=("SC",)),
    "pages, JPEG 2000": Destination(objects=("SC",), encoding="j2k"),
    "PDF": Destination(objects=("PDF",)),
    "companion and SEG": Destination(objects=("SEG",), companion=True),
}


def make(shape: tuple[int, int, int]) -> tuple[Scan, Findings]:
    """A scan of waving layers, and what an analysis would say of it."""
    slices, rows, columns = shape
    wave = 0.02 * rows * np.sin(np.arange(columns) / columns * 6 + np.arange(slices)[:, None] / 20)
    edges = np.array([0.05, 0.12, 0.3, 0.33, 0.5, 0.53, 0.97]) * rows
    depth = np.arange(rows)[None, :, None] - wave[:, None, :]
    labelmap = np.digitize(depth.astype(np.float32), edges).astype(np.uint8)
    labelmap[labelmap == 7] = 0
    gray = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8).astype(np.float32)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 0.5, 0.15, 0.15, 1.0
    geometry = Geometry("measured", "measured", "measured")
    scan = Scan(gray[None], ("b-mode",), ("1",), np.ones(shape, bool), affine, geometry)
    saliency = (labelmap / 8).astype(np.float32)
    attribution = Attribution(codes.SALIENCY, "bench", "bench", saliency)
    run = Run("bench", "1", "0" * 64)
    return scan, Findings(Segmentation(SEGMENTS, labelmap), (), (attribution,), (), (), run)


def main(sizes: list[str]) -> None:
    console = Console(highlight=False)
    for size in sizes or SIZES:
        slices, rows, columns = map(int, size.split("x"))
        console.print(f"{size}, written and checked: processor seconds, MB")
        with tempfile.TemporaryDirectory() as folder:
            scan, findings = make((slices, rows, columns))
            study = write_source(Path(folder) / "source", scan, Style(form="enhanced"))
            for name, wish in FORMS.items():
                start = time.process_time()
                outcome = Outcome(0, "bench", findings)
                written = write_objects(study, [outcome], Path(folder), [wish])
                seconds = time.process_time() - start
                total = sum(item.path.stat().st_size for item in written) / 1e6
                console.print(f"  {name:26} {seconds:7.2f} {total:9.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
