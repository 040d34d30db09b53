"""Metrics for Prometheus, queried from Redis at each scrape, and the HTTP server that serves them.

No label names a run or a todo, because a label must have few values. The server is coord's own, because
prometheus_client's keeps a thread for ever for each client that sends no request.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from coordination.backend.client import Profile, connect, reaching
from coordination.backend.keys import Keys
from coordination.breakers.records import BreakerState
from coordination.errors import CoordinationError, Unreachable
from coordination.health.records import Health
from coordination.health.store import HealthStore
from coordination.locks import LockManager
from coordination.locks.manager import LockStats
from coordination.operations.listening import Address, context_for, is_name_of_loopback
from coordination.runs.records import LIVE, RunStatus, TodoState, WaitReason
from coordination.runs.views.metrics import LiveCountReader, LiveCounts
from coordination.settings import Settings

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SCRAPE_S = 10.0
"""Time limit of a scrape, including the connection."""
SCRAPES = 20
"""Number of concurrent scrapes."""


class _Handler(WSGIRequestHandler):
    def handle(self) -> None:
        too_late = threading.Timer(SCRAPE_S, self._hang_up)
        too_late.daemon = True
        too_late.start()
        try:
            with suppress(OSError):  # the client, or the time limit, closed the connection
                super().handle()
        finally:
            too_late.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError):  # already closed
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing for a scrape."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    tls: ssl.SSLContext | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        self._places = threading.BoundedSemaphore(SCRAPES)
        super().__init__(*given, **named)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer a request; the handshake of TLS is made here, in the thread of its client."""
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(SCRAPE_S)
        with self.tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing for a client that disconnects."""


def scrape_server(
    host: str, port: int, registry: CollectorRegistry, tls: ssl.SSLContext | None = None
) -> WSGIServer:
    """Return a server that is bound to the address. `tls`: None for plain HTTP. Raises OSError."""
    family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    own = type("ScrapeServer", (_Server,), {"address_family": family, "tls": tls})
    app = make_wsgi_app(registry)
    if not Address(host=host, port=port).open_to_others:
        app = _only_for_this_machine(app)
    return make_server(host, port, app, own, handler_class=_Handler)


def _only_for_this_machine(app: WSGIApplication) -> WSGIApplication:
    """Refuse requests that were sent to another name: a page in a browser of this machine reads what its own
    name answers, and that name may lead to the loopback address.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_name_of_loopback(environ.get("HTTP_HOST", "localhost")):
            return app(environ, start_response)
        start_response("421 Misdirected Request", [("Content-Type", "text/plain")])
        return [b"this server answers for localhost only; --listen names another address\n"]

    return answer


METRICS_PORT = 9799
RESOURCES_SHOWN = 100
TIMES_MS = (100, 1000, 10_000, 60_000, 600_000, 3_600_000)
"""Upper bounds of the histograms, as in backend/lua/run/_run.lua."""
TRIPPED = [state for state in BreakerState if state is not BreakerState.CLOSED]
ENDED_RUNS = [status for status in RunStatus if status.ended]
ENDED_TODOS = [state for state in TodoState if state.ended]


def serve(url: str, settings: Settings, host: str, port: int) -> WSGIServer:
    """Answer scrapes in threads of this process until `shutdown`."""
    tls = context_for(Address(host=host, port=port), settings)
    registry = CollectorRegistry()
    registry.register(RunMetrics(url, settings))
    try:
        server = scrape_server(host, port, registry, tls)
    except OSError as error:
        raise CoordinationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            "name another with --listen [HOST:]PORT",
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


class RunMetrics(Collector):
    def __init__(self, url: str, settings: Settings) -> None:
        redis = connect(url, Profile.COMMAND, settings.connect_timeout)
        self._live_counts = LiveCountReader(redis, Keys(settings.namespace))
        self._locks = LockManager(redis, settings.namespace)
        self._health = HealthStore(redis, Keys(settings.namespace))
        self._url = url

    def collect(self) -> Iterator[Metric]:
        try:
            with reaching(self._url):
                counts, locks, health = self._live_counts.read(), self._locks.stats(), self._health.records()
        except Unreachable:
            yield _up(0)
            return
        yield _up(1)
        yield from _gauges(counts)
        yield from _of_locks(locks)
        yield from _of_cache(counts.cache)
        yield from _of_health(health)
        yield from _counters(counts.counters)
        yield from _histograms(counts.counters)

    def describe(self) -> Iterable[Metric]:
        """Return known names, so that registering does not query Redis."""
        return [_up(0)]


