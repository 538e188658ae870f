"""Users and their passcodes: a file of salted hashes beside the configuration, never within it.

One line each: ``name:scrypt:N:r:p:salt:hash``, the last two in base64 (RFC 7914; parameters by OWASP).
"""

import base64
import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.settings import Settings

COST, BLOCK, PARALLEL = 1 << 14, 8, 5
"""16 MiB and about a fifth of a second for each guess."""

LONGEST_PASSCODE, SHORTEST_PASSCODE, LONGEST_NAME = 1024, 12, 64


@dataclass(frozen=True, slots=True)
class Hash:
    """A salted hash with the parameters that it was made with."""

    cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, passcode: str) -> "Hash":
        """A new one, with a salt of its own."""
        salt = secrets.token_bytes(16)
        return cls(COST, BLOCK, PARALLEL, salt, _scrypt(passcode, salt, COST, BLOCK, PARALLEL))

    @classmethod
    def read(cls, text: str) -> "Hash":
        """From its line. Raises ValueError."""
        kind, cost, block, parallel, salt, digest = text.split(":")
        if kind != "scrypt":
            raise ValueError(kind)
        numbers = int(cost), int(block), int(parallel)
        return cls(*numbers, base64.b64decode(salt), base64.b64decode(digest))

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt:{self.cost}:{self.block}:{self.parallel}:{salt}:{digest}"

    def matches(self, passcode: str) -> bool:
        """Whether it is the hash of a passcode; takes as long either way."""
        made = _scrypt(passcode, self.salt, self.cost, self.block, self.parallel)
        return hmac.compare_digest(made, self.digest)


def _scrypt(passcode: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    most = 256 * cost * block  # twice what one run needs
    return hashlib.scrypt(
        passcode.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=most, dklen=32
    )


def users_path(settings: Settings) -> Path:
    """Where the users of a node are."""
    return Path(settings.access.users or settings.node.data_dir / "users")


def read_users(path: Path) -> Mapping[str, Hash]:
    """Each user's hash; none where there is no file. Raises SettingsError that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"users {path} cannot be read: {reason}") from error
    users = {}
    for number, line in enumerate(lines, 1):
        name, _, text = line.partition(":")
        try:
            users[name] = Hash.read(text)
        except ValueError:
            raise SettingsError(f"users {path}: line {number} is no user") from None
    return users


def add_user(path: Path, name: str, passcode: str) -> None:
    """Add a user, or give it another passcode. Raises SettingsError."""
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= LONGEST_NAME) or ":" in name:
        raise SettingsError(f"a user's name is 1 to {LONGEST_NAME} ASCII characters without ':'")
    if not SHORTEST_PASSCODE <= len(passcode.encode()) <= LONGEST_PASSCODE:
        raise SettingsError(
            f"a passcode has {SHORTEST_PASSCODE} to {LONGEST_PASSCODE} bytes; nothing was changed"
        )
    _write(path, {**read_users(path), name: Hash.of(passcode)})


def remove_user(path: Path, name: str) -> None:
    """Remove a user. Raises SettingsError where there is none of that name."""
    users = dict(read_users(path))
    if users.pop(name, None) is None:
        raise SettingsError(f"users {path}: nobody is called {name!r}")
    _write(path, users)


def _write(path: Path, users: Mapping[str, Hash]) -> None:
    """Replace the file as a whole; it belongs to whom its folder belongs, who alone may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{user}:{digest}\n" for user, digest in users.items())
            if os.geteuid() == 0:  # an administrator's sudo must not take the file from the node
                folder = path.parent.stat()
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
