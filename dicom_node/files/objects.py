"""Kept files as objects of an S3-compatible store, through fsspec.

An object counts as kept when it was put, and read back with the same SHA-256: that is true of any store,
whatever it knows of checksums (the CRC32 that botocore sends along is checked beyond that by those that do).
An object appears whole or not at all, also one that is sent in parts.

A folder between the stages has a manifest, put last: until then it is not there, or still the one before.
"""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import BinaryIO

from aiohttp import ClientError as TransferError
from botocore.exceptions import BotoCoreError, ClientError
from s3fs import S3FileSystem

from dicom_node.errors import FileLost, StoreAway
from dicom_node.files.cache import Cache
from dicom_node.files.content import MALFORMED, digest_of, is_intact
from dicom_node.files.folder import unfinished
from dicom_node.settings import Settings

TROUBLE = (OSError, BotoCoreError, ClientError, TransferError)

PART_BYTES, PARTS_AT_ONCE = 16 << 20, 2
"""A receiver's memory per instance: 32 MiB at most."""

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 3, 10, 2
"""A scanner waits meanwhile, and must hear 0xA700 before it gives up by itself."""

WRITE_SECONDS, SLOWEST_BYTES_PER_SECOND = 10.0, 1 << 20
"""A store that takes a PUT and never answers it: no time-out of the libraries ends that."""

FETCHED_AT_ONCE = 8
"""Of a study's instances: as many as botocore's ten connections allow beside others."""

PROBE_SECONDS = 5.0
"""Who asks whether the node is ready must hear soon."""

MANIFEST = "manifest.json"
WITH_MANIFEST = "work"
"""Files that have no row in the index; of all others the row knows the hash."""

HEX = "0123456789abcdef"


