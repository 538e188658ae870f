"""What is so now, as Prometheus metrics, asked of the database and the disk at each scrape.

The database knows it of all processes and machines alike. What has happened (associations, bytes, seconds
of stages) is counted where it happens instead, in ``dicom_node.counters``: rows that retention removes must
not turn a counter back, and no sum over all studies may be taken at each scrape.
"""

import time
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dicom_node import __version__, index
from dicom_node.access.certificates import of_node
from dicom_node.settings import Settings
from dicom_node.web.backlog import backlogs
from dicom_node.web.progress import dead_letters, loads, stalled
from dicom_node.web.readiness import room, workers

PREFIX = "dicom_node_"


class Gauges(Collector):
    """Everything that the database and the disk can tell."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self._settings = settings
        self._engine = engine

    def describe(self) -> list[Metric]:
        """Nothing beforehand: asking the database at the start would delay it."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of them; where the database is away, that it is."""
        yield _gauge("info", "This version", ["version"], [([__version__], 1)])
        to_server = bool(self._settings.audit.host)
        yield _gauge("audit_server", "Whether [audit] host is set", [], [([], to_server)])
        yield from self._disk()
        yield self._validities()
        try:
            found = [*self._work(), *self._workers()]
        except index.DATABASE_ERRORS:
            found = []
        yield _gauge("database_up", "Whether the database answers", [], [([], bool(found))])
        yield from found

    def _disk(self) -> Iterator[Metric]:
        try:
            disk, needed = room(self._settings)
        except OSError:
            return
        yield _gauge(
            "free_disk_bytes", "Free space on the fullest disk of the node", [], [([], disk.free)]
        )
        yield _gauge("wanted_disk_bytes", "Less is too little: receive.limits", [], [([], needed)])

    def _validities(self) -> Metric:
        ends = [([each.what, each.path], each.ends.timestamp()) for each in of_node(self._settings)]
        of = ["what", "path"]
        meaning = "Until when certificates, authorities and revocation lists hold"
        return _gauge("expiry_timestamp_seconds", meaning, of, ends)

    def _work(self) -> Iterator[Metric]:
        now, web = time.time(), self._settings.web
        names = tuple(each.name for each in self._settings.destinations)
        with self._engine.connect() as connection:
            queues = loads(connection)
            stuck = stalled(connection, now - 60 * web.stalled_minutes)
            failed = dead_letters(connection)
            due = backlogs(connection, names)
        by_state = ["queue", "state"]
        depths = [([each.queue, each.state], each.count) for each in queues]
        ages = [
            ([each.queue, each.state], max(now - each.oldest_at, 0) if each.count else 0)
            for each in queues
        ]
        yield _gauge("queue_depth", "Stages not done", by_state, depths)
        yield _gauge("queue_oldest_seconds", "Age of the oldest of them", by_state, ages)
        stuck_now = [([queue], count) for queue, count in stuck.items()]
        yield _gauge(
            "stalled", "Stages running longer than web.stalled_minutes", ["queue"], stuck_now
        )
        dead = [([word, "canceled" if off else "failed"], n) for (word, off), n in failed.items()]
        yield _gauge("dead_letters", "Stages that ended unfinished", ["stage", "outcome"], dead)
        to = ["destination"]
        lags = [([each.destination], each.lag_seconds(now)) for each in due]
        yield _gauge("delivery_lag_seconds", "Age of the oldest object still due", to, lags)
        objects = [([each.destination], each.objects) for each in due]
        yield _gauge("undelivered_objects", "Objects still due", to, objects)
        given_up = [([each.destination], each.given_up) for each in due]
        yield _gauge("declined_objects", "Objects that a destination refused", to, given_up)

    def _workers(self) -> Iterator[Metric]:
        of, all_workers = ["executor", "role"], workers(self._settings, self._engine)
        known = [each for each in all_workers if each.silent_seconds is not None]
        up = [([each.executor, each.role], int(each.is_alive)) for each in known]
        yield _gauge("worker_up", "Whether a process gives signs of life", of, up)
        starts = [([each.executor, each.role], each.starts) for each in all_workers]
        yield _gauge("worker_starts", "How often it was started", of, starts)


def registry(settings: Settings, engine: sa.Engine) -> CollectorRegistry:
    """What is so now; the counts of the processes are added by the application."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Gauges(settings, engine))
    return made


def _gauge(
    name: str, meaning: str, labels: list[str], values: Sequence[tuple[list[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, meaning, labels=labels)
    for labeled, value in values:
        family.add_metric(labeled, float(value))
    return family
