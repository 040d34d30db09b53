"""Names of all Redis keys of coord. No other file spells a key; steps get keys in KEYS, or use LUA_NAMES.

`key_table.py` documents each key: its type, content and lifetime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

APART = "apart:"
"""Prefix for the name of a key that held another type and was moved aside."""


@dataclass(frozen=True)
class RunKeys:
    """The keys of one run. `prefix` is `<ns>:run:<id>`."""

    prefix: str

    meta = property(lambda self: f"{self.prefix}:meta")
    spec = property(lambda self: f"{self.prefix}:spec")
    descriptor = property(lambda self: f"{self.prefix}:descriptor")
    children = property(lambda self: f"{self.prefix}:children")
    levels = property(lambda self: f"{self.prefix}:levels")
    state = property(lambda self: f"{self.prefix}:state")
    facts = property(lambda self: f"{self.prefix}:facts")
    pending = property(lambda self: f"{self.prefix}:pending")
    occupant = property(lambda self: f"{self.prefix}:occupant")
    tips = property(lambda self: f"{self.prefix}:tips")
    output = property(lambda self: f"{self.prefix}:output")
    checkpoint = property(lambda self: f"{self.prefix}:checkpoint")
    results = property(lambda self: f"{self.prefix}:results")
    posted = property(lambda self: f"{self.prefix}:posted")
    events = property(lambda self: f"{self.prefix}:events")
    order = property(lambda self: f"{self.prefix}:order")

    def log(self, todo: str) -> str:
        return f"{self.prefix}:log:{todo}"

    def bundle(self, repo: str) -> str:
        return f"{self.prefix}:bundle:{repo}"

    @cached_property
    def own(self) -> list[str]:
        """The run's keys, in the order in which lua/run/_run.lua unpacks them; no step reads the last one."""
        names = (
            "meta spec descriptor children levels state facts pending opened ready queued occupant unsent "
            "stranded sent tips output checkpoint parents behind posted events results order"
        )
        return [f"{self.prefix}:{name}" for name in names.split()]


@dataclass(frozen=True)
class RestrictedKeys:
    """The keys of the restricted workers of some repositories. `prefix` is `<ns>:restricted:<repos>`."""

    prefix: str

    requests = property(lambda self: f"{self.prefix}:requests")
    unacked = property(lambda self: f"{self.prefix}:unacked")
    poison = property(lambda self: f"{self.prefix}:poison")

    def reply(self, request: str) -> str:
        return f"{self.prefix}:reply:{request}"


LUA_NAMES: Mapping[str, str] = {
    "shares": "lock-shares:",
    "queue": "lock-queue:",
    "request": "lock-request:",
    "party": "lock-owner:",
    "parties": "lock-parties",
    "wake": "lock-wake:",
    "done": "lock-done:",
    "stats": "lock-stats:",
    "guard": "lock-guard:",
    "names": "lock-names",
    "released": "lock-released",
    "capacities": "lock-capacities",
    "epoch": "lock-epoch",
    "half_undone": "half-undone",
    "unwritten": "unwritten:",
    "fence": "fence",
    "disconnected": "disconnected",
    "leases": "leases",
    "timers": "timers",
    "events": "events",
    "events_asked": "events-asked",
    "event_requests": "event-requests",
    "event_positions": "event-positions",
    "breakers": "breakers",
    "breaker": "breaker:",
    "breaker_failures": "breaker-failures:",
    "breaker_behind": "breaker-behind:",
    "breaker_resets": "breaker-resets",
    "inbox": "inbox-",
    "mail": "mail:",
    "topic": "topic:",
    "live": "live:",
    "recipients": "recipients",
    "readers": "readers",
    "served": "served",
    "envelope": "envelope",
    "dead_letters": "dead-letters",
    "durations": "durations:",
    "agent_use": "agent-use:",
    "agent_use_of_plans": "agent-use-of-plans",
    "commits": "commits",
    "changes": "changes:",
    "adopted": "adopted:",
    "change_sets": "change-sets",
    "cache_contexts": "cache-contexts",
    "cache_generations": "cache-generations",
    "cache_entries": "cache-entries:",
    "cache_values": "cache-values",
    "cache_refs": "cache-refs",
    "cache_order": "cache-order",
    "cache_expiry": "cache-expiry",
    "cache_uses": "cache-uses",
    "cache_facts": "cache-facts",
}
"""Names that Lua steps append to the namespace to build keys themselves: their table KEY."""


def _one(part: str) -> property:
    return property(lambda self: self.head + LUA_NAMES[part])