class Objects:
    """Below one prefix of one bucket; names are keys below it, as in the index. Used by many threads."""

    def __init__(self, settings: Settings) -> None:
        own = settings.files
        self.where = own.url.rstrip("/")
        self._base = self.where.removeprefix("s3://")
        self._bucket = self._base.partition("/")[0]
        self._name = settings.node.name or os.uname().nodename
        self._cache = Cache(settings.node.data_dir.absolute() / "cache", int(own.cache_gib * 2**30))
        # Credentials are botocore's business: environment, files, or the machine's own role.
        self._store = S3FileSystem(
            endpoint_url=own.endpoint or None,
            client_kwargs={"region_name": own.region} if own.region else {},
            config_kwargs={
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": READ_SECONDS,
                "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
            },
            default_block_size=PART_BYTES,
            max_concurrency=PARTS_AT_ONCE,
            use_listings_cache=False,  # other machines write too
            skip_instance_cache=True,
        )
        self._store.retries = 1  # beyond those of botocore

    @property
    def unfinished(self) -> tuple[Path, ...]:
        """None: an object appears whole; parts of a cut off upload are for the bucket's own rule."""
        return ()

    def create(self) -> None:
        """Nothing: a bucket is made by the site."""

    def trouble(self) -> str:
        """What is wrong with the store, in words, or ""; writes a small object to know."""
        try:
            with self._asked("cannot be written"):
                self._store.pipe_file(self._key(f"probe/{self._name}"), b"", timeout=PROBE_SECONDS)
        except StoreAway as error:
            return str(error)
        return ""

    def keep(self, path: Path, name: str, _sha256: str) -> None:
        """Make a local file durable under a name; it is gone from where it was. Raises StoreAway."""
        self._put(path, name)
        path.unlink()

    def _put(self, path: Path, name: str) -> str:
        """Returns its SHA-256, with which it was read back. Raises StoreAway."""
        key = self._key(name)
        with path.open("rb") as file:
            sha256 = digest_of(file)
        with self._asked("cannot be written"):
            seconds = WRITE_SECONDS + path.stat().st_size / SLOWEST_BYTES_PER_SECOND
            self._store.put_file(str(path), key, chunksize=PART_BYTES, timeout=seconds)
            with self._store.open(key, "rb") as file:
                if digest_of(file) != sha256:
                    raise StoreAway(self.where, "what was written reads back otherwise")
        return sha256

    def move(self, name: str, target: str) -> None:
        """Copy within the store, then delete. Raises StoreAway, FileLost."""
        with self._asked("cannot be moved", name):
            self._store.cp_file(self._key(name), self._key(target))
            self._store.rm_file(self._key(name))

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """An object open to read. Raises StoreAway, FileLost."""
        with (
            self._asked("cannot be read", name),
            self._store.open(self._key(name), "rb", cache_type="readahead") as file,
        ):
            yield file

    def size(self, name: str) -> int:
        with self._asked("cannot be asked", name):
            return int(self._store.info(self._key(name))["size"])

    def is_here(self, name: str) -> bool:
        """Raises StoreAway: a store that does not answer has not lost anything."""
        try:
            with self._asked("cannot be asked", name):
                return bool(self._store.info(self._key(name))["type"] == "file")
        except FileLost:
            return False

    def is_whole(self, name: str, sha256: str) -> bool:
        """Whether an object has its content, read wholly. Raises StoreAway."""
        try:
            with self.reading(name) as file:
                return is_intact(file, sha256)
        except (FileLost, *MALFORMED):
            return False

    def has_size(self, name: str, size: int) -> bool:
        """Whether an object is there with its size; 0 = it is not known."""
        try:
            return self.size(name) == size or not size
        except FileLost:
            return False

    def age_seconds(self, name: str) -> float:
        """Since an object was put; of one that has gone meanwhile 0."""
        try:
            with self._asked("cannot be asked", name):
                changed = self._store.info(self._key(name))["LastModified"]
        except FileLost:
            return 0.0
        return time.time() - float(changed.timestamp())

    def walk(self, folder: str) -> Iterator[str]:
        """Every object below a folder; what is kept by hash is listed in parts, as memory must not grow."""
        if folder == "store":
            for digit in HEX:
                yield from self._find(folder, digit)
        else:
            for name in self.folders_in(folder):
                yield from self._find(f"{folder}/{name}")

    def _find(self, folder: str, prefix: str = "") -> list[str]:
        with self._asked("cannot be listed"):
            found = self._store.find(self._key(folder), prefix=prefix)
        return [key.removeprefix(f"{self._base}/") for key in found]

    def folders_in(self, folder: str) -> list[str]:
        """The names of what lies directly in a folder."""
        try:
            with self._asked("cannot be listed", folder):
                found = self._store.ls(self._key(folder), detail=False)
        except FileLost:
            return []
        return [key.rpartition("/")[2] for key in found]

    def remove(self, names: list[str]) -> None:
        """Delete objects whose time has come. Raises StoreAway."""
        with self._asked("cannot be deleted"):
            for name in names:
                self._store.rm_file(self._key(name))

    def half_removed(self, _folder: str) -> list[str]:
        """Nothing: what was cut off is still listed, and goes with the next purge."""
        return []

    def remove_tree(self, name: str) -> None:
        """Delete a folder; manifests first, so that it is never seen half."""
        self.remove(sorted(self._find(name), key=lambda each: not each.endswith(f"/{MANIFEST}")))

    def forget(self, study_uid: str) -> None:
        """Remove this machine's copies of a study."""
        self._cache.forget(study_uid)

    @contextmanager
    def local(self, study_uid: str) -> Iterator["Fetched"]:
        """The files of a study as paths of this machine: fetched, and staying while the block runs."""
        with self._cache.of_study(study_uid) as home:
            yield Fetched(self, home)

    def fetch(self, name: str, path: Path, is_right: Callable[[BinaryIO], bool]) -> None:
        """A local copy, there only when it is whole. Raises StoreAway, FileLost."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with self._asked("cannot be read", name):
                self._store.get_file(self._key(name), str(part))
            with part.open("rb") as file:
                try:
                    is_whole = is_right(file)
                except MALFORMED:
                    is_whole = False
                os.fsync(file.fileno())
            if not is_whole:
                raise FileLost(name, "damaged")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def manifest(self, folder: str) -> dict[str, str]:
        """The files of a folder, and the SHA-256 of each. Raises StoreAway, FileLost."""
        name = f"{folder}/{MANIFEST}"
        with self._asked("cannot be read", name):
            told: dict[str, str] = json.loads(self._store.cat_file(self._key(name)))
        return told

    def put_folder(self, folder: str, paths: list[Path], others: Mapping[str, str]) -> None:
        """Files into a folder, beside others of which the hashes are known; what else lies there goes."""
        told = dict(others) | {
            path.name: self._put(path, f"{folder}/{path.name}") for path in paths
        }
        known = {f"{folder}/{name}" for name in told}
        if folder.startswith(f"{WITH_MANIFEST}/"):
            known.add(f"{folder}/{MANIFEST}")
            with self._asked("cannot be written"):
                text = json.dumps(told).encode()
                key = self._key(f"{folder}/{MANIFEST}")
                self._store.pipe_file(key, text, timeout=WRITE_SECONDS)
        self.remove([name for name in self._find(folder) if name not in known])

    def _key(self, name: str) -> str:
        return f"{self._base}/{name}"

    @contextmanager
    def _asked(self, what: str, name: str = "") -> Iterator[None]:
        """What the store, and the way to it, make the libraries raise, as our own words.

        Not theirs: they repeat the key, which holds the UID of a study.
        """
        try:
            yield
        except FileNotFoundError as error:
            try:
                self._store.call_s3("head_bucket", Bucket=self._bucket)
            except TROUBLE as worse:
                is_none = isinstance(worse, FileNotFoundError)
                reason = "there is no such bucket" if is_none else _reason(worse)
                raise StoreAway(self.where, f"{what}: {reason}") from worse
            if not name:
                raise StoreAway(self.where, f"{what}: not found") from error
            raise FileLost(name, "gone") from error
        except TROUBLE as error:
            raise StoreAway(self.where, f"{what}: {_reason(error)}") from error


@dataclass(frozen=True, slots=True)
class Fetched:
    """The files of one study, fetched when they are asked for. Folders keep their places to one another."""

    objects: Objects
    home: Path

    def file(self, name: str, sha256: str) -> Path:
        """A local copy with the content that the index says. Raises StoreAway, FileLost."""
        path = self.home / name.partition("/")[0] / f"{sha256}.dcm"
        if not path.exists():
            self.objects.fetch(name, path, partial(is_intact, sha256=sha256))
        return path

    def gather(self, named: Sequence[tuple[str, str]]) -> None:
        """Fetch several at once, as each waits for the store more than for bytes. Raises StoreAway."""

        def fetch(each: tuple[str, str]) -> None:
            with contextlib.suppress(FileLost):  # said of the file when it is asked for
                self.file(*each)

        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            for _ in pool.map(fetch, named):
                pass

    def folder(self, name: str) -> Path:
        """A local copy of a folder as its manifest says it is now. Raises StoreAway, FileLost."""
        folder, told = self.home / name, self.objects.manifest(name)
        seen = folder / MANIFEST
        has: dict[str, str] = json.loads(seen.read_text()) if seen.exists() else {}
        for each, sha256 in told.items():
            if has.get(each) != sha256:
                self.objects.fetch(f"{name}/{each}", folder / each, partial(_has_digest, sha256))
        for path in folder.iterdir():
            if path.name not in (*told, MANIFEST):
                path.unlink()
        part = folder.with_name(f".{uuid.uuid4().hex}.part")
        part.write_text(json.dumps(told))
        part.replace(seen)
        return folder

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A folder to write into, whose files are then those of a folder of the store. Raises StoreAway."""
        with unfinished(self.home / name) as scratch:
            yield scratch
            self.objects.put_folder(name, sorted(scratch.iterdir()), {})

    @contextmanager
    def added(self, name: str, pattern: str) -> Iterator[Path]:
        """A folder to write into, whose files then replace those of a pattern. Raises StoreAway."""
        with unfinished(self.home / name) as scratch:
            yield scratch
            told = self.objects.manifest(name)
            others = {each: told[each] for each in told if not fnmatch(each, pattern)}
            self.objects.put_folder(name, sorted(scratch.iterdir()), others)


def _has_digest(sha256: str, file: BinaryIO) -> bool:
    return digest_of(file) == sha256


def _reason(error: BaseException) -> str:
    cause = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(cause, ClientError):
        told = cause.response
        code = told.get("Error", {}).get("Code")
        return f"it says {code or told.get('ResponseMetadata', {}).get('HTTPStatusCode')}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
