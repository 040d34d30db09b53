"""Messages between repositories, workers, agents, people and runs: kept until acknowledged, in order, never silently lost.

A recipient (`kind:name`) has one inbox. A message in it is in one of these states; each arrow is one Lua step of
backend/lua/message and backend/lua/inbox, whole or not at all, by the server's clock:

    send → waiting ──take──→ in hand ──ack──→ gone
             ↑ │                │ │
             │ ├─ ttl over ──→ expired (counted)
             │ └─ no room, retention over ──→ trimmed (counted, and told)
             │                  │ └─ nack ──→ refused: held for 1 s, 2 s, 4 s …, then waiting
             ├── idle for 30 s, reader left ┘
             └── resend ── dead ←── the fifth delivery in vain

Invariants

1. What `send` returned for is in the inbox: it is acknowledged, expired, trimmed, dead, or waits or is in hand; nothing else.
2. A message is in hand of one reader at a time. A delivery has a number: who was replaced cannot acknowledge, refuse or extend.
3. What one sender sent comes in that order, within a priority, whoever reads: as long as a reader has anything of a sender in
   hand (the sender's *lane*), nobody else gets more of it; what goes back goes back together; behind a refused message its
   sender waits. A dead letter no longer holds up what comes behind it.
4. The same sender and sequence again, in that inbox, within the retention, is a repetition: dropped, with the same id. A bus
   numbers under a mark of its process, in order. Of a caller's own numbers an inbox remembers the last 10,000 one by one, so
   that one that comes behind a greater one is delivered; beyond that, what is not greater is taken for a repetition. A sender
   that begins anew under its name and with its numbers repeats itself: let the bus number, or take the clock, in µs.
5. Nothing is trimmed while it is in hand, and nothing is trimmed silently. A position (epoch, offset, trimmed) says what its owner
   was told; `recovered` is whether anything was trimmed since, or the data is another's: exact for as long as the data lives.
   Who gives no position is told until some reader has shown, by giving one, that it knows.
6. A delivery counts as in vain only if its reader had begun the message: what merely lay behind one that kills its reader is
   not dead with it.
7. `ack(effects=…)` happens in one transaction (WATCH) with the look at whose the message is: one effect, however many deliveries.

What happens when

* a reader dies: after `idle` its messages go to whoever takes next. It may have handled without acknowledging (acknowledgements
  of 2 ms travel together), so a handler without `effects` sees such a message twice, with a higher `deliveries`.
* a reader is frozen: the same; when it wakes, its acknowledgement is false and its effects do not happen.
* more than 1,000 messages wait of senders whose lanes others hold: what lies behind those comes when they are done.
* Redis is full (`maxmemory`, `noeviction`): nothing can be sent, and all that is there can be read, refused and acknowledged.
* a handler takes long: a thread extends all that its process has in hand. It never gives up on a handler that hangs.
* a wake-up (pub/sub) is lost: it costs one interval, 1 s.
* Redis is away: readers try again after up to 1, 2, 4 … 60 s (full jitter), and go on where they were; `send`, `ack` and the like are
  repeated for 2 s, which the sequence and the delivery make harmless, and are Unreachable then. Nothing is kept locally instead.
* Redis comes back with its data: nothing is lost. Without, or with older data: the epoch is another, or the offset is smaller than
  the reader's, and the reader is told `recovered` false, `trimmed` 0: nobody knows how many. (Older data that has grown beyond the
  reader's offset before it returns cannot be told from the right one: `appendfsync always` leaves no older data.) A sender is told nothing; whoever
  must know asks for a reply. A recipient that does not come back by itself has to be registered again.
* Redis refuses (login, rights): Unusable at once.
* a sender's clock is off: no time of a client is ever used; waits run by monotonic clocks.
* two senders use one name: their messages share a lane, and no number is taken for the other's.
* a recipient is `forget`-ted: what waits goes with it. A sweep does that to `reply:` and `worker:` that were not heard of for an hour.
* `broadcast`: all copies or none; each is then a message of its own.
* `publish`: the same, and to whoever listens now. What is published while a listener is away is missed; it is told of a gap.

| file | |
|---|---|
| `bus.py` `records.py` `names.py` | everything that one may do; what is given and handed out; what names, payloads and times may be |
| `sending.py` `requests.py` | letters and their numbers; a question and its reply |
| `inbox.py` `in_flight.py` | one message after the other; what a reader has in hand is acknowledged and extended |
| `taking.py` `admin.py` | what readers do; what stands in the inboxes, and the sweep |
| `steps.py` `decoding.py` | the steps of backend/lua/message and backend/lua/inbox, called; their answers, as records |
| `topics.py` `live.py` | names and patterns of topics; a subscription to what is published now |
| `outage.py` `following.py` | Redis away, outlived; streams followed by many, without an inbox: a run's events and logs |

The room is a library on plain Redis: `MessageBus(redis.Redis(), "mine")` is all that it takes.
"""

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
