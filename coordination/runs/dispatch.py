"""Build and send the Celery messages that a step of the store makes necessary: for a level (a chord of its
todos, or a chain of one) and for one todo. Both end in `advance`. A lost message is harmless: the maintenance
leader sends it again.

Levels are never nested in one canvas. Measured with Celery 5.7: a chain of 10 groups of 100 no-ops took 133
s, wrote 5.9 GB to Redis and ran whole levels many times; a chord per level with this small body took 1.5 s.
Ids are derived from run, level and todo, so any process can send a message again as the same member of the
same chord.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from celery import Celery, chain, chord, states
from celery.app.task import Context
from celery.canvas import Signature
from kombu.connection import Connection

from coordination.backend.keys import Keys
from coordination.backend.steps.run import Delivery, Reply
from coordination.broker.celery_app import ADVANCE, EXECUTE
from coordination.runs.records import Descriptor
from coordination.runs.store import RunStore

_MARK = re.compile("@[A-Z]+@")


class Canvas:
    """Builds messages; does not send them."""

    def __init__(self, app: Celery, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    def level(self, header: Sequence[Delivery]) -> Signature:
        """Return the message that opens a level: a chord of its todos, or a chain if there is only one."""
        first = header[0]
        members = [self._execute(d) for d in header]
        if len(members) == 1:
            return chain(members[0], self.advance(first), app=self._app)
        group_id = _group_id(first)
        joined: Signature = chord(members, self.advance(first), app=self._app).set(task_id=group_id)
        return joined

    def advance(self, of: Delivery) -> Signature:
        """Return the message that opens the level after that of a todo."""
        return self._app.signature(
            ADVANCE,
            args=(of.run_id, of.level),
            immutable=True,
            options={
                "queue": self._keys.control_queue,
                "task_id": f"{of.run_id}.advance.{of.level}",
                "shadow": f"advance level {of.level}",  # no run id: Flower's metrics have a label per name
                "ignore_result": True,
            },
        )

    def part(self, of: Delivery) -> Context:
        """Return the request context of a level's member, as its worker would have it, for `count_part`."""
        options = {"id": _task_id(of), "group": _group_id(of), "group_index": of.index}
        if of.size == 1:
            return Context(options, chain=[self.advance(of)])
        return Context(options, chord=_frozen(self.advance(of)) if of.size > 1 else None)

    def todo(self, of: Delivery) -> Signature:
        """Return the message of one todo: as the same member of its level's chord or chain, if it has one."""
        execute = self._execute(of)
        if of.size == 1:
            return execute.set(chain=[_frozen(self.advance(of))])
        if of.size > 1:
            return execute.set(group_id=_group_id(of), group_index=of.index, chord=_frozen(self.advance(of)))
        return execute

    def message_template(self) -> dict[str, str]:
        """Return the template of a todo's message, for Lua steps that put it into a queue themselves.

        `queue`: the prefix of queue names. `message`: the text as Celery and kombu write it, with %s for each
        word that a step fills in. `words`: these words in order, of RUN TODO ATTEMPT REPO PLACE TAG.
        """
        marks = Delivery(
            run_id="@RUN@", todo_id="@TODO@", attempt=0, repo="@REPO@", host=None, level=0, index=0, size=0
        )
        queue = self._keys.queue("@PLACE@")
        with Connection("memory://") as connection:  # type: ignore[no-untyped-call]
            self._execute(marks).apply_async(connection=connection, queue=queue)
            message = connection.default_channel._get(queue)
        properties, headers = message["properties"], message["headers"]
        body = json.loads(base64.b64decode(message["body"]))
        body[0][2] = "@ATTEMPT@"
        del properties["body_encoding"]
        properties["delivery_tag"] = "@TAG@"
        headers["argsrepr"] = "('@RUN@', '@TODO@', @ATTEMPT@, '@REPO@')"
        message["body"] = json.dumps(body).replace('"@ATTEMPT@"', "@ATTEMPT@")
        text = json.dumps(message).replace("%", "%%")
        words = " ".join(word[1:-1] for word in _MARK.findall(text))
        return {"queue": self._keys.queue(""), "message": _MARK.sub("%s", text), "words": words}

    def _execute(self, of: Delivery) -> Signature:
        options: dict[str, Any] = {
            "queue": self._keys.queue(of.repo, of.host),
            "task_id": _task_id(of),
            "shadow": f"{of.todo_id} {of.repo}",
            "ignore_result": True,
        }
        return self._app.signature(
            EXECUTE, args=(of.run_id, of.todo_id, of.attempt, of.repo), immutable=True, options=options
        )


def _task_id(of: Delivery) -> str:
    return f"{of.run_id}.{of.todo_id}"


def _group_id(of: Delivery) -> str:
    return f"{of.run_id}.level.{of.level}"


def _frozen(signature: Signature) -> Signature:
    signature.freeze()
    return signature


def count_part(app: Celery, request: Context) -> None:
    """Count a todo as done in its level's chord or chain, for a task that does not return.

    Does nothing in a run without levels.
    """
    if request.chord:
        app.backend.on_chord_part_return(request, states.SUCCESS, None)
    elif request.chain:
        app.signature(request.chain[-1]).apply_async()


ALL = 10_000
"""More batches than any run has."""


class Dispatcher:
    """Sends the messages of replies."""

    def __init__(self, app: Celery, store: RunStore) -> None:
        self._app = app
        self._store = store
        self._canvas = Canvas(app, store.keys)

    def follow(self, reply: Reply) -> None:
        """Send the messages of a reply, and fire the todos that it wakes; their replies are followed too."""
        pending = [reply]
        while pending:
            current = pending.pop()
            if current.header:
                self._canvas.level(current.header).apply_async()
            self.send(current.sends)
            pending += [self._store.fire(run_id, todo_id) for run_id, todo_id in current.wakes]

    def send(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._canvas.todo(delivery).apply_async()

    def leave_message_template(self) -> None:
        """Store a message template in Redis, so that steps can put messages into queues themselves."""
        self._store.redis.hset(self._store.keys.envelope, mapping=self._canvas.message_template())

    def finish(self, run_id: str, at_most: int = ALL) -> None:
        """Continue the steps that concern every todo of the run, by at most `at_most` batches."""
        for _ in range(at_most):
            batch = self._store.next_batch(run_id)
            if batch is None:
                return
            self.follow(self._store.execute_batch(run_id, batch))

    def join(self, of: Delivery) -> None:
        """Count the end of a todo in its level's join, for a worker that may not count it itself."""
        count_part(self._app, self._canvas.part(of))

    def fire(self, run_id: str, todo_id: str) -> None:
        """Let the timer of a todo run out."""
        reply = self._store.fire(run_id, todo_id)
        self.follow(reply)
        if reply.word == "settled":
            self.open_level_after(run_id, todo_id)

    def open_level_after(self, run_id: str, todo_id: str) -> None:
        """Open the next level after a todo that ended without a message: no chord counts it."""
        descriptor = self._store.redis.hget(self._store.keys.run(run_id).descriptor, todo_id)
        self.advance(run_id, Descriptor.parse(descriptor).level, "join")

    def advance(self, run_id: str, level: int, source: str) -> Reply:
        reply = self._store.advance(run_id, level, source)
        self.follow(reply)
        return reply
