"""Every Redis key of coord. No other file spells one; scripts get them whole, in KEYS, or find their way by LUA_NAMES.

`<ns>` is the namespace (a setting), `member` is `<run> <todo>`. `<what>` is a typed name: `lock:x`, `resource:x`, `seat:<repo>` (the
right to work in a repository) or `seat:<repo>:in-place` (in the path itself).

| key                      | type   | content                                                   | lifetime                 |
|--------------------------|--------|-----------------------------------------------------------|--------------------------|
| `<ns>:runs`              | zset   | run id, by its start in ms                                | for ever                 |
| `<ns>:live`              | zset   | the runs that have not ended                              | until the run ends       |
| `<ns>:half-undone`       | zset   | runs of which something could not be undone, by when they ended in ms | until all of it is |
| `<ns>:leases`            | zset   | member, by the expiry of its lease in ms                  | claim to settle          |
| `<ns>:holders`           | hash   | member → fence of who may settle it                       | claim to settle          |
| `<ns>:stops`             | set    | members whose executor is asked to stop                   | cancel to settle         |
| `<ns>:timers`            | zset   | member, by when it is due in ms                           | until due                |
| `<ns>:fence`             | string | the last fence given out                                  | for ever                 |
| `<ns>:epoch`             | hash   | `server` (its run id), `n` (restarts seen), `set_by` …    | for ever                 |
| `<ns>:workers`           | zset   | worker id, by when it was last heard of in ms             | a day                    |
| `<ns>:worker:<id>`       | string | JSON: host, pid, version, repos, places, jobs …           | three heartbeats         |
| `<ns>:version`           | string | the version of coord that all workers here have           | for ever                 |
| `<ns>:ecosystem`         | string | the id of the ecosystem whose workers and runs are here   | until another takes over |
| `<ns>:counters`          | hash   | `leases_lost`, `todos_poisoned`, `todos_<state>` …        | for ever (they grow)     |
| `<ns>:<what>`            | string | request that holds the lock or the seat alone             | ttl; until released      |
| `<ns>:lock-shares:<what>` | zset  | `amount request` of those who share it, by expiry in ms   | until released           |
| `<ns>:lock-queue:<what>` | zset   | requests that wait for it, by rank in µs                  | until granted or gone    |
| `<ns>:lock-request:<id>` | hash   | state wants rank ttl fence since, and its owner's fields  | ttl; a waiting one's place |
| `<ns>:lock-party:<party>` | set   | the requests of one owner                                 | until released, or swept |
| `<ns>:lock-parties`      | set    | the owners that hold something or wait                    | until released, or swept |
| `<ns>:lock-wake:<id>`    | list   | a fence or a verdict, for a request that waited           | a minute                 |
| `<ns>:lock-done:<party>` | string | the request that the owner released last                  | 10 s                     |
| `<ns>:lock-stats:<what>` | hash   | used_ms, granted, waited_ms, longest_ms … of a resource   | for ever                 |
| `<ns>:lock-guard:<what>` | hash   | newest fence, value and the fence that wrote it, refused  | for ever                 |
| `<ns>:lock-names`        | set    | each `<what>` that is held or waited for                  | until idle               |
| `<ns>:lock-released`     | stream | locks that somebody has released for others: whose, by whom | the last 1,000         |
| `<ns>:lock-capacities`   | hash   | `resource:x` → its capacity                               | until declared 0         |
| `<ns>:lock-epoch`        | string | when the data of this server began, in µs                 | for ever                 |
| `<ns>:breakers`          | hash   | breaker → state, of those not at rest: `closed` with a failure, … | until at rest    |
| `<ns>:breaker:<name>`    | hash   | until, probe, probe_until, why, since, opened_at …        | until at rest            |
| `<ns>:breaker-failures:<name>` | list | `ms who`: the last failures, as many as open it        | its window; until open   |
| `<ns>:breaker-behind:<name>` | zset | members that stand behind it, by since when in ms        | until at rest            |
| `<ns>:breaker-resets`    | stream | breakers that somebody has closed by hand: why it was open, by whom | the last 1,000 |
| `<ns>:cache-contexts`    | zset   | context, by 0: those that have entries                    | until it is empty        |
| `<ns>:cache-generations` | hash   | context → number of its last write                        | until it is empty        |
| `<ns>:cache-entries:<context>` | hash | key → `digest bytes expiry_ms ttl_ms`; `-` hides an outer one's | its ttl; until evicted |
| `<ns>:cache-values`      | hash   | SHA-256 → the value: equal ones are kept once             | until no entry has it    |
| `<ns>:cache-refs`        | hash   | SHA-256 → how many entries have it                        | until no entry has it    |
| `<ns>:cache-order`       | zset   | context and key, by when it is evicted: the lowest first | as long as the entry     |
| `<ns>:cache-expiry`      | zset   | context and key, by its expiry in ms                      | as long as the entry     |
| `<ns>:cache-uses`        | hash   | context and key → how often it was used, under `lfu`      | as long as the entry     |
| `<ns>:cache-facts`       | hash   | bytes, writes, ticks, floor, hits, misses, evictions …    | for ever                 |
| `<ns>:durations:<repo> <kind>` | list | how long the last 25 todos like this took, in ms; kind as in `place` | 90 days |
| `<ns>:gateway-tokens`    | hash   | who → JSON: recipient, SHA-256 of its token, since when   | until revoked            |
| `<ns>:gateway-news`      | pubsub | a recipient whose token ended, or who came in elsewhere   | —                        |
| `<ns>:recipients`        | zset   | recipient, by when it was last heard of in ms             | until forgotten          |
| `<ns>:inbox-stream:<recipient>` | stream | what waits for it or is in hand: at, head, body    | until acknowledged       |
| `<ns>:inbox-ready:<…>`   | zset   | ticket, by priority, then arrival: what waits             | until handed out         |
| `<ns>:inbox-pending:<…>` | zset   | ticket, by when it may be taken over in ms                | until acknowledged       |
| `<ns>:inbox-deliveries:<…>` | hash | ticket → how often, in vain, begun, reader               | until acknowledged       |
| `<ns>:inbox-lanes:<…>`   | hash   | sender → how many of its are in hand, and whose           | until acknowledged       |
| `<ns>:inbox-facts:<…>`   | hash   | epoch, seq, trimmed …; `last <sender>`: its last number    | until forgotten          |
| `<ns>:inbox-seen:<…>`    | zset   | `sender/number` of callers' own numbers, by offset        | retention; last 10,000   |
| `<ns>:mail:<recipient>`  | pubsub | a word that something came, while a reader waits          | —                        |
| `<ns>:topic:<name>`      | set    | the recipients that subscribed                            | until unsubscribed       |
| `<ns>:live:<topic>`      | pubsub | what is published on a topic: ms, id, type, payload       | —                        |
| `<ns>:readers`           | zset   | `recipient reader host pid`, by when last heard of in ms  | an hour                  |
| `<ns>:dead-letters`      | stream | what was delivered too often in vain                      | the last 10,000          |
| `<ns>:envelope`          | hash   | `queue`, `message`, `words`: what a todo's message is made of in Lua | for ever               |
| `<ns>:served`            | zset   | run → when a worker took a message of it last; with messages in queues | until there are none |
| `<ns>:apart:<key>`       | any    | what stood under a key of this table with another type    | a week                   |
| `<ns>:poison`            | list   | queue entries that could not be read                      | the last 1,000           |
| `<ns>:restricted:<repos>:requests` | pubsub | what restricted workers of these repos ask for  | —                        |
| `…:<repos>:reply:<id>`   | list   | the answer to one request                                 | a minute                 |
| `…:<repos>:unacked*`, `…:poison` | —  | Celery's own, as below, of these workers alone            | as below                 |
| `<ns>:commits`           | hash   | todo → `commit run repo` of its last success, or `accepted`, or `undone run repo` | until pending in the file or done again |
| `<ns>:errands`           | hash   | id → JSON of what every worker is asked to do (`clean`)   | until answered           |
| `<ns>:errand:<id>`       | hash   | worker id → JSON of its answer                            | until gathered           |
| `<ns>:run:<id>:meta`     | hash   | plan_id, status, strategy, `stuck`, `piece`, counts `n.<state>` … | as long as the run       |
| `…:spec`                 | hash   | todo → JSON of what is to be done; never changes          | as long as the run       |
| `…:place`                | hash   | todo → `order level repo kind priority wants`: order in ms, kind `shell` or `shell:<labels>` | as long as the run      |
| `…:children`             | hash   | todo → the todos that wait for it                         | as long as the run       |
| `…:levels`               | hash   | level → its todos, most urgent first                      | as long as the run       |
| `…:state`                | hash   | todo → state                                              | as long as the run       |
| `…:facts`                | hash   | `<todo> <fact>` → value: attempt, fence, worker …         | as long as the run       |
| `…:pending`              | hash   | todo → predecessors that have not succeeded yet           | as long as the run       |
| `…:opened`               | hash   | level → its todos that have not settled yet               | as long as the run       |
| `…:ready`                | zset   | the next todo of each free repository, by its turn in ms  | as long as the run       |
| `…:queued`               | zset   | `repo|turn|todo`: ready, behind another of its repo      | as long as the run       |
| `…:busy`                 | hash   | repo → the todo that it is kept for                       | as long as the run       |
| `…:owed`                 | set    | todos whose message is used up: the next grant sends one  | as long as the run       |
| `…:stranded`             | hash   | repo → the todo that waits for the host it is pinned to   | as long as the run       |
| `…:sent`                 | zset   | dispatched and unclaimed, by when in ms                   | as long as the run       |
| `…:tips`                 | hash   | repo → the commit its next attempt starts from            | as long as the run       |
| `…:output`               | hash   | todo → JSON that it hands to its dependents               | as long as the run       |
| `…:checkpoint`           | hash   | todo → JSON: what a running one has written of it so far  | as long as the run       |
| `…:parents`              | hash   | todo → the todos that it waited for; in a rollback        | as long as the run       |
| `…:behind`               | hash   | todo → those behind it that are not passed yet; in a rollback | as long as the run   |
| `…:posted`               | zset   | queue → the turn of the todo whose message stands there   | as long as the run       |
| `…:events`               | stream | what happened, in order                                   | the last 100,000         |
| `…:log:<todo>`           | stream | its output, in pieces: attempt text at end …: the head and the tail of each attempt | as long as the run       |
| `…:bundle:<repo>`        | hash   | commit → its git bundle; `… since`, `… elsewhere`; `published` | as long as the run       |

Celery's own keys: queues `<ns>.repo.<name>`, `<ns>.repo.<name>@<host>` and `<ns>.control`; `<ns>.unacked*`; results under `<ns>.celery:`.
Kombu's, the same for every namespace: `_kombu.binding*`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

TYPES: Mapping[str, str] = {
    "zset": "runs live half-undone leases timers workers lock-shares:* lock-queue:* breaker-behind:* cache-contexts "
    "cache-order cache-expiry recipients inbox-ready:* inbox-pending:* inbox-seen:* readers served run:*:ready "
    "run:*:queued run:*:sent run:*:posted",
    "hash": "holders epoch counters lock-request:* lock-stats:* lock-guard:* lock-capacities breakers breaker:* "
    "cache-generations cache-entries:* cache-values cache-refs cache-uses cache-facts gateway-tokens "
    "commits inbox-deliveries:* inbox-lanes:* inbox-facts:* envelope errands errand:* run:*:meta run:*:spec run:*:place "
    "run:*:children run:*:levels run:*:state run:*:facts run:*:pending run:*:opened run:*:busy run:*:stranded "
    "run:*:tips run:*:output run:*:checkpoint run:*:parents run:*:behind run:*:bundle:*",
    "set": "stops lock-party:* lock-parties lock-names topic:* run:*:owed",
    "string": "fence worker:* version ecosystem lock:* resource:* seat:* lock-done:* lock-epoch",
    "list": "lock-wake:* breaker-failures:* poison durations:*",
    "stream": "lock-released breaker-resets inbox-stream:* dead-letters run:*:events run:*:log:*",
}
"""Type → the keys of the table that have it, without `<ns>:`; `*` is what differs."""


def type_of(name: str) -> str | None:
    """The type that a key has, without its namespace; None where the table has no such key."""
    return next((kind for kind, fits in _FITS if fits.fullmatch(name)), None)


def _fits(names: str) -> re.Pattern[str]:
    """What differs at the end may hold colons: a todo's id, a recipient."""
    patterns = (re.escape(name).replace(r"\*:", "[^:]+:").replace(r"\*", "(?s:.+)") for name in names.split())
    return re.compile("|".join(patterns))