def _each(part: str, of: str = "") -> Callable[[Any, str], str]:
    """Return a method that returns the key of a name. `of`: the rest of the key's prefix after the part."""
    return lambda self, name: f"{self.head}{LUA_NAMES[part]}{of}{name}"


@dataclass(frozen=True)
class LockKeys:
    """The keys of locks. `head` is `<ns>:`; `what` is a typed name, `lock:x`, `resource:x` or `slot:x`."""

    head: str

    names = _one("names")
    parties = _one("parties")
    released = _one("released")
    capacities = _one("capacities")
    epoch = _one("epoch")
    shares = _each("shares")
    queue = _each("queue")
    request = _each("request")
    party = _each("party")
    wake = _each("wake")
    stats = _each("stats")
    guard = _each("guard")

    def holder(self, what: str) -> str:
        return f"{self.head}{what}"


@dataclass(frozen=True)
class BreakerKeys:
    """The keys of circuit breakers. `head` is `<ns>:`; a breaker is `repo:x` or `resource:x`."""

    head: str

    all = _one("breakers")
    resets = _one("breaker_resets")
    of = _each("breaker")
    failures = _each("breaker_failures")
    behind = _each("breaker_behind")


@dataclass(frozen=True)
class EventKeys:
    """The keys of the events of a namespace. `head` is `<ns>:`."""

    head: str

    lasting = _one("events")
    asked = _one("events_asked")
    requests = _one("event_requests")
    positions = _one("event_positions")


@dataclass(frozen=True)
class CacheKeys:
    """The keys of the context cache. `head` is `<ns>:`; a context is a name of cache/contexts.py."""

    head: str

    contexts = _one("cache_contexts")
    generations = _one("cache_generations")
    values = _one("cache_values")
    refs = _one("cache_refs")
    order = _one("cache_order")
    expiry = _one("cache_expiry")
    uses = _one("cache_uses")
    facts = _one("cache_facts")
    entries = _each("cache_entries")


@dataclass(frozen=True)
class GatewayKeys:
    """The keys of the WebSocket gateway. `head` is `<ns>:`."""

    head: str

    tokens = property(lambda self: f"{self.head}gateway-tokens")
    news = property(lambda self: f"{self.head}gateway-news")


@dataclass(frozen=True)
class MessageKeys:
    """The keys of messages. `head` is `<ns>:`; a recipient is `kind:name`."""

    head: str

    recipients = _one("recipients")
    readers = _one("readers")
    dead_letters = _one("dead_letters")
    mail = _each("mail")
    live = _each("live")
    ready = _each("inbox", "ready:")
    pending = _each("inbox", "pending:")
    deliveries = _each("inbox", "deliveries:")
    facts = _each("inbox", "facts:")

    @property
    def patterns(self) -> tuple[str, ...]:
        """Patterns of all these keys, and the head that steps get; for a user's ACL."""
        many = (f"{self.head}{LUA_NAMES[name]}*" for name in ("inbox", "topic"))
        return (self.head, *many, self.recipients, self.readers, self.dead_letters)


