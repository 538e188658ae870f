"""kill -9 at random moments of every role, under load, one archive down part of the time: is anything lost?

``python -m tests.chaos --kills 200 [--database postgres | --database URL] [--seed N]`` prints a table and
exits with 1 when a promise was broken. On Postgres a second machine works beside the first, on a shared
folder, and is killed as well. Not in the suite: it takes about three seconds a kill.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pynetdicom import AE, build_context
from rich.console import Console
from rich.table import Table

from dicom_node import node as node_module
from dicom_node.files import Folder
from dicom_node.files.content import fingerprint
from dicom_node.keep.command import check_deep
from dicom_node.keep.files import FOLDERS
from dicom_node.keep.purge import purge
from dicom_node.keep.retention import Order
from dicom_node.node import Node
from dicom_node.settings import Keep, load
from tests.conftest import Pacs, Postgres, RunningNode, make_study, start_node

SENDERS, SLICES = 2, 3
MOST_WAITING = 6
"""Studies sent and not yet delivered at the archive that is up; the senders wait for the node at more."""

AT_WORK = 0.8
"""Share of kills of a role that has started; the others may hit it while it does."""

QUIET_SECONDS, GIVE_UP_SECONDS = 3.0, 900.0
WORKERS = ("work", "deliver", "infer")
LOST_SECONDS = 10.0
"""A worker that is started again is never away for so long; what it holds stays its own."""

STAGES = {"assembled": "assemble", "analyzed": "analyze", "reported": "report"}


@dataclass
class Load:
    """What the scanners have sent, and what was acknowledged."""

    folder: Path
    running: RunningNode
    archive: Pacs
    acknowledged: set[str] = field(default_factory=set)
    studies: int = 0
    refusals: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self) -> None:
        """Study after study, each instance again until its 0x0000."""
        while not self.stop.is_set():
            if self.studies - len(self.archive.kept) / 2 > MOST_WAITING and not self.stop.wait(0.2):
                continue
            with self.lock:
                self.studies += 1
                number = self.studies
            left = list(make_study(self.folder / str(number), seed=number, slices=SLICES))
            while left:
                left = self._try(left)
                if left:
                    self.refusals += 1
                    time.sleep(0.2)

    def _try(self, paths: list[Path]) -> list[Path]:
        """What is not acknowledged after one association."""
        meta = dcmread(paths[0], stop_before_pixels=True).file_meta
        context = build_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        entity = AE("SCANNER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
        address = ("127.0.0.1", self.running.node.port)
        association = entity.associate(*address, [context], "DICOM_NODE")
        left = list(paths)
        for path in paths:
            if not association.is_established:
                break
            try:
                answer = association.send_c_store(path)
            except RuntimeError:  # it has just ended
                break
            if answer.get("Status") == 0x0000:
                uid = dcmread(path, stop_before_pixels=True).SOPInstanceUID
                with self.lock:
                    self.acknowledged.add(str(uid))
                left.remove(path)
        if association.is_established:
            association.release()
        return left


def kill_at_random(nodes: Sequence[Node], second: Pacs, kills: int, dice: random.Random) -> Counter:
    """The killed roles, by machine; the second archive goes down and comes up meanwhile."""
    victims = [(number, node, role) for number, node in enumerate(nodes, 1) for role in node.pids()]
    killed: Counter[str] = Counter()
    is_up = True
    while killed.total() < kills:
        time.sleep(dice.uniform(0.1, 1.0))
        number, node, role = dice.choice(victims)
        if dice.random() < AT_WORK:
            node._children[role].ready.wait(60)
            time.sleep(dice.uniform(0.0, 2.0))
        try:
            os.kill(node.pid(role), 9)
        except ProcessLookupError:
            continue  # is dead already, and about to be started again
        killed[f"{role} {number}"] += 1
        print(f"{killed.total()} of {kills}: {role} of machine {number}", flush=True)
        if dice.random() < 0.15:
            is_up = not is_up
            (second.start if is_up else second.stop)()
    if not is_up:
        second.start()
    return killed


def wait_until_delivered(running: RunningNode, studies: int) -> float:
    """Seconds until every study is closed and nothing is on its way any more; GIVE_UP_SECONDS = in vain."""
    started = time.monotonic()
    looks = (
        "select count(*) from studies where closed",
        "select count(distinct study_uid) from results",
        "select count(*) from deliveries where delivered_at is null and status != 'superseded'",
    )
    schema = "dbos." if running.settings.node.database_url.startswith("postgres") else ""
    waiting = "where status in ('ENQUEUED', 'PENDING', 'DELAYED')"
    active = f"select count(*) from {schema}workflow_status {waiting}"
    wanted = [studies, studies, 0, 0]
    while (took := time.monotonic() - started) < GIVE_UP_SECONDS:
        if [running.rows(look)[0][0] for look in (*looks, active)] == wanted:
            break
        time.sleep(1.0)
    return took


def verify(
    running: RunningNode, load: Load, archives: list[Pacs], log: Path
) -> Iterator[tuple[str, Any, bool]]:
    """What was promised, what is there, and whether they are the same."""
    rows = dict(running.rows("select sop_uid, path from instances"))
    folder = running.settings.node.files
    files = {str(path.relative_to(folder)) for path in (folder / "store").iterdir()}
    yield "instances acknowledged", len(load.acknowledged), True
    yield "rows of instances", len(rows), set(rows) == load.acknowledged
    lost = load.acknowledged - set(rows)
    yield "acknowledged without a row", len(lost), not lost
    yield "rows without a file", len(set(rows.values()) - files), set(rows.values()) <= files
    yield "files without a row", len(files - set(rows.values())), True
    results = {}
    for uid, path in running.rows("select sop_uid, path from results order by generation"):
        results[uid] = folder / path
    # A report that names its predecessor is made for each archive that has another one.
    due = running.rows("select sop_uid, destination, status from deliveries")
    nowhere = set(results) - {uid for uid, _, _ in due}
    yield "results due at no archive", told(running, nowhere), not nowhere
    studies = running.rows("select study_uid from studies")
    delivered = running.rows(
        "select study_uid from results join deliveries using (sop_uid) where delivered_at is not null "
        "group by study_uid having count(distinct destination) = 2"
    )
    yield (
        "studies delivered to both archives",
        f"{len(delivered)} of {len(studies)}",
        len(delivered) == len(studies),
    )
    for number, archive in enumerate(archives, 1):
        mine = {
            uid
            for uid, name, status in due
            if name == archive.destination.name and status != "superseded"
        }
        missing = mine - set(archive.kept)
        foreign = set(archive.kept) - set(results)
        other = [
            uid
            for uid, content in archive.kept.items()
            if uid in results and not same(content, results[uid])
        ]
        yield f"archive {number}: objects", len(archive.kept), True
        yield f"archive {number}: results that it lacks", told(running, missing), not missing
        yield f"archive {number}: objects under UIDs that are no result", len(foreign), not foreign
        yield f"archive {number}: objects with other bytes than in results/", len(other), not other
        yield (
            f"archive {number}: sent again under the same UID",
            len(archive.arrivals) - len(set(archive.arrivals)),
            True,
        )
    given_up = running.rows("select count(*) from results where kind = 'refusal'")[0][0]
    yield "answers why not analyzed: a part came alone, or a stage was killed over", given_up, True
    again = steps_run_again(running, log)
    yield "checkpointed steps that ran again", len(again), not again


def studies_of(held: Sequence[Order]) -> int:
    return len({order.study.study_uid for order in held})


def told(running: RunningNode, missing: set[str]) -> str:
    """How many results, and all that the index knows of them."""
    rows = running.rows(
        "select r.sop_uid, kind, generation, verdict, destination, status, reason, d.attempts "
        "from results r left join deliveries d using (sop_uid)"
    )
    return "; ".join([str(len(missing)), *(str(row) for row in rows if row[0] in missing)])


def same(content: bytes, path: Path) -> bool:
    """Whether transfer syntax and data set are equal, byte by byte; the file meta is the sender's."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(content)
        file.flush()
        return fingerprint(Path(file.name)) == fingerprint(path)


