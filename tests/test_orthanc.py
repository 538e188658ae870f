"""Orthanc, an archive that others wrote, takes the study and its results and gives them back unchanged."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.deliver import deliver, echo
from dicom_node.demo import write_phantom
from dicom_node.orders import PhantomOrder
from dicom_node.process import process
from dicom_node.settings import Destination, Settings
from tests.conftest import peer


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: its DICOM address and its REST interface."""

    destination: Destination
    rest: str

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.rest}/{path}", timeout=10) as answer:
            return json.loads(answer.read())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    folder = tmp_path_factory.mktemp("orthanc")
    http, dicom = free_port(), free_port()
    configuration = {
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowMove": True,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([program, str(folder / "orthanc.json")], stderr=log, stdout=log) as server,
    ):
        running = Orthanc(
            Destination("orthanc", "ORTHANC", "127.0.0.1", dicom), f"http://127.0.0.1:{http}"
        )
        wait_until_it_answers(running, folder / "log")
        yield running
        server.terminate()


def wait_until_it_answers(orthanc: Orthanc, log: Path) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            orthanc.get("system")
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        else:
            return


@pytest.mark.peer
@pytest.mark.parametrize("form", ["enhanced", "multiframe", "frames"])
def test_orthanc_takes_source_and_results(form: str, orthanc: Orthanc, tmp_path: Path) -> None:
    sources = write_phantom(
        tmp_path, PhantomOrder(form=form, shear_wave=True, seed=len(form), size="8x128x96")
    )
    assert process([tmp_path / "dicom"], tmp_path / "out", Settings()) == 0
    results = sorted((tmp_path / "out").glob("*.dcm"))
    echo(orthanc.destination, "DICOM_NODE")

    deliver([*sources, *results], orthanc.destination, "DICOM_NODE")

    study_uid = str(dcmread(results[0], stop_before_pixels=True).StudyInstanceUID)
    studies = [orthanc.get(f"studies/{key}") for key in orthanc.get("studies")]
    (study,) = [item for item in studies if item["MainDicomTags"]["StudyInstanceUID"] == study_uid]
    series = [orthanc.get(f"series/{key}") for key in study["Series"]]
    assert {"SEG", "SR", "US"} <= {item["MainDicomTags"]["Modality"] for item in series}
    for path in results:
        sent = dcmread(path)
        (key,) = _find(orthanc, str(sent.SOPInstanceUID))
        stored = tmp_path / "stored.dcm"
        with urllib.request.urlopen(f"{orthanc.rest}/instances/{key}/file", timeout=30) as answer:
            stored.write_bytes(answer.read())
        assert dcmread(stored) == sent
    for sent, moved in zip(results, _move(orthanc, study_uid, results, tmp_path), strict=True):
        assert dcmread(moved) == dcmread(sent), sent.name


def _move(
    orthanc: Orthanc, study_uid: str, results: Sequence[Path], folder: Path
) -> Iterator[Path]:
    """The same objects, as DCMTK's storescp has them from Orthanc after a C-MOVE of the study."""
    port, moved = free_port(), folder / "moved"
    moved.mkdir()
    workstation = json.dumps(["WORKSTATION", "127.0.0.1", port]).encode()
    urllib.request.urlopen(
        urllib.request.Request(
            f"{orthanc.rest}/modalities/workstation", data=workstation, method="PUT"
        ),
        timeout=10,
    ).close()
    receive = [peer("storescp"), "-pm", "+xa", "+B", "-od", moved, "-aet", "WORKSTATION", str(port)]
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_uid}"]
    archive = ["127.0.0.1", str(orthanc.destination.port)]
    with subprocess.Popen(receive, stderr=subprocess.DEVNULL) as workstation_scp:
        try:
            wait_until_it_listens(port)
            done = subprocess.run(
                [peer("movescu"), "-S", "-aec", "ORTHANC", "-aem", "WORKSTATION", *keys, *archive],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        finally:
            workstation_scp.terminate()
    by_uid = {str(dcmread(path, force=True).SOPInstanceUID): path for path in moved.iterdir()}
    for path in results:
        yield by_uid[str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)]


def wait_until_it_listens(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, f"nothing listens on {port}"
            time.sleep(0.05)
        else:
            return


def _find(orthanc: Orthanc, sop_uid: str) -> list[str]:
    request = urllib.request.Request(
        f"{orthanc.rest}/tools/lookup", data=sop_uid.encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return [item["ID"] for item in json.loads(answer.read()) if item["Type"] == "Instance"]
