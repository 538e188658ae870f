"""An Orthanc with DICOMweb, the archive that a viewer reads from."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.settings import Destination
from tests.conftest import free_port
from tests.test_orthanc import Orthanc, wait_until_it_answers

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@contextmanager
def dicomweb_archive(folder: Path, missing: Callable[[str], None]) -> Iterator[Orthanc]:
    """A running archive; calls ``missing`` with a sentence where Orthanc or its plugin is not installed."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None or not PLUGIN.exists():
        missing("Orthanc with DICOMweb is not installed (apt-get install orthanc-dicomweb)")
    http, dicom = free_port(), free_port()
    configuration = {
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowEcho": True,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([program, folder / "orthanc.json"], stderr=log, stdout=log) as server,
    ):
        destination = Destination("orthanc", "ORTHANC", "127.0.0.1", dicom)
        running = Orthanc(destination, f"http://127.0.0.1:{http}")
        try:
            wait_until_it_answers(running, folder / "log")
            yield running
        finally:
            server.terminate()
