"""Where kept files lie: the one seam between the node and a folder, or an object store.

Names are paths relative to the root, as in the index: ``store/SHA256.dcm``, and FILES of
``results/STUDY/GENERATION``, ``work/STUDY/GENERATION``. Whatever is kept is there wholly and durably
when the call returns.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from dicom_node.errors import SettingsError
from dicom_node.files.folder import Folder, unfinished_name
from dicom_node.settings import Settings

__all__ = ["Files", "Folder", "Local", "open_files", "unfinished_name"]


class Local(Protocol):
    """The files of one study as paths of this machine. All raise StoreAway, FileLost, OSError."""

    def file(self, name: str, sha256: str, /) -> Path:
        """A kept file, to read."""

    def gather(self, named: Sequence[tuple[str, str]], /) -> None:
        """Have files at hand, by name and SHA-256, that are about to be read; what is lost is left out."""

    def folder(self, name: str, /) -> Path:
        """A folder between the stages, to read."""

    def written(self, name: str, /) -> AbstractContextManager[Path]:
        """A folder to write into, which takes its name, durably, only when all is written."""

    def added(self, name: str, pattern: str, /) -> AbstractContextManager[Path]:
        """A folder to write into, whose files then replace those of a pattern in another one."""


class Files(Protocol):
    """Kept files by their names. All raise StoreAway or OSError where they cannot be reached."""

    @property
    def where(self) -> str: ...

    @property
    def unfinished(self) -> tuple[Path, ...]: ...

    def create(self) -> None: ...

    def trouble(self) -> str: ...

    def keep(self, path: Path, name: str, sha256: str, /) -> None: ...

    def move(self, name: str, target: str, /) -> None: ...

    def reading(self, name: str, /) -> AbstractContextManager[BinaryIO]: ...

    def size(self, name: str, /) -> int: ...

    def is_here(self, name: str, /) -> bool: ...

    def is_whole(self, name: str, sha256: str, /) -> bool: ...

    def has_size(self, name: str, size: int, /) -> bool: ...

    def age_seconds(self, name: str, /) -> float: ...

    def walk(self, folder: str, /) -> Iterator[str]: ...

    def folders_in(self, folder: str, /) -> list[str]: ...

    def remove(self, names: list[str], /) -> None: ...

    def half_removed(self, folder: str, /) -> list[str]: ...

    def remove_tree(self, name: str, /) -> None: ...

    def forget(self, study_uid: str, /) -> None: ...

    def local(self, study_uid: str, /) -> AbstractContextManager[Local]: ...


def open_files(settings: Settings) -> Files:
    """Where this node keeps its files. Raises SettingsError where the library for it is not installed."""
    if not settings.files.url:
        return Folder(settings.node.files)
    try:
        from dicom_node.files.objects import Objects  # not at the top: s3fs is an extra
    except ImportError as error:
        sentence = f"files.url needs the extra s3 (pip install 'dicom-node[s3]'): {error}"
        raise SettingsError(sentence) from error
    return Objects(settings)
