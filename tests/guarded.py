"""A receiver behind its door, and who stands before it."""

import base64
import contextlib
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dicom_node.access.tls import client_arguments
from dicom_node.access.users import add_user
from dicom_node.settings import Destination, Settings
from tests.certificates import Authority, Pem
from tests.conftest import RunningNode, free_port, peer, start_node, wait_for

PASSCODE = "correct horse battery"
HERE, ELSEWHERE, BEYOND = "127.0.0.1", "127.0.0.3", "127.0.0.9"


@dataclass(frozen=True)
class Guarded:
    """A receiver behind its door, what it logs, and the certificates of the house."""

    node: RunningNode
    log: Path
    web_port: int
    authority: Authority
    ours: Pem
    scanner: Pem

    @property
    def destination(self) -> Destination:
        """The receiver as another node of the house calls it."""
        return replace(
            self.node.destination,
            tls=True,
            ca=str(self.authority.path),
            certificate=str(self.scanner.certificate),
            private_key=str(self.scanner.private_key),
        )

    @property
    def settings(self) -> Settings:
        """With the port that is bound."""
        receive = replace(self.node.settings.receive, port=self.node.node.port)
        return replace(self.node.settings, receive=receive)

    def context(self) -> ssl.SSLContext:
        """A client of the house."""
        arguments = client_arguments(self.destination)
        assert arguments is not None
        return arguments[0]

    def reason(self) -> str:
        """Why the last peer was refused; forgets it."""
        return str(self.line()["reason"])

    def line(self) -> dict[str, Any]:
        """The only line with a reason; forgets it."""

        def told() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in self.log.read_text().splitlines()]
            return [line for line in lines if "reason" in line]

        (line,) = wait_for(told, "the reason in the log")
        os.truncate(self.log, 0)
        return dict(line)

    def ask(self, program: str, *options: str) -> int:
        """The exit status of a program of DCMTK that calls us."""
        where = ["-aec", "DICOM_NODE", HERE, str(self.node.node.port)]
        command = [peer(program), *options, *where]
        return subprocess.run(command, capture_output=True, timeout=60).returncode


@contextlib.contextmanager
def errors_into(path: Path) -> Iterator[None]:
    """What processes that start meanwhile write to standard error, now and later."""
    kept = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def start_guarded(folder: Path, rules: str, tls: bool, crl: bool = False) -> Iterator[Guarded]:
    authority = Authority(folder / "certificates")
    ours, scanner = authority.issue("node", password="secret"), authority.issue("us1")
    (folder / "password").write_text("secret\n")
    if tls:
        rules += f'\n[tls]\n{ours.toml}\nca = "{authority.path}"\n'
        rules += f'key_password_from = "file:{folder / "password"}"\n'
        rules += f'crl = "{authority.revoke()}"\n' if crl else ""
    port, log = free_port(), folder / "log"
    add_user(folder / "data" / "users", "us1", PASSCODE)
    with contextlib.ExitStack() as stack:
        with errors_into(log):
            receive = f"web_port = {port}"
            started = start_node(
                folder, roles=("receive",), quiet_seconds=600.0, receive=receive, more=rules
            )
            node = stack.enter_context(started)
        os.truncate(log, 0)
        yield Guarded(node, log, port, authority, ours, scanner)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]


def post(line: http.client.HTTPConnection, user: str = "", passcode: str = "") -> Answer:
    """POST nothing to STOW-RS: 415 says that the application itself has answered."""
    headers = {"Content-Type": "text/plain"}
    if user:
        words = base64.b64encode(f"{user}:{passcode}".encode()).decode()
        headers["Authorization"] = f"Basic {words}"
    line.request("POST", "/studies", b"", headers)
    answer = line.getresponse()
    answer.read()
    line.close()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()})