def steps_run_again(running: RunningNode, log: Path) -> list[tuple[str, str]]:
    """Steps that began after their checkpoint was written, by the log and the checkpoints' times."""
    schema = "dbos." if running.settings.node.database_url.startswith("postgres") else ""
    done = {}
    query = (
        "select workflow_uuid, function_name, completed_at_epoch_ms from "
        f"{schema}operation_outputs where function_name in ('assemble', 'analyze', 'report') "
        "and child_workflow_id is null"  # else it is the note that the next stage was enqueued
    )
    for name, step, at in running.rows(query):
        study_uid, generation, *_ = name.split(":")
        done[study_uid, int(generation), step] = at / 1000
    again = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        step = STAGES.get(said.get("event", ""))
        if step and "study" in said:
            ended = datetime.fromisoformat(said["time"].replace("Z", "+00:00")).timestamp()
            key = (said["study"], said["generation"], step)
            if key in done and ended - said["seconds"] > done[key] + 0.01:
                again.append((said["study"], step))
    return again


@contextmanager
def log_into(path: Path) -> Iterator[None]:
    """The roles' standard error is ours."""
    kept = os.dup(2)
    with path.open("w") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextmanager
def machines(running: RunningNode, folder: Path, database: str) -> Iterator[tuple[Node, ...]]:
    """The node, and on Postgres another that has no receiver; both are told who they are."""
    if not database:
        yield (running.node,)
        return
    text = (folder / "node.toml").read_text()
    for own, other in (('name = "one"', 'name = "two"'), ('/data"', '/data-two"')):
        assert own in text
        text = text.replace(own, other, 1)
    path = folder / "two.toml"
    path.write_text(text)
    with Node(load(path, {}), path, WORKERS) as second:
        second.wait_ready()
        yield running.node, second


