"""Disks, clock, network and memory that fail a node; what was wanted and what was seen: ``make faults``.

``python -m tests.faults [WORD ...]`` tries those whose name has one of the words (all without), prints a
table and exits with 1 when one was not stood. Takes root for small disks, lost packets and memory limits,
and Debian's ``faketime`` for the clock; what cannot be tried here is told. Not in the suite: takes minutes.
"""

import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests import faults_clock, faults_disk, faults_memory, faults_network
from tests.chaos import log_into
from tests.surroundings import Fault

FAULTS: tuple[Fault, ...] = (
    *faults_disk.FAULTS,
    *faults_clock.FAULTS,
    *faults_network.FAULTS,
    *faults_memory.FAULTS,
)


def trial(fault: Fault, kept: Path) -> tuple[str, str]:
    """What was seen, and the verdict; the log of one that was not stood stays in a folder."""
    with tempfile.TemporaryDirectory(prefix="fault-") as name:
        folder = Path(name)
        log = folder / "log"
        try:
            with log_into(log):
                return fault.run(folder), "stood"
        except pytest.skip.Exception as reason:
            return str(reason), "not tried"
        except Exception as error:  # the others are still to be tried
            place = kept / f"{fault.name.replace(' ', '-').replace('/', '-')}.log"
            place.write_text(f"{log.read_text()}\n{traceback.format_exc()}")
            return f"{type(error).__name__}: {str(error)[:300]} ({place})", "[red]not stood"


def main() -> int:
    words = sys.argv[1:]
    kept = Path(tempfile.mkdtemp(prefix="faults-"))
    table = Table("fault", "wanted", "seen", "verdict", "s")
    verdicts = []
    for fault in FAULTS:
        if words and not any(word in fault.name for word in words):
            continue
        began = time.monotonic()
        seen, verdict = trial(fault, kept)
        seconds = f"{time.monotonic() - began:.0f}"
        verdicts.append(verdict)
        table.add_row(fault.name, fault.wanted, escape(seen), verdict, seconds)
        print(f"{verdict}: {fault.name}: {seen} ({seconds} s)", flush=True)
    Console(width=150).print(table)
    return 1 if "[red]not stood" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
