"""Is a user who it says it is: slow for who guesses, quick for who was right before."""

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections import OrderedDict
from enum import Enum
from pathlib import Path
from typing import TypeVar

from dicom_node.access.users import Hash, read_users

FAILURES, WINDOW_SECONDS = 5, 60.0
"""Wrong passcodes from one address within this time; until it has passed, none is looked at."""

REMEMBERED = 1024

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Verdict(Enum):
    """What became of a login."""

    RIGHT = "right"
    WRONG = "wrong user or passcode"
    TOO_MANY = "too many wrong passcodes from this address; it must wait"


class Logins:
    """The users of a file, which is read again when it changes. Raises SettingsError where it is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._secret = secrets.token_bytes(32)
        self._nobody = Hash.of(secrets.token_hex())
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()
        self._refresh()

    def check(self, address: str, name: str, passcode: str) -> Verdict:
        """Whether a user at an address has this passcode. One guess at a time, whoever makes it."""
        with self._lock:
            self._refresh()
            if self._is_blocked(address):
                return Verdict.TOO_MANY
            # scrypt takes a fifth of a second, and a scanner may open an association for each image.
            mark = hmac.digest(self._secret, f"{name}\0{passcode}".encode(), hashlib.sha256)
            if mark in self._known:
                self._known.move_to_end(mark)
                return Verdict.RIGHT
            known = self._users.get(name)
            # The time of a guess must not say whether there is such a user.
            right = (known or self._nobody).matches(passcode)
            if known and right:
                _remember(self._known, mark, None)
                return Verdict.RIGHT
            times = self._failures.get(address, [])
            _remember(self._failures, address, [*times, time.monotonic()])
            return Verdict.WRONG

    def _is_blocked(self, address: str) -> bool:
        now = time.monotonic()
        recent = [at for at in self._failures.get(address, ()) if now - at < WINDOW_SECONDS]
        if recent:
            self._failures[address] = recent
        else:
            self._failures.pop(address, None)
        return len(recent) >= FAILURES

    def _refresh(self) -> None:
        try:
            status = os.stat(self._path)
            stamp = status.st_mtime_ns, status.st_ino
        except OSError:
            stamp = (0, 0)
        if stamp != self._stamp:
            self._users = read_users(self._path)
            self._stamp = stamp
            self._known.clear()


def _remember(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    """The newest, and no more than so many: who tries many names or addresses must not fill the memory."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)
