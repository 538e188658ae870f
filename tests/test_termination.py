"""A process that is asked to stop hears it, whatever its main thread is doing at that moment."""

import subprocess
import sys

import pytest

STOPPED = """
import os, random, signal, sys, threading, time
from dicom_node.termination import on_signals

def ask():
    time.sleep(random.random() * 0.002)
    if sys.argv[1] == "here":
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)

stop = on_signals(signal.SIGTERM)
threading.Thread(target=ask, daemon=True).start()
if sys.argv[1] == "often":
    while not stop.wait(0):  # nearly always with the event's lock in hand
        pass
stop.wait()
print("stopped")
"""


@pytest.mark.parametrize("how", ["often", "here"])
def test_stopped(how: str) -> None:
    """While the main thread looks at the event, and where another thread gets the signal."""
    for _ in range(10):
        done = subprocess.run(
            [sys.executable, "-c", STOPPED, how],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("stopped\n", "")
