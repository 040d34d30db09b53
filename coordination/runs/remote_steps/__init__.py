"""Execute steps for restricted workers, whose Redis user may not access the keys that all repositories of a
run share.

A settle counts down the todos of other repositories and sends messages to their queues, and a Lua step has
only the rights of its caller. So a restricted worker sends a request, and the maintenance leader executes the
step, follows it, and replies.

    worker ── calls.py ── publish, on the channel of its repositories ──► serving.py ── handlers.py ── store …
      ▲                                                                       │
      └──────────────────────── a list for this request only ◄────────────────┘

Requests and replies may be lost with a connection or a process, so an unanswered request is sent again under
the same id. Each step is idempotent, by its request id or its fence. Only the leader is subscribed, so one
process receives a request, and its sender learns if none did.

The channel proves for which repositories the sender may act: Redis lets no other user publish there. The rest
of a request may come from anyone, so the handlers check that it is about todos of those repositories, and
that other readers of its values are not harmed.
"""
