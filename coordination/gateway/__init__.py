"""Messages over WebSocket, for recipients that have no Redis: browsers, agents elsewhere. Needs the extra `[web]`.

A client is one recipient and connects to `ws://HOST:8770/` with its token (`coord gateway --grant`), as `Authorization: Bearer TOKEN`,
or, as browsers must, in the subprotocols: `["coord.v1", "bearer.TOKEN"]`. It speaks JSON in text frames. `>` is the client:

    > {"resume": null}                    or the position: {"resume": {"epoch": "17…", "offset": 41, "trimmed": 0}}
    < {"welcome": {"recipient", "epoch", "offset", "trimmed", "recovered", "missed"}}
    < {"message": {"id", "offset", "from", "type", "payload", "sent_at", "deliveries", "reply_to"}}
    > {"ack": ID}   {"nack": ID, "why": "…"}   {"extend": ID}
    > {"send": {"to", "type", "payload", "seq", "ttl_s"?, "priority"?, "reply_to"?}}
    < {"sent": {"seq", "id"}}
    < {"refused": {"ack" | "nack" | "extend" | "seq": …, "message", "hint"}}       of that frame nothing was done
    > {"subscribe": "a.*"}   {"unsubscribe": ["a.*", "b"]}   {"publish": {"topic", "payload", "type"?, "seq"?}}
    < {"subscribed": {"topics": [all of them now]}}   {"published": {"topic", "seq", "reached"}}
    < {"event": {"id", "topic", "from", "type", "payload", "at"}}   {"gap": {"missed": number or null}}
    < {"away": {"message", "hint"}}                                               Redis; a welcome says that it is back

**Position.** `epoch` names the data of the server, `trimmed` counts what nobody acknowledged and the inbox could not keep,
`offset` is that of the last message. A client keeps `epoch` and `trimmed` of the last welcome, and the highest offset since, and
comes back with them. `recovered` true: nothing is missing since then. False: `missed` messages are, or, with 0, Redis lost its
data and nobody knows. A welcome comes first, after each absence of Redis, and before whatever follows upon a gap.

**Window.** A client has at most 32 messages in hand; each is acknowledged (done), refused (it comes again after a second, then
two, …; after five times it is dead) or lost with the connection (it comes again at once). Nothing more is read from its inbox
before. The oldest in hand is the client's affair: without ack, nack or extend within 30 s it comes again. What waits behind it
is extended here.

**Delivered at least once**, in the order of each sender. A message that comes again has its id again: who must not do a thing
twice remembers ids. In the other direction `seq` does that: it grows with each message of a recipient, and one that was said
before is a repetition, which changes nothing. Who keeps no count over restarts takes the clock, in µs.

**Topics** (messages/topics.py) are live: an event goes to whoever is subscribed now, needs no acknowledgement, and does not come again.
Subscriptions end with the connection. A `gap` says that events were dropped: of a client that does not read the oldest, beyond
256 or 2 MiB; or Redis was away (null). Who publishes is the token's recipient, whatever the frame says; a token is for all topics, or
for those of `--grant … --topics`. At most 100 patterns, 256 KiB a payload, 100 events a second (200 at once).

**States** of a connection: accepted → token known → first frame → entered (whoever was in as this recipient is out, and has
handed back) → served → left (what is in hand goes back) → closed. The recipient is in at most once, in whichever gateway:
the last who comes takes over, for that is the client that still lives where a connection broke unnoticed.

| what happens | the gateway | the client |
|---|---|---|
| wrong token, or it ends (`--revoke`, `--grant` again) | closes, 1008, no word why | gets a new one |
| ten wrong ones for a recipient from an address in a minute | 1008 as before, reported, checked one at a time; a right one is let in | — |
| a browser from a page that no `--origin` names | answers 403 | — |
| it connects and does not ask for WebSocket within 10 s, or 2,000 others do the same | hangs up | — |
| a frame that is none, or not the first word | `refused`, then 4000 | is mended |
| a frame of more than 2 MiB | 1009 | stores it elsewhere |
| the same recipient comes in, here or at another gateway | 4001 | stays away |
| it does not read for `gateway_send_timeout` | hangs up; memory: one answer of its inbox at a time | comes back |
| no answer to a ping for `gateway_ping` | hangs up | comes back |
| the connection breaks | hands back what was in hand | comes back with its position |
| this process is killed | the next session of the recipient, at any gateway, takes back what was in hand | the same |
| TERM | 1001 to all | comes back, elsewhere perhaps |
| Redis is away | `away`, once; what was said waits; backoff up to 5 s, with jitter, one for all | stays |
| … when a client comes | 1013 | later |
| Redis is full | `refused` to what is sent; the rest goes on, and makes room | sends it again, later |
| … and comes back without its data | 1008, for the tokens are gone too | gets a new one; welcome, `recovered` false |
| a wake-up is lost | looks each second all the same | — |
| news of a token's end are lost | looks when it listens again, and each 30 s | — |

| file | |
|---|---|
| `frames.py` | what is said, judged strictly; pure |
| `window.py` | what a client has in hand, and knows; pure |
| `session.py` | one client, from its first frame to its last |
| `clients.py` `listener.py` | who is here; the one subscription that wakes them |
| `redis_executor.py` | calls of the bus in a few threads, and Redis away |
| `topics.py` | what one client is subscribed to, and what of it waits |
| `access.py` | who may come in, as whom |
| `line.py` | a connection that is let go when it does not read; `operations/listening.py`: when it does not say what it wants |
| `app.py` `serving.py` `limits.py` | a client comes in; a gateway out of settings; the process; close codes; figures |
"""
