"""The sentence: a study goes in by C-STORE, and SEG, SR and map come out by C-STORE, for every input form.

DCMTK is the scanner and the archive where it is installed; our own SCU and SCP are where it is not.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, generate_uid

from dicom_node.deliver import deliver, echo
from dicom_node.jobs import list_jobs, show_job
from dicom_node.receive.archive import archive
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Destination, Settings, load
from dicom_node.study import Acquisition, Study, load_outcomes
from models.phantom import PhantomRequest, synthesize

DCMTK = {
    name: shutil.which(name, path="/usr/bin:/usr/local/bin") for name in ("storescu", "storescp")
}
SYNTAX = {
    "jpeg": "-xy",
    "jpeg-lossless": "-xs",
    "rle": "-xr",
    "j2k-lossless": "-xv",
    "explicit": "-xe",
}
FORMS = [
    ("enhanced", "explicit", True),
    ("enhanced-apex", "rle", False),
    ("multiframe", "jpeg", False),
    ("frames", "jpeg-lossless", True),
    ("frames-plain", "j2k-lossless", False),
]


ONCE = pytest.mark.parametrize("peers", ["own"], indirect=True)
"""What the node says, whoever is beside it."""


@dataclass(frozen=True)
class Place:
    """A running node, and the folder of the archive it delivers to."""

    settings: Settings
    archived: Path


@dataclass(frozen=True)
class Peers:
    """How to push a folder to a node, and how to run an archive that keeps files in a folder."""

    push: Callable[[Path, Destination, str], None]
    archive: Callable[[Path], Iterator[int]]


def dcmtk_push(folder: Path, node: Destination, encoding: str) -> None:
    command = [DCMTK["storescu"], "-aet", "SCANNER", "-aec", node.ae_title, "-R", SYNTAX[encoding]]
    command += ["+sd", "+r", node.host, str(node.port), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def dcmtk_archive(folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        DCMTK["storescp"],
        "-aet",
        "PACS",
        "-od",
        str(folder),
        "+B",
        "-fe",
        ".dcm",
        str(port),
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: _listens(port), 20, "storescp to listen")
        yield port
        process.terminate()


def own_push(folder: Path, node: Destination, encoding: str) -> None:
    deliver(sorted(folder.rglob("*.dcm")), node, "SCANNER")


def own_archive(folder: Path) -> Iterator[int]:
    with archive(folder, "PACS") as running:
        yield running.port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module", params=["own", "dcmtk"])
def peers(request: pytest.FixtureRequest) -> Peers:
    if request.param == "own":
        return Peers(own_push, own_archive)
    if not all(DCMTK.values()):
        pytest.skip("DCMTK's storescu and storescp are not installed (apt-get install dcmtk)")
    return Peers(dcmtk_push, dcmtk_archive)


@pytest.fixture(scope="module")
def place(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`dicom-node serve` with SQLite and one archive, as a hospital runs it."""
    folder = tmp_path_factory.mktemp("node")
    archived = folder / "archived"
    archived.mkdir()
    for port in peers.archive(archived):
        config = folder / "node.toml"
        config.write_text(
            f"[node]\ndata_dir = {json.dumps(str(folder / 'data'))}\n"
            "[receive]\nport = 0\nquiet_seconds = 0.5\n"
            f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
            "[[sources]]\nmatch = { ae_title = 'SCANNER' }\nframe_spacing_mm = 0.5\n"
        )
        command = [
            str(Path(sys.executable).with_name("dicom-node")),
            "serve",
            "--config",
            str(config),
        ]
        with (
            (folder / "node.log").open("w") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as node,
        ):
            assert node.stdout is not None
            ready = json.loads(node.stdout.readline())
            yield Place(load(config, {"DICOM_NODE__RECEIVE__PORT": str(ready["port"])}), archived)
            node.terminate()
        assert node.returncode == 0


@pytest.mark.peer
@pytest.mark.parametrize(
    ("form", "encoding", "shear_wave"), FORMS, ids=[form for form, *_ in FORMS]
)
def test_the_sentence(
    form: str, encoding: str, shear_wave: bool, peers: Peers, place: Place, tmp_path: Path
) -> None:
    request = PhantomRequest(shape=(12, 128, 112), shear_wave=shear_wave)
    phantom = synthesize(500 + len(form), request)
    write_study(phantom.scan, tmp_path, Style(form=form, encoding=encoding, seed=len(form)))
    study_uid = dcmread(next(tmp_path.rglob("*.dcm")), stop_before_pixels=True).StudyInstanceUID
    settings = place.settings
    node = Destination("node", settings.node.ae_title, "127.0.0.1", settings.receive.port)

    peers.push(tmp_path, node, encoding)
    wait_for(
        lambda: _state(settings, study_uid).startswith(("delivered", "failed", "refused")),
        120,
        form,
    )
    assert _state(settings, study_uid) == "delivered"

    objects = [dcmread(path) for path in place.archived.glob("*.dcm")]
    mine = {item.Modality: item for item in objects if item.StudyInstanceUID == study_uid}
    assert {"SEG", "SR"} <= set(mine)
    work = settings.node.data_dir / "work" / study_uid / "0"
    study, (outcome,) = Study.load(work), load_outcomes(work)
    assert outcome.findings is not None
    (acquisition,) = study.acquisitions
    assert ("shear-wave-speed" in acquisition.scan.channels) == shear_wave
    labelmap = outcome.findings.segmentation.labelmap
    assert set(range(1, 7)) <= set(np.unique(labelmap))
    np.testing.assert_array_equal(_read_back(mine["SEG"], acquisition), labelmap)
    assert mine["SEG"].SOPInstanceUID in mine["SR"].to_json()


