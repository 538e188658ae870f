"""The viewers and packages that tests/viewer/fetch fetches, and how to run a program with them."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

PROGRAMS = Path(__file__).parent / "viewer"
REQUIRE_VIEWER = "DICOM_NODE_REQUIRE_VIEWER"
"""Set where everything was fetched: a missing part is then a failure."""
PATIENCE_SECONDS = 600


def missing(what: str) -> NoReturn:
    if os.environ.get(REQUIRE_VIEWER):
        pytest.fail(what)
    pytest.skip(what)


def node(script: str, *arguments: object) -> None:
    """Run one of the JavaScript programs."""
    program = shutil.which("node")
    if program is None or not (PROGRAMS / "node_modules").is_dir():
        missing("Node.js or its packages are missing (tests/viewer/fetch)")
    command = [program, PROGRAMS / script, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]


def built(name: str) -> Path:
    """The folder of a viewer as its makers built it."""
    dist = PROGRAMS / name / "package" / "dist"
    if not (dist / "index.html").is_file():
        missing(f"{name} was not fetched (tests/viewer/fetch)")
    return dist


def chromium() -> str:
    """The program of the browser."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        missing("Chromium is not installed (apt-get install chromium)")
    return found
