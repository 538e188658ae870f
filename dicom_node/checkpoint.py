"""Where an association's own thread stands aside while another thread sends and takes the answer itself.

pynetdicom's own checkpoint only stops its thread the next time it comes by. Having just passed, it is taken
for standing there, and on a busy machine takes the answer from who waits for it, for the whole time-out.
"""

import threading

from pynetdicom.association import Association

LOOK_SECONDS = 0.1
"""Between two looks at whether the thread that is waited for has ended, and at what it is taken for."""


class Checkpoint:
    """As ``Association._reactor_checkpoint``, but ``clear`` returns only when the thread stands here."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._change = threading.Condition()
        self._is_open, self._stands = True, False

    def is_set(self) -> bool:
        """Whether one may pass."""
        return self._is_open

    def set(self) -> None:
        """Let the thread go on."""
        with self._change:
            self._is_open = True
            self._change.notify_all()

    def wait(self) -> None:
        """Of the thread itself: pass, or stand here until one may."""
        with self._change:
            self._stands = True
            self._change.notify_all()
            while not self._is_open:
                self._say_paused()
                self._change.wait(LOOK_SECONDS)
            self._stands = False

    def clear(self) -> None:
        """Close it, and wait until the thread stands here or has ended."""
        with self._change:
            self._is_open = False
            while not self._stands and self._association.is_alive() and not self._is_own():
                self._change.wait(LOOK_SECONDS)
            self._say_paused()

    def _is_own(self) -> bool:
        return threading.current_thread() is self._association

    def _say_paused(self) -> None:
        """What a sender looks for. The thread that serves a peer's report takes it back when it is done."""
        self._association._is_paused = True


def stand_aside(association: Association) -> None:
    """Give an association whose thread has not come by yet such a checkpoint."""
    association._reactor_checkpoint = Checkpoint(association)  # type: ignore[assignment]
