"""A study in each of the scanner's forms with its results in each of the node's, for others to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.report import Written, write_objects
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from dicom_node.study import Outcome, Study
from tests.report_phantom import make_case, make_findings, write_source
from tests.viewer_study import SPACING_MM, layers, picture

FORMS_OF_MASK = (
    Destination("sparse", objects=("SEG", "SR", "PM")),
    Destination("dense", objects=("SEG",), seg_frames="dense"),
    Destination("companion", objects=("SEG", "SR"), companion=True),
    Destination("labelmap", objects=("SEG",), seg="labelmap"),
)
PACKED = (
    Destination("deflated", objects=("SEG", "PDF"), encoding="deflated"),
    Destination("j2k", objects=("SEG", "SC"), encoding="j2k"),
)
"""What does not depend on the form of the source."""


@dataclass(frozen=True)
class ReaderCase:
    """What was written of a study whose labels are known."""

    study: Study
    labelmap: NDArray[np.uint8]
    written: Sequence[Written]

    @property
    def sources(self) -> list[Path]:
        """In the order of the slices."""
        return list(self.study.acquisitions[0].sources[0].paths)

    @property
    def knows_step(self) -> bool:
        """Whether the distance of the frames is known; where not, the names of the layers say so."""
        return self.study.acquisitions[0].scan.geometry.frame_step_known

    def paths(self, destination: str, kind: str) -> list[Path]:
        """What one destination gets of a kind."""
        return [item.path for item in self.written if destination in item.due and item.kind == kind]

    def shown(self, destination: str) -> list[Path]:
        """The images that this destination's results lie on."""
        return self.paths(destination, "companion") or self.sources


def write_for_readers(folder: Path, form: str) -> ReaderCase:
    """All forms of results on one form of source; a frame fills whole bytes, as OHIF needs."""
    wanted = FORMS_OF_MASK + (PACKED if form == "enhanced" else ())
    labelmap = layers()
    study = write_source(folder / "source", picture(labelmap), Style(form=form))
    outcomes = (Outcome(0, "layer", make_findings(labelmap, SPACING_MM)),)
    return ReaderCase(study, labelmap, write_objects(study, outcomes, folder, wanted))


def write_odd_size(folder: Path) -> ReaderCase:
    """37 x 33 pixels: a frame of bits ends within a byte."""
    study, outcomes = make_case(folder / "source")
    labelmap = outcomes[0].findings.segmentation.labelmap
    written = write_objects(study, outcomes, folder, FORMS_OF_MASK)
    return ReaderCase(study, labelmap, written)
