"""A node whose machines share an object store and no folder: S3 over HTTP, real roles, two data folders."""

import contextlib
import hashlib
import io
import json
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pytest

from dicom_node import jobs
from dicom_node.access.start import refuse
from dicom_node.check import check
from dicom_node.errors import Busy, SettingsError, StoreAway
from dicom_node.files import open_files
from dicom_node.files.cache import Cache
from dicom_node.files.content import transfer_syntax_of
from dicom_node.files.objects import ATTEMPTS, PART_BYTES
from dicom_node.keep.command import check_deep, run_purge
from dicom_node.settings import Keep
from tests.conftest import (
    Pacs,
    RunningNode,
    free_port,
    make_study,
    start_node,
    study_uid_of,
    wait_for,
)
from tests.object_store import ObjectStore, object_store


class World:
    """Machine a receives; machine b, started later, does all else; they share a database and a store."""

    def __init__(self, folder: Path, store: ObjectStore, stack: contextlib.ExitStack) -> None:
        self.folder, self.store, self._stack = folder, store, stack
        self.archive = Pacs("archive")
        stack.callback(self.archive.stop)
        self.a = self._machine("a", "receive")

    @cached_property
    def b(self) -> RunningNode:
        """Started when it is first asked for."""
        return self._machine("b", "work", "deliver", "infer", "web")

    def _machine(self, name: str, *roles: str) -> RunningNode:
        folder = self.folder / name
        folder.mkdir()
        more = f"{self.store.toml}[web]\nport = {free_port()}"
        made = start_node(
            folder,
            self.archive.destination,
            roles=roles,
            database=f"sqlite:///{self.folder / 'node.db'}",
            more=more,
        )
        return self._stack.enter_context(made)

    def study(self, seed: int) -> tuple[str, tuple[Path, ...]]:
        paths = make_study(self.folder / str(seed), seed=seed, slices=3)
        return study_uid_of(paths[0]), paths

    def is_in(self, study_uid: str, state: str) -> bool:
        return jobs.show_job(self.a.settings, study_uid)[0].state == state

    def forget_on_b(self, study_uid: str) -> bool:
        """Remove its copies; False while a stage is at work on them."""
        return Cache(self.b.data / "cache", 0).forget(study_uid)

    def is_delivered(self, study_uid: str) -> bool:
        """Asked of the table, as it is asked often."""
        query = (
            "select count(*) from results join deliveries using (sop_uid) where delivered_at > 0"
        )
        return self.a.rows(f"{query} and study_uid = '{study_uid}'") == [(2,)]

    def paths_of(self, table: str, study_uid: str) -> dict[str, str]:
        """The SHA-256 of each."""
        query = f"select path, sha256 from {table} where study_uid = '{study_uid}'"
        return dict(self.a.rows(query))

    def reasons(self) -> list[str]:
        url = f"http://127.0.0.1:{self.b.settings.web.port}/readyz"
        try:
            with urllib.request.urlopen(url) as answer:
                return list(json.load(answer)["reasons"])
        except urllib.error.HTTPError as error:
            return list(json.load(error)["reasons"])


def data_set(content: bytes) -> bytes:
    """All bytes behind the file meta."""
    file = io.BytesIO(content)
    transfer_syntax_of(file)
    return file.read()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(object_store())
        yield World(tmp_path_factory.mktemp("objects"), store, stack)


