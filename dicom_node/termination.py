"""What a process is asked by a signal, told to its threads.

A handler runs in the main thread between any two of its instructions, also while that holds the lock of an
event it waits for: to set the event there would wait for ever. And it runs not before the main thread has
something to do, where the system has handed the signal to another thread. What Python writes to its wakeup
descriptor is free of both.
"""

import os
import signal
import threading


def on_signals(*numbers: signal.Signals) -> threading.Event:
    """An event that is set soon after one of some signals; to be called once, in the main thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    stop = threading.Event()

    def pass_on() -> None:
        while os.read(reader, 1)[0] not in numbers:
            continue  # another signal that Python handles
        stop.set()

    threading.Thread(target=pass_on, daemon=True).start()
    for number in numbers:
        signal.signal(number, lambda _number, _frame: None)
    return stop