_FITS = tuple((kind, _fits(names)) for kind, names in TYPES.items())
APART = "apart:"
"""Before the name of a key that held another type."""


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
        """In the order in which lua/run/_run.lua unpacks them."""
        names = (
            "meta spec place children levels state facts pending opened ready queued busy owed stranded sent tips output "
            "checkpoint parents behind posted events"
        )
        return [f"{self.prefix}:{name}" for name in names.split()]


@dataclass(frozen=True)
class RestrictedKeys:
    """What the restricted workers of given repositories have for themselves. `prefix` is `<ns>:restricted:<repos>`."""

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
"""What Lua steps that find their way from key to key put behind the namespace: their table KEY."""


def _one(part: str) -> property:
    return property(lambda self: self.head + LUA_NAMES[part])


def _each(part: str, of: str = "") -> Callable[[Any, str], str]:
    """One key for each name: a method. `of`: which of the keys that begin with the part."""
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
    """Of the WebSocket gateway. `head` is `<ns>:`."""

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
        """Of all of them, and the head that steps get; for the rights of a user."""
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
        """Named by the repositories: whoever may touch these keys may act for them."""
        return RestrictedKeys(f"{self.namespace}:restricted:{','.join(sorted(repos))}")

    def asking(self, channel: str) -> frozenset[str]:
        """The repositories for which a request on this channel may act."""
        return frozenset(channel.removeprefix(f"{self.namespace}:restricted:").removesuffix(":requests").split(","))

    def step(self, run_id: str) -> list[str]:
        """KEYS of every script in lua/run."""
        shared = [self.runs, self.live, self.leases, self.holders, self.stops, self.timers]
        return [*self.run(run_id).own, *shared, self.counters, self.locks.head]

    def worker(self, worker_id: str) -> str:
        return f"{self.namespace}:worker:{worker_id}"

    def errand(self, errand_id: str) -> str:
        return f"{self.namespace}:errand:{errand_id}"

    def durations(self, repo: str, kind: str) -> str:
        """Of todos that are alike: `kind` as in `place`."""
        return f"{self.namespace}:{LUA_NAMES['durations']}{repo} {kind}"

    def queue(self, repo: str, host: str | None = None) -> str:
        """The queue of a repository; with a host, the one that only this host's workers read."""
        return f"{self.namespace}.repo.{repo}@{host}" if host else f"{self.namespace}.repo.{repo}"


SEAT = "seat:"


def seat(repo: str, *, in_place: bool = False) -> str:
    """The right to work in a repository, or in its path itself: the typed name of a lock."""
    return f"{SEAT}{repo}:in-place" if in_place else f"{SEAT}{repo}"


def lock(name: str) -> str:
    """The typed name of a lock."""
    return f"lock:{name}"


def resource(name: str) -> str:
    """The typed name of a resource."""
    return f"resource:{name}"


def member(run_id: str, todo_id: str) -> str:
    return f"{run_id} {todo_id}"


def split_member(value: str) -> tuple[str, str]:
    run_id, _, todo_id = value.partition(" ")
    return run_id, todo_id