def _up(value: int) -> Metric:
    return GaugeMetricFamily("coord_up", "1 if Redis answered, else 0.", value)


def _gauges(counts: LiveCounts) -> Iterator[Metric]:
    yield _gauge(
        "queue_length", "Messages that no worker has taken.", ["repo"], _by_single_label(counts.queues)
    )
    yield _gauge("runs", "Runs that have not ended.", ["status"], _of(LIVE, counts.runs))
    yield _gauge("todos", "Todos of runs that have not ended.", ["state"], _of(TodoState, counts.todos))
    yield _gauge(
        "seat_waits",
        "Todos that wait for a slot of a repository.",
        ["repo"],
        _by_single_label(counts.seat_waits),
    )
    yield _gauge("workers", "Living workers that can work on a repository.", ["host", "repo"], counts.workers)
    yield _gauge("leases", "Leases held by workers.", [], {(): counts.leases})
    yield _gauge("worker_slots", "Todos that the workers of a host take at once.", ["host"], counts.slots)
    yield _gauge("disks_short", "1 if a disk of the host is short of room.", ["host"], counts.short)
    yield _gauge(
        "breakers", "Circuit breakers that are not closed.", ["state"], _of(TRIPPED, counts.breakers)
    )
    yield _gauge("poison_entries", "Unreadable queue entries that were set aside.", [], {(): counts.poison})


SINGLE = {
    "leases_lost": "Leases that expired because a worker was lost.",
    "todos_cached": "Todos that reused a cached result.",
    "todos_poisoned": "Todos that failed because they lost their worker too often.",
    "stale_writes": "Refused writes with an old fence.",
    "runs_stuck": "Runs that cannot continue because of a bug in coord.",
    "clock_steps": "Detected changes of the server's clock.",
}
"""Counters without labels."""
AGENTS_SHOWN = 100
OF_AGENTS = (
    ("agent_rounds", "Starts of the programs of agents.", ("rounds",), 1),
    ("agent_tokens", "Tokens that agents have used.", ("input", "output"), 1),
    ("agent_usd", "USD that agents have used, as far as it is known.", ("micro_usd",), 1_000_000),
)
"""Counters by agent: name, help, their parts in `<ns>:counters`, and parts of a unit."""


def _counters(counters: Mapping[str, int]) -> Iterator[Metric]:
    yield _counter("runs_started", "Runs started.", [], {(): counters.get("runs_started", 0)})
    yield _counter("runs_ended", "Runs ended.", ["status"], _of(ENDED_RUNS, counters, "runs_"))
    yield _counter("todos_ended", "Todos ended.", ["state"], _of(ENDED_TODOS, counters, "todos_"))
    for name, words in SINGLE.items():
        yield _counter(name, words, [], {(): counters.get(name, 0)})
    for name, words, parts, unit in OF_AGENTS:
        used: dict[tuple[str, ...], float] = {}
        for agent in _agents_of(counters):
            used[(agent,)] = sum(counters.get(f"agent.{agent}.{part}", 0) for part in parts) / unit
        yield _counter(name, words, ["agent"], used)


def _agents_of(counters: Mapping[str, int]) -> list[str]:
    names = {name.split(".", 1)[1].rpartition(".")[0] for name in counters if name.startswith("agent.")}
    return sorted(names)[:AGENTS_SHOWN]


def _of_locks(locks: LockStats) -> Iterator[Metric]:
    """Yield metrics of locks and resources. Locks are only counted, because scripts invent names; the first
    100 resources get a label.
    """
    yield _gauge("locks_held", "Held locks, resources and slots.", [], {(): locks.held})
    yield _gauge("lock_waits", "Requests that wait for a lock, resource or slot.", [], {(): locks.waiting})
    of = dict(sorted(locks.resources.items())[:RESOURCES_SHOWN])
    for name, words, kind, field in OF_A_RESOURCE:
        yield kind(name, words, ["resource"], _by_single_label({n: getattr(r, field) for n, r in of.items()}))


