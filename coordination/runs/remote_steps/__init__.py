"""Restricted workers: their Redis user may not touch what all repositories of a run share, so a keeper does their steps.

A settle counts down the todos of other repositories and sends messages to their queues, and a Lua step has no more rights
than its caller. So this worker asks, and a keeper does the step, follows it, and answers.

    worker ── proxy.py ──publish, on the channel of its repositories──►  serving.py ── deeds.py ── store, board, presence
      ▲                                                                      │
      └──────────────────────── a list of this request alone ◄───────────────┘

Either way may be lost with a connection or a keeper, so what is not answered is asked again, under the same id: each step is
idempotent, by its request or its fence. Only the keeper that leads is subscribed: a request is heard once, and never by
nobody without its sender knowing.

The channel of a request proves for which repositories its sender may act: Redis lets nobody else publish there. All else in
it may come from anybody, so it is checked that it is about todos of those repositories, and that it does no harm where
others read it.

| file | |
|---|---|
| `proxy.py` | asks: the same methods as the store, the board and presence have, by name, arguments and answer |
| `serving.py` | hears and answers |
| `deeds.py` | checks and does |
"""
