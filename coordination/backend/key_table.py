"""Table of all Redis keys of coord; moves a key that holds a foreign type out of the way.

`<ns>` is the namespace (a setting), `member` is `<run> <todo>`. `<what>` is a typed name: `lock:x`,
`resource:x`, `slot:<repo>` (the right to work in a repository), `slot:<repo>:in-place` (in its path itself),
`land:<repo>` (the right to land there).

| key                      | type   | content | lifetime |
|--------------------------|--------|---------|----------|
| `<ns>:runs`              | zset   | run id, scored by its start in ms | for ever |
| `<ns>:live`              | zset   | runs that have not ended | until the run ends |
| `<ns>:half-undone` | zset | runs with a failed compensation, by their end in ms | until all is undone |
| `<ns>:unwritten:<file>` | zset | ended runs whose results are not in that file, by end | until written |
| `<ns>:leases`            | zset   | member, by the expiry of its lease in ms | claim to settle |
| `<ns>:holders`           | hash   | member → fence of the attempt that may settle it | claim to settle |
| `<ns>:stops`             | set    | members whose worker is asked to stop them | cancel to settle |
| `<ns>:timers`            | zset   | member, by its due time in ms | until due |
| `<ns>:fence`             | string | the last fence issued | for ever |
| `<ns>:epoch`             | hash   | `server` (its run id), `n` (restarts seen), `set_by` … | for ever |
| `<ns>:notices`           | hash   | position in `events`, calls of `notify_command` to be made | for ever |
| `<ns>:workers`           | zset   | worker id, by its last heartbeat in ms | a day |
| `<ns>:worker:<id>`       | string | JSON: host, pid, version, repos, places, jobs … | three heartbeats |
| `<ns>:services`          | hash   | `host repo` → time in ms, JSON of the states of its services | 7 days |
| `<ns>:health`     | hash   | `repo:x`, `service:x` … → JSON: state, since, last look … | until it is gone |
| `<ns>:health-monitor`    | string | JSON: the last round of the health monitor, its worker | 30 s |
| `<ns>:health-remotes`    | hash   | `repo host` → JSON: the last look at the remote | until not served |
| `<ns>:disconnected`      | hash   | repository → JSON: since when, by whom, why | until connected |
| `<ns>:version`           | string | the version of coord of all workers here | for ever |
| `<ns>:ecosystem`         | string | id of the ecosystem whose workers and runs are here | until replaced |
| `<ns>:server`            | string | random id of this server, which signed orders name | for ever |
| `<ns>:counters` | hash | `leases_lost`, `todos_poisoned`, `todos_<state>` … | for ever (they grow) |
| `<ns>:<what>`            | string | request that holds the lock or slot exclusively | ttl; until released |
| `<ns>:lock-shares:<what>` | zset   | `amount request` of each share, by expiry in ms | until released |
| `<ns>:lock-queue:<what>` | zset   | requests that wait for it, by rank in µs | until granted or gone |
| `<ns>:lock-request:<id>` | hash | state wants rank ttl fence since, owner's fields | ttl; ttl of its place |
| `<ns>:lock-owner:<party>` | set    | the requests of one owner | until released or swept |
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
| `<ns>:events`         | stream | events for readers (events/), until their reader trims | the last 100,000 |
| `<ns>:events-asked`      | stream | events of kinds that are asked for by name | the last 10,000 |
| `<ns>:event-requests` | zset   | kind asked for by name, by the request's expiry in ms | until its expiry |
| `<ns>:event-positions`   | hash   | journal of a file → number of the last edit forwarded | for ever |
| `<ns>:cache-contexts`    | zset   | context that has entries, by 0 | until it is empty |
| `<ns>:cache-generations` | hash   | context → number of its last write | until it is empty |
| `<ns>:cache-entries:<context>` | hash   | key → `digest bytes expiry_ms ttl_ms`; `-` | its ttl |
| `<ns>:cache-values` | hash | SHA-256 → the value: equal values are stored once | until no entry has it |
| `<ns>:cache-refs`        | hash   | SHA-256 → number of entries with this value | until no entry has it |
| `<ns>:cache-order`       | zset   | context and key, in order of eviction | as long as the entry |
| `<ns>:cache-expiry`      | zset   | context and key, by its expiry in ms | as long as the entry |
| `<ns>:cache-uses`        | hash   | context and key → number of uses, under `lfu` | as long as the entry |
| `<ns>:cache-facts`       | hash   | bytes, writes, ticks, floor, hits, misses, evictions … | for ever |
| `<ns>:durations:<repo> <kind>` | list   | ms of the last 25 todos of that `descriptor` | 90 days |
| `<ns>:agent-use:<day>` | hash | `plan repo agent number` → sum, of a day since 1970 (UTC) | 400 days |
| `<ns>:agent-use-of-plans` | hash | `plan number` → what its agents have used | for ever |
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
| `<ns>:change-sets` | set | ids of the change sets: plans, and todos without plan | until discarded |
| `<ns>:changes:<id>` | hash | `<fact> <repo>`: branch, base, tip …; `todo <todo>` (below) | until discarded |
| `<ns>:adopted:<repo>:<id>` | hash | commit → its git bundle, as in a run: of a change set | until it lands |
| `<ns>:forge-calls:<host>:<hour>` | string | calls in an hour; `-news`: looks after webhooks | two hours |
| `<ns>:forge-waiting:<host>` | zset | `project#number` that landings wait for, by last look | two hours |
| `<ns>:cleanup-jobs`      | hash   | id → JSON of a request to all workers (`clean`) | until answered |
| `<ns>:cleanup-answers:<id>` | hash   | worker id → JSON of its reply | until collected |
| `<ns>:run:<id>:meta` | hash | plan_id, status, strategy, `switched`, `piece`, `n.<state>` … | as the run |
| `…:spec`                 | hash   | todo → JSON of its action; never changes | as the run |
| `…:descriptor`           | hash   | todo → `order level repo kind priority wants` (below) | as the run |
| `…:children`             | hash   | todo → its successors | as the run |
| `…:levels`               | hash   | level → its todos, most urgent first | as the run |
| `…:state`                | hash   | todo → state | as the run |
| `…:facts`                | hash   | `<todo> <fact>` → value: attempt, fence, worker … | as the run |
| `…:pending`              | hash   | todo → number of predecessors that have not succeeded | as the run |
| `…:opened`               | hash   | level → number of its todos that have not settled | as the run |
| `…:ready`                | zset   | the next todo of each free repository, by its turn in ms | as the run |
| `…:queued`               | zset   | `repo|turn|todo`: ready, behind another todo of its repo | as the run |
| `…:occupant`             | hash   | repo → the todo that occupies it | as the run |
| `…:unsent`               | set    | todos whose message is used up: a grant sends one | as the run |
| `…:stranded`             | hash   | repo → the todo that waits for a worker there  | as the run |
| `…:sent`                 | zset   | dispatched, unclaimed todos, by dispatch in ms | as the run |
| `…:tips`                 | hash   | repo → the base commit of its next attempt | as the run |
| `…:output`               | hash   | todo → JSON output for its dependents | as the run |
| `…:checkpoint`           | hash   | running todo → JSON output so far | as the run |
| `…:results` | hash | todo → its signed result; `tip <repo>` → that of the repository's tip | as the run |
| `…:parents`              | hash   | todo → its predecessors; in a rollback | as the run |
| `…:behind`               | hash   | todo → dependents still to be undone; in a rollback | as the run |
| `…:posted`               | zset   | queue → turn of the todo whose message is in it | as the run |
| `…:events`               | stream | the run's events, in order | the last 100,000 |
| `…:order` | hash | signed: `header`, `block <n>`, `part <repo>`, `<operation> <todo>` | as the run |
| `…:log:<todo>`           | stream | head and tail of each attempt: attempt text at end … | as the run |
| `…:bundle:<repo>` | hash | commit → its git bundle; `… since`, `… elsewhere`; `published` | as the run |

`descriptor` holds the todo's order in ms and its kind: `shell`, or `shell:<labels>`. `-` in `cache-entries`
hides the value of an outer context. `inbox-seen` is also limited by the retention. A todo's `commits` is
`commit run repo` of its last success, `accepted`, or `undone run repo`, until the todo is pending in the file
or done again. `breakers` holds `closed` for a closed breaker with failures. `served` is ordered by when a
worker took a message of the run last.

`changes` has for each repository its branch, base, tip, host, the newest run and all runs, figures, `writer`
(the run that may write it now), `request` (its pull request), `result` (the signed one of the tip) and
`landed`; for each todo `run repo` of its result.

Celery's own keys: queues `<ns>.repo.<name>`, `<ns>.repo.<name>@<host>` and `<ns>.control`; `<ns>.unacked*`;
results under `<ns>.celery:`. Kombu's keys, the same for all namespaces: `_kombu.binding*`.

Where another program has overwritten a key, Redis refuses every step that uses it (WRONGTYPE), and one such
key stops the maintenance leader. `set_apart` renames it to `<ns>:apart:<key>`, which is kept for a week; its
content is not read. The data that coord had stored there was lost when the key was overwritten.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

from redis import Redis

from coordination.backend.keys import APART
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.namespace import SetApart

KEPT_S = 7 * 24 * 3600
AT_ONCE = 1000

logger = logging.getLogger(__name__)

TYPES: Mapping[str, str] = {
    "zset": (
        "runs live half-undone unwritten:* leases timers workers lock-shares:* lock-queue:* breaker-behind:* "
        "event-requests forge-waiting:* cache-contexts cache-order cache-expiry recipients inbox-ready:* "
        "inbox-pending:* inbox-seen:* readers served run:*:ready run:*:queued run:*:sent run:*:posted"
    ),
    "hash": (
        "holders epoch notices services health health-remotes disconnected counters event-positions "
        "lock-request:* lock-stats:* lock-guard:* "
        "lock-capacities breakers breaker:* "
        "cache-generations cache-entries:* cache-values cache-refs cache-uses cache-facts gateway-tokens "
        "commits changes:* adopted:* agent-use:* agent-use-of-plans "
        "inbox-deliveries:* inbox-lanes:* inbox-facts:* envelope cleanup-jobs cleanup-answers:* "
        "run:*:meta run:*:spec run:*:descriptor run:*:children run:*:levels run:*:state run:*:facts "
        "run:*:pending run:*:opened run:*:occupant run:*:stranded run:*:tips run:*:output run:*:checkpoint "
        "run:*:parents run:*:behind run:*:results run:*:order run:*:bundle:*"
    ),
    "set": "stops change-sets lock-owner:* lock-parties lock-names topic:* run:*:unsent",
    "string": (
        "fence worker:* health-monitor version ecosystem server lock:* resource:* slot:* lock-done:* "
        "lock-epoch forge-calls:*"
    ),
    "list": "lock-wake:* breaker-failures:* poison durations:*",
    "stream": (
        "events events-asked lock-released breaker-resets inbox-stream:* dead-letters run:*:events "
        "run:*:log:*"
    ),
}
"""Type → the keys of that type in the table, without `<ns>:`; `*` stands for the variable part."""


def type_of(name: str) -> str | None:
    """Return the type of a key (given without its namespace), or None if the table has no such key."""
    return next((kind for kind, fits in _FITS if fits.fullmatch(name)), None)


def _fits(names: str) -> re.Pattern[str]:
    """Return the pattern of names with `*`. A `*` at the end also matches colons (todo ids, recipients)."""
    patterns = (re.escape(name).replace(r"\*:", "[^:]+:").replace(r"\*", "(?s:.+)") for name in names.split())
    return re.compile("|".join(patterns))


_FITS = tuple((kind, _fits(names)) for kind, names in TYPES.items())


def is_wrong_type(error: Exception) -> bool:
    """Return whether Redis refused a step because a key holds another type."""
    return "WRONGTYPE" in str(error)


def set_apart(redis: Redis, namespace: str) -> list[str]:
    """Rename all misplaced keys of the namespace; return their names without it. `redis` must decode."""
    call_step, head = StepCaller(redis), f"{namespace}:"
    renamed = []
    for key, kind in _misplaced(redis, head):
        name = key.removeprefix(head)
        step = SetApart(type=kind, kept_s=KEPT_S)
        if actual := call_step(step, [key, f"{head}{APART}{name}"]):
            logger.error("key %s held a %s instead of a %s: renamed to %s", key, actual, kind, APART + name)
            renamed.append(name)
    return renamed


def _misplaced(redis: Redis, head: str) -> Iterator[tuple[str, str]]:
    """Yield each misplaced key, and the type that it should have."""
    cursor = None
    while cursor != 0:
        cursor, names = redis.scan(cursor or 0, match=f"{head}*", count=AT_ONCE)
        keys = [(name, kind) for name in names if (kind := type_of(name.removeprefix(head)))]
        with redis.pipeline(transaction=False) as pipeline:
            for key, _ in keys:
                pipeline.type(key)
            types = pipeline.execute()
        yield from (key for key, kind in zip(keys, types, strict=True) if kind not in (key[1], "none"))
