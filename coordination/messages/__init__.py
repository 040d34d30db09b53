"""Messages between repositories, workers, agents, people and runs: kept until acknowledged, ordered, never
lost silently.

A recipient (`kind:name`) has one inbox. A message in it is in one of these states; each arrow is one atomic
Lua step of backend/lua/message or backend/lua/inbox, by the server's clock:

    send → waiting ──take──→ in flight ──ack──→ gone
             ↑ │                │ │
             │ ├─ ttl over ──→ expired (counted)
             │ └─ no room, retention over ──→ trimmed (counted and reported)
             │                  │ └─ nack ──→ refused: held for 1 s, 2 s, 4 s …, then waiting
             ├── idle for 30 s, reader left ┘
             └── resend ── dead ←── the fifth failed delivery

Invariants

1. A message for which `send` returned is in the inbox until it is acknowledged, expired, trimmed or dead;
   until then it waits or is in flight.
2. A message is in flight with one reader at a time. Each delivery has a number, so a replaced reader can no
   longer acknowledge, refuse or extend it.
3. Messages of one sender arrive in order within a priority, whoever reads. While a reader has messages of a
   sender in flight (the sender's queue, its *lane* in Redis), no other reader gets more of them; messages
   that are returned are returned together; behind a refused message its sender's others wait. A dead letter
   does not hold up later messages.
4. A message with the same sender and sequence in the same inbox within the retention is a duplicate: it is
   dropped, with the same id. A bus numbers its messages in order under a mark of its process. For numbers
   chosen by the caller, an inbox remembers the last 10,000 individually, so that one that arrives after a
   greater one is delivered; beyond that, a number that is not greater counts as a duplicate. A sender that
   restarts with its old name and numbers repeats itself: let the bus number, or use the clock in µs.
5. Nothing in flight is trimmed, and nothing is trimmed silently. A position (epoch, offset, trimmed) records
   what its owner knows; `recovered` is false if messages were trimmed since, or the data is not the same; it
   is exact as long as the data lives. A reader without a position gets the report until some reader has
   shown, by passing a position, that it knows.
6. A delivery counts as failed only if its reader had started the message; messages behind one that kills its
   reader are not affected.
7. `ack(effects=…)` runs in one transaction (WATCH) with the check that the reader still has the message: one
   effect, however many deliveries.

Failures

* A reader dies: after `idle`, its messages go to the next reader that takes. It may have handled messages
  without acknowledging them (acknowledgements of 2 ms are sent together), so a handler without `effects` sees
  such a message twice, with a higher `deliveries`.
* A reader is frozen: the same; when it resumes, its acknowledgement is rejected and its effects do not
  happen.
* More than 1,000 messages wait from senders whose queues are locked by other readers: messages behind them
  are delivered when those are done.
* Redis is full (`maxmemory`, `noeviction`): nothing can be sent, but all messages can be read, refused and
  acknowledged.
* A handler takes long: a thread extends all messages that its process has in flight. It never gives up on a
  handler that hangs.
* A wake-up (pub/sub) is lost: delivery is delayed by one interval, 1 s.
* Redis is unreachable: readers retry after up to 1, 2, 4 … 60 s (full jitter) and continue at their position.
  `send`, `ack` and similar calls are retried for 2 s, which the sequence and the delivery number make
  harmless, and then raise Unreachable. There is no local fallback.
* Redis returns with its data: nothing is lost. If it returns without data, or with older data, the epoch
  differs or the offset is smaller than the reader's, and the reader gets `recovered` false and `trimmed` 0:
  the number is unknown. (Older data that has grown beyond the reader's offset before it returns cannot be
  distinguished; `appendfsync always` leaves no older data.) Senders get no report; a sender that must know
  requests a reply. A recipient that does not reconnect by itself has to be registered again.
* Redis refuses (login, permissions): Unusable at once.
* A sender's clock is wrong: clients' times are never used; waits use monotonic clocks.
* Two senders use one name: their messages share a queue, and no number counts as the other's duplicate.
* A recipient is removed with `forget`: its waiting messages are deleted. A sweep does that for `reply:` and
  `worker:` recipients that have been silent for an hour.
* `broadcast`: all copies or none; each copy is then a message of its own.
* `publish`: the same, and live subscribers get the event. A subscriber misses events that are published while
  it is disconnected, and gets a report of the gap.

| module | content |
|---|---|
| `bus.py` `records.py` `names.py` | the public interface; arguments and results; validation of input |
| `sending.py` | outgoing messages and their numbers |
| `inbox.py` | a reader's messages one by one; acknowledging and extending those in flight; wake-ups |
| `reader_operations.py` | operations of readers, each in one Lua step |
| `steps.py` | calls of the Lua steps; acknowledgement with effects |
| `topics.py` `live.py` | topics and patterns; live subscriptions |
| `outage.py` | retrying while Redis is unreachable |

The package works on plain Redis: `MessageBus(redis.Redis(), "mine")` is all that is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordination.messages.bus import MessageBus
    from coordination.messages.inbox import Inbox
    from coordination.messages.records import (
        DeadLetter,
        InboxStats,
        Limits,
        Message,
        MessagesSwept,
        Position,
        Presence,
        Taken,
    )
    from coordination.messages.topics import Event, Gap

__all__ = [
    "DeadLetter",
    "Event",
    "Gap",
    "Inbox",
    "InboxStats",
    "Limits",
    "Message",
    "MessageBus",
    "MessagesSwept",
    "Position",
    "Presence",
    "Taken",
]

_HOMES = {
    "Event": "topics",
    "Gap": "topics",
    "Inbox": "inbox",
    "MessageBus": "bus",
    **dict.fromkeys(
        (
            "DeadLetter",
            "InboxStats",
            "Limits",
            "Message",
            "MessagesSwept",
            "Position",
            "Presence",
            "Taken",
        ),
        "records",
    ),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
