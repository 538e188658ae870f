"""Pseudonyms: study identifiers as keyed hashes, alike in log, audit trail and status page.

HMAC-SHA256 (RFC 2104), cut to 128 bits. The key is made once and lies in the data folder, readable by the
node alone: with it IT finds a study of the log (`dicom-node jobs show HASH`), without it nobody does.
"""

import contextlib
import hmac
import os
import re
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import NodeError
from dicom_node.settings import Settings

KEY_FILE = "identifiers.key"
KEY_BYTES, SHOWN_DIGITS = 32, 32

STANDARD_ROOT = "1.2.840.10008."
"""UIDs that the standard itself defines say nothing of a patient."""

PATTERN = re.compile(r"(?<![\w.])[0-2](?:\.\d+){2,}(?!\w)")
LEAST_PARTS, LONGEST_PLAIN = 5, 3
"""Versions and IPv4 addresses have fewer parts, and none of more than three digits."""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """How identifiers are written; without a key: as they are."""

    key: bytes | None = None

    def of(self, identifier: str) -> str:
        """The pseudonym of one identifier; the empty one stays empty."""
        if self.key is None or not identifier:
            return identifier
        return hmac.digest(self.key, identifier.encode(), "sha256").hex()[:SHOWN_DIGITS]

    def hide(self, text: str) -> str:
        """A text with every UID in it replaced, but those of the standard."""
        return text if self.key is None else PATTERN.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        uid = match[0]
        parts = uid.split(".")
        is_uid = len(parts) >= LEAST_PARTS or max(map(len, parts)) > LONGEST_PLAIN
        return self.of(uid) if is_uid and not uid.startswith(STANDARD_ROOT) else uid


def unknown_key() -> Pseudonyms:
    """For the time before the settings are known: nobody can find anything of these again."""
    return Pseudonyms(secrets.token_bytes(KEY_BYTES))


def open_pseudonyms(settings: Settings) -> Pseudonyms:
    """As the settings say; makes the key where there is none. Raises NodeError."""
    if settings.node.log_identifiers:
        return Pseudonyms()
    path = settings.node.data_dir.absolute() / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise NodeError(f"{path}: the key of the log's hashes: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise NodeError(f"{path} is damaged: it must have {KEY_BYTES} bytes; restore or remove it")
    return Pseudonyms(key)


def _make(path: Path) -> None:
    """Write a new key, unless another process has done so meanwhile; it is there wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp gives mode 0600.
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f"{KEY_FILE}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(scratch, path)
    Path(scratch).unlink()
