"""Messages over WebSocket for recipients without Redis access: browsers and remote agents. Needs the extra
`[web]`.

A client acts for one recipient and connects to `ws://HOST:8770/` with its token (`coord gateway --grant`), as
`Authorization: Bearer TOKEN` or, as browsers must, in the subprotocols: `["coord.v1", "bearer.TOKEN"]`.
Frames are JSON text. `>` marks the client's frames:

    > {"resume": null}               or a position: {"resume": {"epoch": "17…", "offset": 41, "trimmed": 0}}
    < {"welcome": {"recipient", "epoch", "offset", "trimmed", "recovered", "missed"}}
    < {"message": {"id", "offset", "from", "type", "payload", "sent_at", "deliveries", "reply_to"}}
    > {"ack": ID}   {"nack": ID, "why": "…"}   {"extend": ID}
    > {"send": {"to", "type", "payload", "seq", "ttl_s"?, "priority"?, "reply_to"?}}
    < {"sent": {"seq", "id"}}
    < {"refused": {"ack" | "nack" | "extend" | "seq": …, "message", "hint"}}       the frame had no effect
    > {"subscribe": "a.*", "since"?}   {"unsubscribe": ["a.*", "b"]}
    < {"subscribed": {"topics": [all present ones], "position"?}}
    > {"publish": {"topic", "payload", "type"?, "seq"?}}
    < {"published": {"topic", "seq", "reached"}}
    < {"event": {"id", "topic", "from", "type", "payload", "at"}}
    < {"gap": {"missed": number or null, "after"?, "first"?}}
    < {"away": {"message", "hint"}}                   Redis is unreachable; a welcome follows when it is back

**Position.** `epoch` identifies the server's data, `trimmed` counts unacknowledged messages that the inbox
could not keep, `offset` is that of the last message. A client stores `epoch` and `trimmed` of the last
welcome and the highest offset since, and sends them when it reconnects. `recovered` true: nothing is missing
since then. False: `missed` messages are missing, or, with 0, Redis lost its data and the number is unknown. A
welcome is sent first, after each outage of Redis, and before the messages that follow a gap.

**Window.** A client has at most 32 messages in flight; each is acknowledged, refused (it is delivered again
after 1 s, 2 s, …; after five times it becomes a dead letter) or lost with the connection (it is
delivered again at once). The client itself must answer the oldest message in
flight: without ack, nack or extend within 30 s it is delivered again. The gateway extends the messages behind
it.

**At-least-once delivery**, in order per sender. A redelivered message has the same id, by which clients that
must not act twice can recognise it. In the other direction `seq` does that: it grows with each message of a
recipient, and a repeated one has no effect. A client that stores no count can use the clock, in µs.

**Topics** (messages/topics.py) are live: an event goes to present subscribers, needs no acknowledgement, and
is not redelivered. Subscriptions end with the connection. A `gap` reports dropped events: the oldest ones of
a client that does not read, beyond 256 or 2 MiB, or an outage of Redis (null). The publisher is the token's
recipient, whatever the frame says; a token is valid for all topics, or for those of `--grant … --topics`. The
limits are 100 patterns, 256 KiB per payload, and 100 events a second (200 at once).

**Events of coord** are the topics `events.KIND`. They are kept and can be repeated: `since` is the id of the
last event that the client knows, `position` of `subscribed` is that of the last event so far. Later events of
all its subscriptions are repeated at the client's pace; then live events follow. A `gap` with `after` and
`first` names the ids between which events were deleted.

**States** of a connection: accepted → token known → first frame → entered (an earlier session of this
recipient has ended and returned its messages) → served → left (its messages are returned) → closed. A
recipient has at most one session over all gateways: the latest one takes over, because that client is alive
when a connection broke unnoticed.

| event | gateway | client |
|---|---|---|
| wrong or ended token (`--revoke`, `--grant` again) | closes, 1008, without a reason | gets a new one |
| ten wrong tokens per recipient and address in a minute | 1008, a warning; checks one at a time | — |
| a browser from a page that no `--origin` names | answers 403 | — |
| a connection without WebSocket request within 10 s, or beyond 2,000 of them | closes | — |
| an invalid frame, or a wrong first frame | `refused`, then 4000 | must be fixed |
| a frame of more than 2 MiB | 1009 | stores the payload elsewhere |
| the same recipient connects, here or at another gateway | 4001 | does not reconnect |
| no read for `gateway_send_timeout` | closes; keeps one read of its inbox in memory | reconnects |
| no answer to a ping for `gateway_ping` | closes | reconnects |
| the connection breaks | returns the messages in flight | reconnects with its position |
| this process is killed | the recipient's next session takes back the messages in flight | the same |
| TERM | 1001 to all | reconnects, perhaps elsewhere |
| Redis is unreachable | `away`, once; frames wait; shared backoff up to 5 s, with jitter | stays |
| … when a client connects | 1013 | retries later |
| Redis is full | `refused` for sends; the rest continues and makes room | sends again later |
| … and returns without its data | 1008: the tokens are gone, too | gets a new one; `recovered` false |
| a wake-up is lost | reads every second anyway | — |
| news of a token's end are lost | checks after resubscribing, and every 30 s | — |

| module | content |
|---|---|
| `frames.py` | frames and their validation; the items that a client has received; pure |
| `session.py` | one client, from its first frame to its last |
| `redis_executor.py` | calls of the bus in a few threads; outages of Redis |
| `topics.py` | one client's subscriptions, waiting events, and events of coord repeated for it |
| `access.py` | tokens, allowed pages, limits of guesses |
| `client_connection.py` | the connection; clients that do not read |
| `webhooks.py` | webhooks of forges, over HTTP |
| `app.py` | the application and its process |
| `clients.py` | the connected clients; the threads that wake them and pass events on |
| `limits.py` | limits, the window of a client's messages in flight, and close codes |
"""