class Keys:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.runs = f"{namespace}:runs"
        self.live = f"{namespace}:live"
        self.half_undone = f"{namespace}:{LUA_NAMES['half_undone']}"
        self.leases = f"{namespace}:leases"
        self.holders = f"{namespace}:holders"
        self.stops = f"{namespace}:stops"
        self.timers = f"{namespace}:timers"
        self.fence = f"{namespace}:fence"
        self.epoch = f"{namespace}:epoch"
        self.notices = f"{namespace}:notices"
        self.workers = f"{namespace}:workers"
        self.services = f"{namespace}:services"
        self.locks = LockKeys(f"{namespace}:")
        self.breakers = BreakerKeys(f"{namespace}:")
        self.gateway = GatewayKeys(f"{namespace}:")
        self.events = EventKeys(f"{namespace}:")
        self.cache = CacheKeys(f"{namespace}:")
        self.messages = MessageKeys(f"{namespace}:")
        self.version = f"{namespace}:version"
        self.ecosystem = f"{namespace}:ecosystem"
        self.server = f"{namespace}:server"
        self.counters = f"{namespace}:counters"
        self.poison = f"{namespace}:poison"
        self.served = f"{namespace}:{LUA_NAMES['served']}"
        self.envelope = f"{namespace}:{LUA_NAMES['envelope']}"
        self.cleanup_jobs = f"{namespace}:cleanup-jobs"
        self.health = f"{namespace}:health"
        self.health_monitor = f"{namespace}:health-monitor"
        self.health_remotes = f"{namespace}:health-remotes"
        self.disconnected = f"{namespace}:{LUA_NAMES['disconnected']}"
        self.commits = f"{namespace}:{LUA_NAMES['commits']}"
        self.change_sets = f"{namespace}:{LUA_NAMES['change_sets']}"
        self.all_requests = f"{namespace}:restricted:*:requests"
        self.queue_prefix = f"{namespace}."
        self.control_queue = f"{namespace}.control"
        self.unacked = f"{namespace}.unacked"
        self.celery_prefix = f"{namespace}.celery:"

    def run(self, run_id: str) -> RunKeys:
        return RunKeys(f"{self.namespace}:run:{run_id}")

    def restricted(self, repos: Iterable[str]) -> RestrictedKeys:
        """Return the keys of restricted workers. Access to them is the right to act for the repositories."""
        return RestrictedKeys(f"{self.namespace}:restricted:{','.join(sorted(repos))}")

    def asking(self, channel: str) -> frozenset[str]:
        """Return the repositories for which a request on this channel may act."""
        return frozenset(
            channel.removeprefix(f"{self.namespace}:restricted:").removesuffix(":requests").split(",")
        )

    def step(self, run_id: str) -> list[str]:
        """Return the KEYS of every step in lua/run."""
        shared = [self.runs, self.live, self.leases, self.holders, self.stops, self.timers]
        return [*self.run(run_id).own, *shared, self.counters, self.locks.head]

    def worker(self, worker_id: str) -> str:
        return f"{self.namespace}:worker:{worker_id}"

    def changes(self, change_set: str) -> str:
        """Return the key of a change set."""
        return f"{self.namespace}:{LUA_NAMES['changes']}{change_set}"

    def adopted(self, change_set: str, repo: str) -> str:
        """Return the key of the bundles of adopted commits of a change set."""
        return f"{self.namespace}:{LUA_NAMES['adopted']}{repo}:{change_set}"

    def forge_calls(self, host: str, hour: str) -> str:
        """Return the key of the number of calls to a forge in an hour."""
        return f"{self.namespace}:forge-calls:{host}:{hour}"

    def forge_waiting(self, host: str) -> str:
        """Return the key of the pull requests at a forge that landings wait for."""
        return f"{self.namespace}:forge-waiting:{host}"

    def unwritten(self, file: str) -> str:
        """Return the key of the ended runs whose results are not in that file yet."""
        return f"{self.namespace}:{LUA_NAMES['unwritten']}{file}"

    def cleanup_answers(self, job_id: str) -> str:
        return f"{self.namespace}:cleanup-answers:{job_id}"

    def durations(self, repo: str, kind: str) -> str:
        """Return the key of the durations of similar todos; `kind` as in `descriptor`."""
        return f"{self.namespace}:{LUA_NAMES['durations']}{repo} {kind}"

    def agent_use(self, day: int) -> str:
        """Return the key of what agents have used on a day, a number of days since 1970 (UTC)."""
        return f"{self.namespace}:{LUA_NAMES['agent_use']}{day}"

    def queue(self, repo: str, host: str | None = None) -> str:
        """Return the queue of a repository; with a host, the queue that only this host's workers read."""
        return f"{self.namespace}.repo.{repo}@{host}" if host else f"{self.namespace}.repo.{repo}"


SLOT = "slot:"


def repo_slot(repo: str, *, in_place: bool = False) -> str:
    """Return the typed name of a repository's slot, or of the slot in its path itself."""
    return f"{SLOT}{repo}:in-place" if in_place else f"{SLOT}{repo}"


def landing(repo: str) -> str:
    """Return the typed name of the lock that one landing at a time holds in a repository."""
    return f"land:{repo}"


def lock(name: str) -> str:
    """Return the typed name of a lock."""
    return f"lock:{name}"


def resource(name: str) -> str:
    """Return the typed name of a resource."""
    return f"resource:{name}"


def tip_field(repo: str) -> str:
    """Return the field of a repository's tip in the hash of signed results. A todo's name has no space."""
    return f"tip {repo}"


def before_field(repo: str) -> str:
    """Return the field, in the same hash, of the tip that the change set had there before the run."""
    return f"before {repo}"


def member(run_id: str, todo_id: str) -> str:
    return f"{run_id} {todo_id}"


def split_member(value: str) -> tuple[str, str]:
    run_id, _, todo_id = value.partition(" ")
    return run_id, todo_id
