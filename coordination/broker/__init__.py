"""Delivery of todos to workers with Celery: the app, a fault-tolerant kombu transport, and the messages.

A message means only "try to claim this todo". The state is in Redis under coord's own keys, so a message that
is lost, late or delivered twice does no harm.

| module | content |
|---|---|
| `celery_app.py` | the Celery app of clients and workers, with the reason for each setting |
| `transport.py` | kombu's Redis transport with priorities; survives unreadable entries and outages of Redis |
"""
