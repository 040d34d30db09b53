"""Delivery of todos to workers with Celery: the app, a fault-tolerant kombu transport, and the messages.

A message means only "try to claim this todo". The state is in Redis under coord's own keys, so a message that
is lost, late or delivered twice does no harm.
"""
