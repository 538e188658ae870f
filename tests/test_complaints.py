"""What users of such nodes complain of, where no other test would notice: mirrored masks, memory, leaks."""

import itertools
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.deliver import deliver, echo
from dicom_node.report import write_objects
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from dicom_node.study import Outcome
from tests.conftest import RunningNode, make_study, start_node, wait_for
from tests.report_phantom import SPACING_MM, make_findings, make_scan, write_source
from tests.test_receive_stow import changed, peak_mib

ORIENTATIONS = [
    np.diag(signs) @ np.eye(3)[list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
BLOB = (slice(1, 5), slice(4, 9), slice(5, 17))
"""Off the middle of every axis."""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, roles=("receive",), quiet_seconds=600.0) as node:
        yield node


@pytest.mark.parametrize("number", range(0, len(ORIENTATIONS), 5))
def test_a_mask_is_where_its_voxels_are_in_the_patient(tmp_path: Path, number: int) -> None:
    """Complaint 6, mirrored masks: by the geometry of the SEG alone, a bright block is in its place."""
    affine = np.eye(4)
    affine[:3, :3] = ORIENTATIONS[number] * SPACING_MM
    affine[:3, 3] = (-12.5, 80.25, 34.0)
    voxels = make_scan().voxels.copy()
    voxels[0][BLOB] = 250
    scan = replace(make_scan(), affine=affine, voxels=voxels)
    study = write_source(tmp_path / "source", scan, Style(form="enhanced"))
    found = study.acquisitions[0].scan
    findings = make_findings((found.channel("b-mode") == 250).astype(np.uint8))
    wanted = [Destination("archive", objects=("SEG",))]
    (item,) = write_objects(study, (Outcome(0, "layer", findings),), tmp_path, wanted)
    middle = [(each.start + each.stop - 1) / 2 for each in BLOB]
    expected_mm = (affine @ [*middle, 1])[:3]
    assert np.abs(center_mm(dcmread(item.path)) - expected_mm).max() < 0.01 * min(SPACING_MM)


def center_mm(mask: Dataset) -> NDArray[np.float64]:
    """The middle of all voxels of segment 1, in the patient."""
    shared = mask.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    points = []
    frames = mask.pixel_array.reshape(-1, mask.Rows, mask.Columns)
    for group, frame in zip(mask.PerFrameFunctionalGroupsSequence, frames, strict=True):
        assert group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for row, column in np.argwhere(frame):
            points.append(place + column * column_mm * cosines[:3] + row * row_mm * cosines[3:])
    return np.mean(points, axis=0)


def test_a_large_object_passes_through_little_memory(receiver: RunningNode, tmp_path: Path) -> None:
    """Complaint 16: 96 MiB by C-STORE; what is held at a time is a PDU."""
    path = make_study(tmp_path / "sent", seed=95)[0]
    receiver.send(path)
    frames, large = 96, tmp_path / "large.dcm"
    pixels = bytes(frames << 20)
    large.write_bytes(
        changed(path, Rows=1024, Columns=1024, NumberOfFrames=frames, PixelData=pixels)
    )
    before = peak_mib(receiver)
    (receipt,) = deliver([large], receiver.destination, "SCANNER")
    assert receipt.status == 0x0000
    assert peak_mib(receiver) - before < 24
    assert not any((receiver.data / "incoming").iterdir())


def test_associations_and_probes_leave_nothing_behind(receiver: RunningNode) -> None:
    """Complaint 18: neither threads nor descriptors grow with what came and went."""
    process = psutil.Process(receiver.node.pid("receive"))

    def come_and_go(times: int) -> None:
        for _ in range(times):
            echo(receiver.destination, "SCANNER")
            socket.create_connection(("127.0.0.1", receiver.node.port)).close()

    come_and_go(5)
    wait_for(lambda: not process.net_connections("tcp4")[1:], "closed connections")
    before = process.num_threads(), process.num_fds()

    def is_as_before() -> bool:
        return process.num_threads() <= before[0] + 2 and process.num_fds() <= before[1] + 2

    for _ in range(12):  # an address may have 32 at once, and one that was closed lingers a little
        come_and_go(5)
        wait_for(is_as_before, "the end of all threads and descriptors")
