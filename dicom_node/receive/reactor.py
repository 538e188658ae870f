"""Wakes the two threads of an association when there is something to do; pynetdicom lets them poll.

Its loops look around and sleep a millisecond, in turn, which costs a small instance as much time as its
bytes do, and an idle association a thousand looks a second. Here the looks themselves wait: the one at the
socket until bytes come or something is to be sent, the one at the messages until one is complete or the
association ends.
The loops, their order and what they do stay those of pynetdicom. Relies on names of its version 3.0.4 that
``tests/test_receive_contract.py`` holds on to.
"""

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association

from dicom_node.checkpoint import stand_aside

LOOK_SECONDS = 0.2
"""The longest wait in one look: pynetdicom's own time-outs are noticed between two looks."""


UNANSWERED, UNANSWERED_SECONDS = 8, 60.0
"""Messages received and not yet answered; one outstanding operation is negotiated, PS3.7 annex D.3.3.3."""


class Bell:
    """A descriptor that ends a poll. Rung by any thread; after ``close`` ringing does nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For a poll; -1 once it is closed."""
        return self._descriptor

    def ring(self) -> None:
        """End the poll in progress, or the next one."""
        with self._lock:
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)

    def silence(self) -> None:
        """Heard; to be called only after a poll has reported it."""
        with self._lock:
            if self._descriptor >= 0:
                os.eventfd_read(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


class Telling(queue.Queue[Any]):
    """A queue that tells somebody of what is put into it."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put, then tell."""
        super().put(item, block, timeout)
        self._tell()


class Messages(queue.Queue[Any]):
    """The complete messages of an association: a look at them waits a moment for one to come.

    Not more than a few: a peer that sends on without waiting for answers is read no further meanwhile.
    """

    def __init__(self, may_wait: Callable[[], bool]) -> None:
        super().__init__(UNANSWERED)
        self._may_wait = may_wait
        self._stirred = False

    def stir(self) -> None:
        """End the look in progress, or the next one: something else is to be looked at."""
        with self.not_empty:
            self._stirred = True
            self.not_empty.notify()

    def put(
        self, item: Any, block: bool = True, timeout: float | None = UNANSWERED_SECONDS
    ) -> None:
        """As of every queue. Raises queue.Full, which ends the association, after a while."""
        super().put(item, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As of every queue, but one that does not block waits at most LOOK_SECONDS."""
        if not block:
            with self.not_empty:
                if not self._qsize() and not self._stirred and self._may_wait():
                    self.not_empty.wait(LOOK_SECONDS)
                self._stirred = False
        return super().get(block, timeout)


def quicken(association: Association) -> Bell:
    """Let the threads of an association that is about to start wait for one another.

    Returns the bell that its socket's polls must heed. Whoever sends on the association clears the reactor's
    checkpoint first, so that the answer is left for him: then a look at the messages does not wait.
    """
    bell = Bell()
    stand_aside(association)
    messages = Messages(association._reactor_checkpoint.is_set)
    dul, dimse = association.dul, association.dimse
    dul.to_provider_queue = Telling(bell.ring)
    dul.to_user_queue = Telling(messages.stir)
    dimse.msg_queue = messages
    dul._run_loop_delay = 0.0  # the look at the socket waits instead
    return bell
