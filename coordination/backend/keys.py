"""Names of all Redis keys of coord. No other file spells a key; steps get keys in KEYS, or use LUA_NAMES.

`<ns>` is the namespace (a setting), `member` is `<run> <todo>`. `<what>` is a typed name: `lock:x`,
`resource:x`, `seat:<repo>` (the right to work in a repository), `seat:<repo>:in-place` (in its path itself).

| key                      | type   | content | lifetime |
|--------------------------|--------|---------|----------|
| `<ns>:runs`              | zset   | run id, scored by its start in ms | for ever |
| `<ns>:live`              | zset   | runs that have not ended | until the run ends |
| `<ns>:half-undone` | zset | runs with a failed compensation, by their end in ms | until all is undone |
| `<ns>:leases`            | zset   | member, by the expiry of its lease in ms | claim to settle |
| `<ns>:holders`           | hash   | member → fence of the attempt that may settle it | claim to settle |
| `<ns>:stops`             | set    | members whose worker is asked to stop them | cancel to settle |
| `<ns>:timers`            | zset   | member, by its due time in ms | until due |
| `<ns>:fence`             | string | the last fence issued | for ever |
| `<ns>:epoch`             | hash   | `server` (its run id), `n` (restarts seen), `set_by` … | for ever |
| `<ns>:workers`           | zset   | worker id, by its last heartbeat in ms | a day |
| `<ns>:worker:<id>`       | string | JSON: host, pid, version, repos, places, jobs … | three heartbeats |
| `<ns>:version`           | string | the version of coord of all workers here | for ever |
| `<ns>:ecosystem`         | string | id of the ecosystem whose workers and runs are here | until replaced |
| `<ns>:counters` | hash | `leases_lost`, `todos_poisoned`, `todos_<state>` … | for ever (they grow) |
| `<ns>:<what>`            | string | request that holds the lock or seat exclusively | ttl; until released |
| `<ns>:lock-shares:<what>` | zset   | `amount request` of each share, by expiry in ms | until released |
| `<ns>:lock-queue:<what>` | zset   | requests that wait for it, by rank in µs | until granted or gone |
| `<ns>:lock-request:<id>` | hash | state wants rank ttl fence since, owner's fields | ttl; ttl of its place |
| `<ns>:lock-party:<party>` | set    | the requests of one owner | until released or swept |
| `<ns>:lock-parties`      | set    | owners that hold or wait for something | until released or swept |
| `<ns>:lock-wake:<id>`    | list   | a fence or a verdict, for a request that waited | a minute |
| `<ns>:lock-done:<party>` | string | the request that the owner released last | 10 s |
| `<ns>:lock-stats:<what>` | hash   | used_ms, granted, waited_ms, longest_ms … of a resource | for ever |
| `<ns>:lock-guard:<what>` | hash   | newest fence, value and the fence that wrote it, refused | for ever |
| `<ns>:lock-names`        | set    | each `<what>` that is held or waited for | until idle |
| `<ns>:lock-released`     | stream | forced releases: lock, former holder, actor | the last 1,000 |
| `<ns>:lock-capacities`   | hash   | `resource:x` → its capacity | until declared 0 |
| `<ns>:lock-epoch`        | string | creation time of this server's data, in µs | for ever |
| `<ns>:breakers` | hash | breaker → state, unless at rest (closed without failures) | until at rest |
| `<ns>:breaker:<name>`    | hash   | until, probe, probe_until, why, since, opened_at … | until at rest |
| `<ns>:breaker-failures:<name>` | list   | `ms who`: the last failures | its window; until open |
| `<ns>:breaker-behind:<name>` | zset   | members parked behind it, by start in ms | until at rest |
| `<ns>:breaker-resets`    | stream | manual resets: breaker, why it was open, actor | the last 1,000 |
| `<ns>:cache-contexts`    | zset   | context that has entries, by 0 | until it is empty |
| `<ns>:cache-generations` | hash   | context → number of its last write | until it is empty |
| `<ns>:cache-entries:<context>` | hash   | key → `digest bytes expiry_ms ttl_ms`; `-` | its ttl |
| `<ns>:cache-values` | hash | SHA-256 → the value: equal values are stored once | until no entry has it |
| `<ns>:cache-refs`        | hash   | SHA-256 → number of entries with this value | until no entry has it |
| `<ns>:cache-order`       | zset   | context and key, in order of eviction | as long as the entry |
| `<ns>:cache-expiry`      | zset   | context and key, by its expiry in ms | as long as the entry |
| `<ns>:cache-uses`        | hash   | context and key → number of uses, under `lfu` | as long as the entry |
| `<ns>:cache-facts`       | hash   | bytes, writes, ticks, floor, hits, misses, evictions … | for ever |
| `<ns>:durations:<repo> <kind>` | list   | ms of the last 25 similar todos; kind as in `place` | 90 days |
| `<ns>:gateway-tokens`    | hash   | user → JSON: recipient, SHA-256 of token, since when | until revoked |
| `<ns>:gateway-news`      | pubsub | a recipient whose token was revoked, or who connected elsewhere | — |
| `<ns>:recipients`        | zset   | recipient, by when it was last active in ms | until forgotten |
| `<ns>:inbox-stream:<recipient>` | stream | waiting or in flight: at, head, body | until acknowledged |
| `<ns>:inbox-ready:<…>`   | zset   | waiting tickets, by priority, then arrival | until delivered |
| `<ns>:inbox-pending:<…>` | zset   | ticket, by when it may be taken over in ms | until acknowledged |
| `<ns>:inbox-deliveries:<…>` | hash | ticket → deliveries, failed ones, begun, reader | until acknowledged |
| `<ns>:inbox-lanes:<…>`   | hash   | sender → messages in flight, their reader | until acknowledged |
| `<ns>:inbox-facts:<…>` | hash | epoch, seq, trimmed …; `last <sender>`: its last number | until forgotten |
| `<ns>:inbox-seen:<…>`    | zset   | `sender/number` of callers' own numbers, by offset | last 10,000 |
| `<ns>:mail:<recipient>`  | pubsub | a notice that a message came, while a reader waits | — |
| `<ns>:topic:<name>`      | set    | the recipients that subscribed | until unsubscribed |
| `<ns>:live:<topic>`      | pubsub | the events of a topic: ms, id, type, payload | — |
| `<ns>:readers`           | zset   | `recipient reader host pid`, by last activity in ms | an hour |
| `<ns>:dead-letters`      | stream | messages that exceeded their limit of deliveries | the last 10,000 |
| `<ns>:envelope`          | hash   | `queue`, `message`, `words`: template of a message | for ever |
| `<ns>:served`            | zset   | run with queued messages, by its last turn | until it has none |
| `<ns>:apart:<key>`       | any    | former content of a key that held another type | a week |
| `<ns>:poison`            | list   | unreadable queue entries | the last 1,000 |
| `<ns>:restricted:<repos>:requests` | pubsub | requests of restricted workers of these repos | — |
| `…:<repos>:reply:<id>`   | list   | the reply to one request | a minute |
| `…:<repos>:unacked*`, `…:poison` | — | as `<ns>.unacked*` and `<ns>:poison`, of these workers | as there |
| `<ns>:commits` | hash | todo → `commit run repo` of its last success, … | until pending in the file |
| `<ns>:errands`           | hash   | id → JSON of a request to all workers (`clean`) | until answered |
| `<ns>:errand:<id>`       | hash   | worker id → JSON of its reply | until collected |
| `<ns>:run:<id>:meta` | hash | plan_id, status, strategy, `stuck`, `piece`, `n.<state>` … | as the run |
| `…:spec`                 | hash   | todo → JSON of its action; never changes | as the run |
| `…:place`                | hash   | todo → `order level repo kind priority wants` (below) | as the run |
| `…:children`             | hash   | todo → its successors | as the run |
| `…:levels`               | hash   | level → its todos, most urgent first | as the run |
| `…:state`                | hash   | todo → state | as the run |
| `…:facts`                | hash   | `<todo> <fact>` → value: attempt, fence, worker … | as the run |
| `…:pending`              | hash   | todo → number of predecessors that have not succeeded | as the run |
| `…:opened`               | hash   | level → number of its todos that have not settled | as the run |
| `…:ready`                | zset   | the next todo of each free repository, by its turn in ms | as the run |
| `…:queued`               | zset   | `repo|turn|todo`: ready, behind another todo of its repo | as the run |
| `…:busy`                 | hash   | repo → the todo that occupies it | as the run |
| `…:owed`                 | set    | todos whose message is used up: the next grant sends one | as the run |
| `…:stranded`             | hash   | repo → the todo that waits for its pinned host | as the run |
| `…:sent`                 | zset   | dispatched, unclaimed todos, by dispatch in ms | as the run |
| `…:tips`                 | hash   | repo → the base commit of its next attempt | as the run |
| `…:output`               | hash   | todo → JSON output for its dependents | as the run |
| `…:checkpoint`           | hash   | running todo → JSON output so far | as the run |
| `…:parents`              | hash   | todo → its predecessors; in a rollback | as the run |
| `…:behind`               | hash   | todo → dependents still to be undone; in a rollback | as the run |
| `…:posted`               | zset   | queue → turn of the todo whose message is in it | as the run |
| `…:events`               | stream | the run's events, in order | the last 100,000 |
| `…:log:<todo>`           | stream | head and tail of each attempt: attempt text at end … | as the run |
| `…:bundle:<repo>` | hash | commit → its git bundle; `… since`, `… elsewhere`; `published` | as the run |

`place` holds the todo's order in ms and its kind: `shell`, or `shell:<labels>`. `-` in `cache-entries` hides
the value of an outer context. `inbox-seen` is also limited by the retention. A todo's `commits` is `commit
run repo` of its last success, `accepted`, or `undone run repo`, until the todo is pending in the file or done
again. `breakers` holds `closed` for a closed breaker with failures. `served` is ordered by when a worker took
a message of the run last.

Celery's own keys: queues `<ns>.repo.<name>`, `<ns>.repo.<name>@<host>` and `<ns>.control`; `<ns>.unacked*`;
results under `<ns>.celery:`. Kombu's keys, the same for all namespaces: `_kombu.binding*`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

TYPES: Mapping[str, str] = {
    "zset": (
        "runs live half-undone leases timers workers lock-shares:* lock-queue:* breaker-behind:* "
        "cache-contexts cache-order cache-expiry recipients inbox-ready:* inbox-pending:* inbox-seen:* "
        "readers served run:*:ready run:*:queued run:*:sent run:*:posted"
    ),
    "hash": (
        "holders epoch counters lock-request:* lock-stats:* lock-guard:* lock-capacities breakers breaker:* "
        "cache-generations cache-entries:* cache-values cache-refs cache-uses cache-facts gateway-tokens "
        "commits inbox-deliveries:* inbox-lanes:* inbox-facts:* envelope errands errand:* run:*:meta "
        "run:*:spec run:*:place run:*:children run:*:levels run:*:state run:*:facts run:*:pending "
        "run:*:opened run:*:busy run:*:stranded run:*:tips run:*:output run:*:checkpoint run:*:parents "
        "run:*:behind run:*:bundle:*"
    ),
    "set": "stops lock-party:* lock-parties lock-names topic:* run:*:owed",
    "string": "fence worker:* version ecosystem lock:* resource:* seat:* lock-done:* lock-epoch",
    "list": "lock-wake:* breaker-failures:* poison durations:*",
    "stream": "lock-released breaker-resets inbox-stream:* dead-letters run:*:events run:*:log:*",
}
"""Type → the keys of that type in the table above, without `<ns>:`; `*` stands for the variable part."""


def type_of(name: str) -> str | None:
    """Return the type of a key (given without its namespace), or None if the table has no such key."""
    return next((kind for kind, fits in _FITS if fits.fullmatch(name)), None)


def _fits(names: str) -> re.Pattern[str]:
    """Return the pattern of names with `*`. A `*` at the end also matches colons (todo ids, recipients)."""
    patterns = (re.escape(name).replace(r"\*:", "[^:]+:").replace(r"\*", "(?s:.+)") for name in names.split())
    return re.compile("|".join(patterns))


_FITS = tuple((kind, _fits(names)) for kind, names in TYPES.items())
APART = "apart:"
"""Prefix for the name of a key that held another type and was moved aside."""


@dataclass(frozen=True)
class RunKeys:
    """The keys of one run. `prefix` is `<ns>:run:<id>`."""

    prefix: str

    meta = property(lambda self: f"{self.prefix}:meta")
    spec = property(lambda self: f"{self.prefix}:spec")
    place = property(lambda self: f"{self.prefix}:place")
    children = property(lambda self: f"{self.prefix}:children")
    levels = property(lambda self: f"{self.prefix}:levels")
    state = property(lambda self: f"{self.prefix}:state")
    facts = property(lambda self: f"{self.prefix}:facts")
    pending = property(lambda self: f"{self.prefix}:pending")
    busy = property(lambda self: f"{self.prefix}:busy")
    tips = property(lambda self: f"{self.prefix}:tips")
    output = property(lambda self: f"{self.prefix}:output")
    checkpoint = property(lambda self: f"{self.prefix}:checkpoint")
    posted = property(lambda self: f"{self.prefix}:posted")
    events = property(lambda self: f"{self.prefix}:events")

    def log(self, todo: str) -> str:
        return f"{self.prefix}:log:{todo}"

    def bundle(self, repo: str) -> str:
        return f"{self.prefix}:bundle:{repo}"

    @cached_property
    def own(self) -> list[str]:
        """The run's keys, in the order in which lua/run/_run.lua unpacks them."""
        names = (
            "meta spec place children levels state facts pending opened ready queued busy owed stranded sent "
            "tips output checkpoint parents behind posted events"
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
    "party": "lock-party:",
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
    "fence": "fence",
    "leases": "leases",
    "timers": "timers",
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
    "commits": "commits",
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
    """The keys of locks. `head` is `<ns>:`; `what` is a typed name, `lock:x`, `resource:x` or `seat:x`."""

    head: str

    names = _one("names")
    parties = _one("parties")
    released = _one("released")
    capacities = _one("capacities")
    epoch = _one("epoch")
    fence = _one("fence")
    shares = _each("shares")
    queue = _each("queue")
    request = _each("request")
    party = _each("party")
    wake = _each("wake")
    done = _each("done")
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
        self.workers = f"{namespace}:workers"
        self.locks = LockKeys(f"{namespace}:")
        self.breakers = BreakerKeys(f"{namespace}:")
        self.gateway = GatewayKeys(f"{namespace}:")
        self.cache = CacheKeys(f"{namespace}:")
        self.messages = MessageKeys(f"{namespace}:")
        self.version = f"{namespace}:version"
        self.ecosystem = f"{namespace}:ecosystem"
        self.counters = f"{namespace}:counters"
        self.poison = f"{namespace}:poison"
        self.served = f"{namespace}:{LUA_NAMES['served']}"
        self.envelope = f"{namespace}:{LUA_NAMES['envelope']}"
        self.errands = f"{namespace}:errands"
        self.commits = f"{namespace}:{LUA_NAMES['commits']}"
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

    def errand(self, errand_id: str) -> str:
        return f"{self.namespace}:errand:{errand_id}"

    def durations(self, repo: str, kind: str) -> str:
        """Return the key of the durations of similar todos; `kind` as in `place`."""
        return f"{self.namespace}:{LUA_NAMES['durations']}{repo} {kind}"

    def queue(self, repo: str, host: str | None = None) -> str:
        """Return the queue of a repository; with a host, the queue that only this host's workers read."""
        return f"{self.namespace}.repo.{repo}@{host}" if host else f"{self.namespace}.repo.{repo}"


SEAT = "seat:"


def seat(repo: str, *, in_place: bool = False) -> str:
    """Return the typed name of a repository's seat, or of the seat in its path itself."""
    return f"{SEAT}{repo}:in-place" if in_place else f"{SEAT}{repo}"


def lock(name: str) -> str:
    """Return the typed name of a lock."""
    return f"lock:{name}"


def resource(name: str) -> str:
    """Return the typed name of a resource."""
    return f"resource:{name}"


def member(run_id: str, todo_id: str) -> str:
    return f"{run_id} {todo_id}"


def split_member(value: str) -> tuple[str, str]:
    run_id, _, todo_id = value.partition(" ")
    return run_id, todo_id
