"""A study whose picture is its own truth: the gray of a pixel says which layer it is, a mark which frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.report import write_objects
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from dicom_node.study import Outcome, Study
from models.findings import Findings
from models.scan import Geometry, Scan
from tests.report_phantom import make_findings, write_source

SHAPE = (7, 94, 132)
"""A frame of bits fills an odd number of bytes, and so do the 35 frames that are not empty."""
EMPTY = 5
SPACING_MM = (0.5, 0.25, 0.25)
STEP = 30
"""Gray levels from one layer to the next; 0 and 255 are in every frame, so that no window changes them."""


@dataclass(frozen=True)
class ViewerCase:
    """What was written, and what a viewer has to show of it."""

    study: Study
    findings: Findings
    sources: tuple[Path, ...]
    segmentation: Path
    results: tuple[Path, ...]

    @property
    def labelmap(self) -> NDArray[np.uint8]:
        return self.findings.segmentation.labelmap

    def place(self, sop_instance_uid: str, frame: int) -> int:
        """The slice of a source frame."""
        source = self.study.acquisitions[0].sources[0]
        uids = [str(header.SOPInstanceUID) for header in source.headers()]
        places = {
            (uids[item.instance], item.number or 1): n for n, item in enumerate(source.frames)
        }
        return places[sop_instance_uid, frame]


def make_viewer_case(
    folder: Path, form: str, objects: tuple[str, ...] = ("SEG", "SR", "PM", "SC")
) -> ViewerCase:
    """A study in one of the scanner's forms with the results of an analysis that found the truth."""
    wanted = (Destination("viewer", objects=objects),)
    labelmap = layers()
    study = write_source(folder / "source", picture(labelmap), Style(form=form))
    findings = make_findings(labelmap, SPACING_MM)
    written = write_objects(study, (Outcome(0, "layer", findings),), folder, wanted)
    (mask,) = (item.path for item in written if item.kind == "segmentation")
    sources = study.acquisitions[0].sources[0].paths
    return ViewerCase(study, findings, sources, mask, tuple(item.path for item in written))


def layers() -> NDArray[np.uint8]:
    """Six sloping layers on six of seven slices, one on five, unlike under any flip or exchange of axes."""
    slices, rows, columns = np.indices(SHAPE)
    depth = rows - 6 - 2.2 * slices - 0.15 * columns
    numbers = np.digitize(depth, [0, 7, 18, 25, 37, 44, 62])
    numbers[(numbers == 7) | (columns > 100)] = 0
    numbers[EMPTY] = 0
    numbers[6, numbers[6] == 4] = 0
    return numbers.astype(np.uint8)


def picture(labelmap: NDArray[np.uint8]) -> Scan:
    """The labels as gray levels; right of them a white mark, the lower the later the slice."""
    gray = labelmap.astype(np.float32) * STEP + STEP
    for position in range(SHAPE[0]):
        gray[position, :, 108:120] = 0
        gray[position, 8 + 12 * position : 16 + 12 * position, 108:120] = 255
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = np.array([-1.0, -1.0, 1.0]) * SPACING_MM
    affine[:, 3] = (-12.5, 80.25, 34.0, 1.0)
    geometry = Geometry("measured", "measured", "measured")
    return Scan(gray[None], ("b-mode",), ("1",), np.ones(SHAPE, bool), affine, geometry)
