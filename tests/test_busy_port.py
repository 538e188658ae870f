"""A port that is held is said as such, and nothing else is blamed; failures are no mere notes in the log."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from tests.conftest import free_port, wait_for


def serve(folder: Path, receive: str, more: str = "", *roles: str) -> list[str]:
    """The command of a node."""
    folder.mkdir(exist_ok=True)
    config = folder / "node.toml"
    node = f'[node]\ndata_dir = "{folder / "data"}"\nanalyses = ["tests.plain_analysis:analysis"]\n'
    config.write_text(f"{node}[receive]\n{receive}\n{more}\n")
    command = [sys.executable, "-P", "-m", "dicom_node", "serve", "--config", str(config)]
    return [*command, *(word for role in roles for word in ("--role", role))]


def lines(log: str) -> list[dict]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    ("held", "roles"),
    [("receive.port", ()), ("receive.web_port", ("receive",)), ("web.port", ("web",))],
)
def test_a_second_node_on_a_port_says_which(
    held: str, roles: tuple[str, ...], tmp_path: Path
) -> None:
    ports = {name: free_port() for name in ("receive.port", "receive.web_port", "web.port")}
    receive = f"port = {ports['receive.port']}\nweb_port = {ports['receive.web_port']}"
    command = serve(tmp_path, receive, f"[web]\nport = {ports['web.port']}", *roles)
    with socket.create_server(("127.0.0.1", ports[held])):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    said = f"cannot listen on 127.0.0.1:{ports[held]}: Address already in use; who holds the port"
    assert said in done.stderr.splitlines()[-1]
    failed = [each for each in lines(done.stderr) if each["event"] == "role failed"]
    assert {(each["level"], each["reason"].startswith(said)) for each in failed} == {
        ("error", True)
    }
    assert "room" not in done.stderr
    assert "disk" not in done.stderr


def test_what_keeps_a_scanner_or_a_role_out_is_a_warning_or_an_error(tmp_path: Path) -> None:
    port = free_port()
    rules = '[access]\nnetworks = ["127.0.0.1"]\n[[access.callers]]\nae_title = "US1"'
    command = serve(tmp_path, f"port = {port}", rules, "receive")
    log = tmp_path / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as node,
    ):
        assert node.stdout
        pid = json.loads(node.stdout.readline())["roles"]["receive"]
        entity = AE("NOBODY")
        entity.add_requested_context(Verification)
        assert entity.associate("127.0.0.1", port, ae_title="DICOM_NODE").is_rejected
        assert entity.associate("127.0.0.1", port, ae_title="OTHER").is_rejected
        elsewhere = ("127.0.0.2", 0)
        with socket.create_connection(("127.0.0.1", port), source_address=elsewhere) as line:
            line.recv(1)
        for said in ("association rejected", "connection refused"):
            wait_for(lambda said=said: said in log.read_text(), said)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "role died" in log.read_text(), "the parent's word")
        node.terminate()
    levels = {each["event"]: each["level"] for each in lines(log.read_text())}
    wanted = {"association rejected": "warning", "connection refused": "warning"}
    assert wanted | {"role died": "error"} == {
        name: levels[name] for name in (*wanted, "role died")
    }
