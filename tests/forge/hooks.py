"""Webhooks of the test forge: signed, delivered in the background, kept so that a test can send one again."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Queue
from typing import Any

from tests.forge.core import Core
from tests.forge.dialect import Dialect
from tests.forge.records import Hook, Person, Project


@dataclass
class Delivery:
    url: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    """Status of the receiver's answer; 0: it was not reached."""


def signed(hook: Hook, body: bytes, delivery: str) -> dict[str, str]:
    """Return the headers by which a receiver knows that a body comes from the forge."""
    if hook.dialect == "gitlab":
        return {"X-Gitlab-Token": hook.secret, "Idempotency-Key": delivery}
    signature = hmac.new(hook.secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Delivery": delivery}
    if hook.dialect == "gitea":
        headers |= {"X-Gitea-Signature": signature, "X-Gitea-Delivery": delivery}
    return headers


class Deliveries:
    def __init__(self, core: Core, dialects: Mapping[str, Dialect]) -> None:
        self.dialects = dialects
        self.made: list[Delivery] = []
        self._waiting: Queue[Delivery | None] = Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        core.listeners.append(self.hear)

    def hear(self, project: Project, kind: str, action: str, what: Any, by: Person | None) -> None:
        for hook in project.hooks:
            event = self.dialects[hook.dialect].event(hook, project, kind, action, what, by)
            if event is None:
                continue
            headers, payload = event
            body = json.dumps(payload).encode()
            headers |= signed(hook, body, str(uuid.uuid4()))
            self.send(Delivery(hook.url, {"Content-Type": "application/json"} | headers, body))

    def send(self, delivery: Delivery) -> None:
        self._waiting.put(delivery)

    def flush(self) -> list[Delivery]:
        """Wait until all are delivered; return them."""
        self._waiting.join()
        return list(self.made)

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while delivery := self._waiting.get():
            request = urllib.request.Request(delivery.url, delivery.body, delivery.headers, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    delivery.status = answer.status
            except urllib.error.HTTPError as error:
                delivery.status = error.code
            except OSError:
                delivery.status = 0
            self.made.append(delivery)
            self._waiting.task_done()
