"""Carries todos to workers with Celery: the app, kombu's transport made safe, and the messages.

A message says "try to claim this todo" and nothing else. Redis holds the truth under coord's own keys, so a message
that is lost, late or delivered twice changes nothing.

| module | content |
|---|---|
| `celery_app.py` | the Celery app of clients and workers, with the reason for each setting |
| `kombu_transport.py` | kombu's Redis transport; survives unreadable queue entries and a Redis that is away |
| `priority_transport.py` | takes the most urgent message of all queues of a worker in one step |
| `canvas.py` | a level of a plan as Celery's chord or chain; the message template that steps fill in |
| `delivery.py` | the content of a message about one todo |
"""