def _of_health(records: Iterable[Health]) -> Iterator[Metric]:
    found = tuple(records)
    states: Counter[tuple[str, ...]] = Counter((one.subject.kind.value, one.state.value) for one in found)
    recovered: Counter[tuple[str, ...]] = Counter()
    longest: dict[tuple[str, ...], float] = {}
    for one in found:
        kind = (one.subject.kind.value,)
        recovered[kind] += one.recovered
        if one.recovery_s is not None:
            longest[kind] = max(longest.get(kind, 0.0), one.recovery_s)
    yield _gauge("health", "Subjects of health.", ["kind", "state"], states)
    yield _gauge("recoveries", "Recoveries that have helped.", ["kind"], recovered)
    yield _gauge("recovery_seconds", "Longest of the last recoveries of all subjects.", ["kind"], longest)


def _histograms(counters: Mapping[str, int]) -> Iterator[Metric]:
    """Yield the times that steps count: `time.NAME.BOUND` for each upper bound in ms, and `time.NAME.sum`."""
    took = HistogramMetricFamily("coord_todo_seconds", "Durations of todos that succeeded.")
    _fill(took, [], counters, "todo")
    waited = HistogramMetricFamily("coord_wait_seconds", "Waits of parked todos.", labels=["reason"])
    for reason in WaitReason:
        _fill(waited, [reason.value], counters, f"wait:{reason}")
    yield took
    yield waited


def _fill(family: HistogramMetricFamily, labels: list[str], counters: Mapping[str, int], name: str) -> None:
    total, buckets = 0, []
    for bound in (*TIMES_MS, "inf"):
        total += counters.get(f"time.{name}.{bound}", 0)
        buckets.append(("+Inf" if bound == "inf" else str(int(bound) / 1000), total))
    family.add_metric(labels, buckets, counters.get(f"time.{name}.sum", 0) / 1000)


def _of_cache(cache: Mapping[str, int]) -> Iterator[Metric]:
    yield _gauge("cache_bytes", "Bytes of the context cache in Redis.", [], {(): cache.get("bytes", 0)})
    yield _gauge("cache_entries", "Entries of the context cache.", [], {(): cache.get("entries", 0)})
    hits: Values = {("process",): cache.get("local_hits", 0), ("redis",): cache.get("hits", 0)}
    yield _counter("cache_hits", "Reads that found a value, by layer.", ["layer"], hits)
    yield _counter("cache_misses", "Reads that found no value.", [], {(): cache.get("misses", 0)})
    yield _counter(
        "cache_evictions", "Entries evicted because the cache was full.", [], {(): cache.get("evictions", 0)}
    )


Values = Mapping[tuple[str, ...], float]
"""Figure by the values of the labels, in their order."""


def _by_single_label(counts: Mapping[str, int]) -> Values:
    return {(name,): count for name, count in counts.items()}


def _of(names: Iterable[str], counts: Mapping[str, int], prefix: str = "") -> Values:
    """Return a value for each name, including zeros, because a rate needs a start."""
    return {(str(name),): counts.get(f"{prefix}{name}", 0) for name in names}


def _gauge(name: str, words: str, labels: list[str], values: Values) -> Metric:
    return _filled(GaugeMetricFamily(f"coord_{name}", words, labels=labels), values)


def _counter(name: str, words: str, labels: list[str], values: Values) -> Metric:
    return _filled(CounterMetricFamily(f"coord_{name}", words, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


OF_A_RESOURCE = (
    ("resource_capacity", "Capacity of a resource.", _gauge, "capacity"),
    ("resource_used", "Units of a resource that are held.", _gauge, "used"),
    ("resource_waits", "Requests that wait for a resource.", _gauge, "waiting"),
    ("resource_grants", "Requests that were granted a resource.", _counter, "granted"),
)
"""Name, help and kind of each figure of a resource, and its field of `ResourceStats`."""
