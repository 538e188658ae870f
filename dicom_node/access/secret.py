"""Secrets come from a file or an environment variable; the configuration only says from which."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from dicom_node.errors import SettingsError


def read_secret(place: str, environment: Mapping[str, str] = os.environ) -> str:
    """The secret that ``file:PATH`` or ``env:NAME`` names. Raises SettingsError, which never quotes it."""
    kind, _, name = place.partition(":")
    if kind == "env":
        if name not in environment:
            raise SettingsError(
                f"the environment variable {name}, which holds a secret, is not set"
            )
        return environment[name]
    try:
        return Path(name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{name}, which holds a secret, cannot be read: {reason}") from error


def exposed(path: Path) -> str:
    """A sentence where anyone on the machine may read a file that holds a secret, else ""."""
    if path.is_file() and path.stat().st_mode & stat.S_IROTH:
        return f"{path} can be read by everyone on this machine: chmod o-rwx {path}"
    return ""
