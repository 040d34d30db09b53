"""Views: plain functions that turn answers of the facade into the data of a template.

| module | page |
|---|---|
| `now.py` | Now: running, waiting and failed work; Fleet: workers, services, queues, locks, breakers |
| `runs.py` | the list of runs, one run, one todo of a run with its log |
| `changes.py` | change sets |
| `board.py` | issues, plans and todos of the file |
| `history.py` | search, trends, comparison of two runs |
| `actions.py` | forms: the actions of a person, and the equivalent commands |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from coordination.dashboard.pages import Download, Page, PageRequest
from coordination.dashboard.views import board, changes, history, now, runs
from coordination.dashboard.views.actions import COMMANDS

VIEWS: Mapping[str, Callable[[PageRequest], Awaitable[Page | Download]]] = {
    "/": now.now,
    "/runs": runs.runs,
    "/run": runs.run,
    "/run/gantt": runs.gantt,
    "/todo": runs.todo,
    "/todo/log": runs.log,
    "/todo/raw": runs.raw,
    "/changes": changes.changes,
    "/change": changes.change,
    "/board": board.board,
    "/record": board.record,
    "/repositories": board.repositories,
    "/fleet": now.fleet,
    "/history": history.history,
}
ACTIONS: Mapping[str, str] = {name: command.operation for name, command in COMMANDS.items()}
"""Action → the operation whose right it needs."""