def test_a_study_travels_between_machines_and_a_damaged_one_is_named(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    store = world.store
    (good, sent), (bad, damaged) = world.study(1), world.study(2)
    world.a.send(*sent)
    world.a.send(*damaged)
    first = sorted(world.paths_of("instances", bad))[0]
    content = store.read(first)
    store.write(first, content[:-100] + bytes(100))
    assert not any((world.a.data / "incoming").iterdir())
    assert not (world.a.data / "store").exists()

    # The store fails where the scans go: the stage is tried again, and nothing is lost.
    store.fault = lambda method, key: (503, "Slow") if key.startswith("work/") else None
    assert world.b.node.is_ready
    wait_for(lambda: store.failed > ATTEMPTS, "a failure of the stage")
    store.heal()
    wait_for(lambda: world.is_delivered(good), "the good study")
    results = world.paths_of("results", good)
    assert len(results) == 2
    kept = {data_set(each) for each in world.archive.kept.values()}
    for path, sha256 in results.items():
        content = store.read(path)
        assert hashlib.sha256(content).hexdigest() == sha256
        assert data_set(content) in kept, "not byte-identical"
    cached = {path.name for path in (world.b.data / "cache" / good / "store").iterdir()}
    assert {f"store/{name}" for name in cached} == set(world.paths_of("instances", good))
    assert world.reasons() == [reason for reason in world.reasons() if "receive" in reason]

    wait_for(lambda: world.is_in(bad, "failed to assemble"), "the damaged study")
    job = jobs.show_job(world.a.settings, bad)[0]
    assert job.reason == f"{first}: damaged; see `dicom-node check --deep`"
    assert check_deep(world.b.settings, repair=False) == 1
    told = capsys.readouterr().out
    assert f"damaged: {first}" in told
    assert told.count(": ") == 2, "nothing else is wrong"
    assert check_deep(world.b.settings, repair=True) == 1
    assert f"lost+found/{first}" in store.names("lost+found/")
    world.a.send(*damaged)
    assert world.paths_of("instances", bad).keys() <= store.names("store/")


Fault = Callable[[str, str], tuple[int, str] | None]
FAULTS: dict[str, Fault] = {
    "it says AccessDenied": lambda _method, _key: (403, "AccessDenied"),
    "it says StorageFull": lambda method, _key: (507, "StorageFull") if method == "PUT" else None,
    "there is no such bucket": lambda _method, _key: (404, "NoSuchBucket"),
    "": lambda method, _key: (200, "") if method == "PUT" else None,  # said yes, and kept nothing
}


def test_what_the_store_does_not_take_is_not_acknowledged(world: World) -> None:
    store, (uid, paths) = world.store, world.study(3)
    before = store.names("store/")

    def refused(why: str) -> None:
        with pytest.raises(Busy, match="0xA700"):
            world.a.send(*paths)
        said = [each for each in world.reasons() if each.startswith("object store s3://patients")]
        assert [why in each for each in said] == [True] * bool(why), said
        assert world.paths_of("instances", uid) == {}
        if why not in ("", "it says StorageFull"):  # what cannot be asked has not lost anything
            with pytest.raises(StoreAway):
                check_deep(world.b.settings, repair=True)

    for why, fault in FAULTS.items():
        store.fault = fault
        refused(why)
        store.heal()
    store.stop()
    refused("cannot be written")
    store.start()
    assert store.names("store/") == before
    assert not any((world.a.data / "incoming").iterdir())
    world.a.send(*paths)
    wait_for(lambda: world.is_delivered(uid), "the study, sent again")


def test_a_delivery_waits_for_the_store_and_never_sends_what_is_damaged(world: World) -> None:
    store, archive = world.store, world.archive
    waiting, broken = world.study(4), world.study(5)
    archive.answer = lambda _sop_uid: 0xA700
    assert world.b.node.is_ready
    for _, paths in (waiting, broken):
        world.a.send(*paths)
    query = "select count(*) from deliveries where status = 'waiting'"
    wait_for(lambda: world.a.rows(query) == [(2 * 2,)], "an archive that is busy")
    path = sorted(world.paths_of("results", broken[0]))[0]
    content = store.read(path)
    results = ("GET", "results/")
    store.fault = lambda method, key: (503, "Slow") if (method, key[:8]) == results else None
    for uid, _ in (waiting, broken):
        wait_for(lambda uid=uid: world.forget_on_b(uid), "a moment without work")
    archive.answer = lambda _sop_uid: 0x0000
    wait_for(lambda: store.failed > 2 * ATTEMPTS, "failures of the deliveries")
    store.write(path, content[:-2])
    store.heal()
    wait_for(lambda: world.is_delivered(waiting[0]), "the waiting study")
    wait_for(lambda: world.is_in(broken[0], "failed to deliver"), "the other one")
    (sop_uid,) = world.a.rows(f"select sop_uid from results where path = '{path}'")[0]
    assert sop_uid not in archive.kept
    assert check_deep(world.b.settings, repair=False) == 1


def test_instances_of_a_study_are_fetched_at_once(world: World) -> None:
    """The store answers none of three before all are asked for."""
    study_uid, paths = world.study(70)
    world.a.send(*paths)
    named = list(world.paths_of("instances", study_uid).items())
    together = threading.Barrier(3, timeout=30)

    def wait(method: str, key: str) -> None:
        if method == "GET" and key in dict(named):
            together.wait()

    wait_for(lambda: world.is_delivered(study_uid), "the study")
    wait_for(lambda: world.forget_on_b(study_uid), "a moment without work")
    world.store.fault = wait
    with open_files(world.b.settings).local(study_uid) as local:
        local.gather([*named, ("store/never-was.dcm", "0" * 64)])
        world.store.heal()
        assert all(local.file(*each).stat().st_size for each in named)
    assert not together.broken


def test_large_objects_go_in_parts(world: World, tmp_path: Path) -> None:
    files, path = open_files(world.b.settings), tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (2 * PART_BYTES // 256) + b"odd")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    files.keep(path, "quarantine/large.dcm", sha256)
    assert not path.exists()
    assert files.is_whole("quarantine/large.dcm", sha256)
    with files.local("large") as local:
        assert local.file("quarantine/large.dcm", sha256).stat().st_size == 2 * PART_BYTES + 3


def test_it_is_looked_at_before_the_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = world.b.settings
    seen = {each.what: each for each in check(settings)}
    assert seen["object store"].good
    assert seen["object store"].sentence == "s3://patients/node can be written"
    open_way = replace(settings, files=replace(settings.files, endpoint="http://192.0.2.1"))
    with pytest.raises(SettingsError, match="unencrypted"):
        refuse(open_way, ("work",))
    monkeypatch.setitem(sys.modules, "dicom_node.files.objects", None)
    with pytest.raises(SettingsError, match=r"pip install 'dicom-node\[s3\]'"):
        open_files(settings)


def test_a_store_that_never_answers_is_given_up(world: World, tmp_path: Path) -> None:
    """It must be within the patience of a scanner."""
    own, path = world.b.settings, tmp_path / "instance"
    path.write_bytes(b"content")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ThreadPoolExecutor() as pool,
    ):
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        files = open_files(replace(own, files=replace(own.files, endpoint=endpoint)))
        asked = pool.submit(files.trouble)
        with pytest.raises(StoreAway, match="cannot be written: FSTimeoutError"):
            files.keep(path, "store/instance.dcm", "")
        assert "cannot be written" in asked.result()
    assert path.exists()


def test_a_purge_leaves_nothing(world: World) -> None:
    uid, sent = world.study(9)
    world.a.send(*sent)
    assert world.b.node.is_ready
    wait_for(lambda: world.is_delivered(uid), "the study")
    paths = {*world.paths_of("instances", uid), *world.paths_of("results", uid)}
    assert paths <= world.store.names()
    limits = Keep(*(4 * [1e-9, 0.0])[:6])
    run_purge(replace(world.b.settings, keep=limits), dry_run=False)
    assert not [key for key in world.store.names() if key in paths or uid in key]
    assert not (world.b.data / "cache" / uid).exists()


def test_the_cache_removes_what_was_used_first_and_nothing_in_use(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 2500)
    with cache.of_study("held") as held:
        (held / "file").write_bytes(bytes(2000))
        for name in ("first", "second", "third"):
            with cache.of_study(name) as home:
                (home / "file").write_bytes(bytes(400))
        assert {path.name for path in cache.root.iterdir()} == {"held", "third"}
    assert {path.name for path in cache.root.iterdir()} == {"held", "third"}
    with cache.of_study("third") as home:
        (home / "more").write_bytes(bytes(2000))
    assert {path.name for path in cache.root.iterdir()} == {"third"}
