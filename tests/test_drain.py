"""Asked to stop, a node takes nothing new, finishes what is in hand, and leaves the rest for later."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, build_context

from dicom_node import jobs
from dicom_node.settings import load
from tests.conftest import ROOT, Pacs, make_study, study_uid_of, wait_for

CONFIG = """
[node]
data_dir = "{folder}/data"
analyses = ["tests.plain_analysis:analysis"]
drain_seconds = 60
[receive]
port = 0
quiet_seconds = 0.2
release_seconds = 0.2
[[destinations]]
name = "pacs"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {port}
objects = ["SEG", "SR"]
"""


def serve(config: Path, gate: Path) -> tuple[subprocess.Popen[str], int]:
    """A node as an administrator starts it, and its port."""
    environment = dict(os.environ) | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DICOM_NODE_TEST_GATE": str(gate),
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "dicom_node", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["port"]


def test_a_node_that_is_asked_to_stop_finishes_what_is_in_hand(pacs: Pacs, tmp_path: Path) -> None:
    gate, config = tmp_path / "gate", tmp_path / "node.toml"
    gate.mkdir()
    config.write_text(CONFIG.format(folder=tmp_path, port=pacs.destination.port))
    settings = load(config, {})

    def state(uid: str) -> str:
        return jobs.show_job(settings, uid)[0].state

    process, port = serve(config, gate)
    (gate / "hold").touch()
    studies = [make_study(tmp_path / str(seed), seed=seed, slices=seed) for seed in (2, 3)]
    contexts = [build_context(dcmread(studies[0][0]).SOPClassUID)]

    def associate(port: int):  # type: ignore[no-untyped-def] # pynetdicom's
        return AE("SCANNER").associate("127.0.0.1", port, contexts, "DICOM_NODE")

    def listens() -> bool:
        probe = associate(port)
        if probe.is_established:
            probe.release()  # else the node would wait for it
        return bool(probe.is_released)

    uids = [study_uid_of(paths[0]) for paths in studies]
    association = associate(port)
    for path in studies[0]:
        assert association.send_c_store(path).Status == 0x0000
    association.release()
    wait_for(lambda: list(gate.glob("ran-*")), "an analysis")
    association = associate(port)
    assert association.send_c_store(studies[1][0]).Status == 0x0000

    process.send_signal(signal.SIGTERM)
    wait_for(lambda: not listens(), "the end of listening")
    process.send_signal(signal.SIGTERM)  # once more changes nothing
    for path in studies[1][1:]:
        assert association.send_c_store(path).Status == 0x0000, "an open association is finished"
    association.release()
    (gate / "hold").unlink()
    assert process.wait(60) == 0
    process.communicate()
    assert state(uids[0]) == "analyzed", "the analysis in hand was finished, and recorded"
    assert state(uids[1]) == "received"
    assert jobs.show_job(settings, uids[1])[0].instances == 3
    assert pacs.kept == {}

    process, _ = serve(config, gate)
    for uid in uids:
        wait_for(lambda uid=uid: state(uid) == "delivered", "the rest, after the next start")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    process.communicate()
    assert len(list(gate.glob("ran-*"))) == 2, "nothing was analyzed again"
