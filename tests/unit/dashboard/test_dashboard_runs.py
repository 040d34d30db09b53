"""The log of a todo on its page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import Any

from coordination.api import TodoState
from coordination.dashboard.views import runs


class Request:
    """A request whose answers stay shared until they are outdated by their keys."""

    def __init__(self) -> None:
        self.state, self.log, self._kept = TodoState.RUNNING, "begun\n", {}

    def get(self, name: str) -> str:
        return {"run": "R", "id": "T"}[name]

    def number(self, name: str) -> int:
        return 0

    async def read(self, key: Hashable, read: Callable[[Any], Any]) -> Any:
        if key == ("run", "R"):
            todo = SimpleNamespace(id="T", state=self.state)
            view = SimpleNamespace(run_id="R", todos=[todo])
            return SimpleNamespace(value=SimpleNamespace(view=view))
        if key not in self._kept:
            run = SimpleNamespace(log=lambda todo: [self.log])
            coord = SimpleNamespace(runs=SimpleNamespace(get=lambda run_id: run))
            self._kept[key] = SimpleNamespace(value=read(coord))
        return self._kept[key]


def shown(request: Any) -> tuple[str, bool]:
    data = asyncio.run(runs.log(request)).data
    return data["log"], data["follow"]


def test_a_log_is_followed_until_its_end_is_shown():
    request = Request()
    assert shown(request) == ("begun\n", True)

    request.state, request.log = TodoState.SUCCEEDED, "begun\ngone on\n"

    assert shown(request) == ("begun\ngone on\n", False)