def run(arguments: argparse.Namespace, folder: Path, database: str) -> bool:
    node_module.FIRST_PAUSE_SECONDS = node_module.LONGEST_PAUSE_SECONDS = 0.3  # type: ignore[misc]
    first, second = Pacs("first"), Pacs("second")
    log = folder / "log"
    destinations = (first.destination, second.destination)
    own = f'name = "one"\nlost_seconds = {LOST_SECONDS}\n'
    own += f'files_dir = "{folder / "files"}"' if database else ""
    how: dict[str, Any] = {"database": database, "own": own, "quiet_seconds": QUIET_SECONDS}
    how["receive"] = "processes = 2"
    with (
        log_into(log),
        start_node(folder, *destinations, **how) as running,
        machines(running, folder, database) as nodes,
    ):
        load = Load(folder / "sent", running, first)
        senders = [threading.Thread(target=load.send) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        began = time.monotonic()
        killed = kill_at_random(nodes, second, arguments.kills, random.Random(arguments.seed))
        load.stop.set()
        for sender in senders:
            sender.join()
        under_fire = time.monotonic() - began
        settled = wait_until_delivered(running, load.studies)
        found = list(verify(running, load, [first, second], log))
    first.stop()
    second.stop()
    status = check_deep(running.settings, repair=False)
    moment = 1e-6
    limits = Keep(sources_days=moment, results_days=moment, work_days=moment, jobs_days=moment)
    held = [order for order in purge(replace(running.settings, keep=limits)) if order.held]
    left = [path for name in FOLDERS for path in Folder(running.settings.node.files).walk(name)]
    after = check_deep(running.settings, repair=False)
    found += [
        ("files left when all is purged", len(left), bool(held) or not left),
        ("studies held back from the purge, as a stage failed", studies_of(held), True),
        ("dicom-node check --deep after that", f"exit {after}", not after),
        ("dicom-node check --deep before", f"exit {status}", not status),
        ("killed", ", ".join(f"{role} {count}" for role, count in sorted(killed.items())), True),
        (
            "seconds under fire, then until all was delivered",
            f"{under_fire:.0f}, {settled:.0f}",
            settled < GIVE_UP_SECONDS,
        ),
        ("associations cut off or refused, sent again", load.refusals, True),
    ]
    table = Table(
        "what",
        "found",
        "",
        title=f"{arguments.kills} kills, {database or 'SQLite'}, seed {arguments.seed}",
    )
    for what, value, good in found:
        table.add_row(what, str(value), "" if good else "[red]broken")
    Console(width=120).print(table)
    return all(good for _, _, good in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--database", default="", help="a URL; postgres = a server of its own; empty = SQLite"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the folder to be looked at")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        if arguments.keep:
            folder = Path(tempfile.mkdtemp(prefix="chaos-"))
            print(folder)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = arguments.database
        if database == "postgres":
            programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
            server = Postgres(programs, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            stack.callback(server.stop)
            database = server.url
        return 0 if run(arguments, folder, database) else 1


if __name__ == "__main__":
    sys.exit(main())