def _black(header: Dataset) -> None:
    header.PixelData = bytes(len(header.PixelData))


def _without_spacing(header: Dataset) -> None:
    del header.SequenceOfUltrasoundRegions


def _one_frame(header: Dataset) -> None:
    header.PixelData = header.PixelData[: header.Rows * header.Columns]
    header.NumberOfFrames = 1


def _undecodable(header: Dataset) -> None:
    header.file_meta.TransferSyntaxUID = JPEG2000Lossless
    header["PixelData"] = DataElement("PixelData", "OB", encapsulate([b"not a code stream"] * 8))
    header["PixelData"].is_undefined_length = True


@ONCE
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_black, "blank"),
        (_without_spacing, "spacing"),
        (_one_frame, "frame"),
        (_undecodable, "decoded"),
    ],
)
def test_what_cannot_be_analyzed_is_refused_with_a_reason(
    spoil: Callable[[Dataset], None], reason: str, place: Place, tmp_path: Path
) -> None:
    phantom = synthesize(600, PhantomRequest(shape=(8, 128, 112)))
    (path,) = write_study(phantom.scan, tmp_path, Style(form="multiframe", seed=len(reason)))
    header = dcmread(path)
    header.StudyInstanceUID = generate_uid()
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    spoil(header)
    header.save_as(path)
    settings, study_uid = place.settings, str(header.StudyInstanceUID)
    node = Destination("node", settings.node.ae_title, "127.0.0.1", settings.receive.port)

    deliver([path], node, "OTHER")
    wait_for(lambda: _state(settings, study_uid) not in ("", "received", "assembled"), 60, reason)

    (job,) = show_job(settings, study_uid)
    assert job.state == "refused"
    assert reason in job.reason
    arrived = [dcmread(item) for item in place.archived.glob("*.dcm")]
    assert {item.Modality for item in arrived if item.StudyInstanceUID == study_uid} <= {"SR"}
    echo(node, "OTHER")


@ONCE
def test_jobs_are_listed_and_shown_by_the_command(place: Place, tmp_path: Path) -> None:
    phantom = synthesize(700, PhantomRequest(shape=(4, 96, 96)))
    (path,) = write_study(phantom.scan, tmp_path, Style(form="multiframe", seed=700))
    study_uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    settings = place.settings
    deliver(
        [path], Destination("node", "DICOM_NODE", "127.0.0.1", settings.receive.port), "SCANNER"
    )
    wait_for(lambda: _state(settings, study_uid) == "delivered", 60, "delivery")

    def jobs(*arguments: str) -> str:
        config = str(settings.node.data_dir.with_name("node.toml"))
        command = [str(Path(sys.executable).with_name("dicom-node")), "jobs", *arguments]
        done = subprocess.run([*command, "--config", config], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert study_uid in jobs("list")
    (listed,) = [job for job in json.loads(jobs("list", "--json")) if job["study"] == study_uid]
    assert listed["state"] == "delivered"
    assert set(listed["seconds"]) == {"assemble", "analyze", "report", "deliver"}
    shown = jobs("show", study_uid)
    assert re.search(r"^state +delivered$", shown, re.MULTILINE)
    assert re.search(r"^to pacs +delivered: 4 of 4 objects", shown, re.MULTILINE)


def _state(settings: Settings, study_uid: str) -> str:
    return next((job.state for job in list_jobs(settings) if job.study == study_uid), "")


def _read_back(segmentation: Dataset, acquisition: Acquisition) -> np.ndarray:
    """The labelmap, frame by frame, placed by each frame's reference to its source frame."""
    source = acquisition.sources[0]
    headers = source.headers()
    slices = {
        (headers[frame.instance].SOPInstanceUID, frame.number): number
        for number, frame in enumerate(source.frames)
    }
    pixels = segmentation.pixel_array
    labelmap = np.zeros(acquisition.scan.shape, np.uint8)
    for frame, groups in zip(pixels, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        key = (reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber"))
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        target = labelmap[slices[key]]
        assert not (target[frame > 0]).any(), "layers overlap"
        target[frame > 0] = number
    return labelmap
