"""Every point at which a process of coord can be made to fail, found in its code: a step or a call that is
new is in the list by itself.

The names are those of `hooks.py`. The sweep shows whether the list is right: it reports each point that a
process reaches and that is not in the list.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import redis
from redis.client import PubSub

import coordination
import workers
from tests.chaos.failpoints.hooks import CELERY, PUBLISHES, SEAMS

ROOT = Path(coordination.__file__).parents[1]
LUA = ROOT / "coordination" / "backend" / "lua"
PACKAGES = (coordination, workers)
SENDERS = (
    "coordination.backend.library",
    "coordination.backend.step_connection",
    "coordination.backend.client",
)
"""Calls that steps go through: they have their own names."""
CLIENTS = ("redis", "client", "pubsub_redis", "ear", "bundle_redis", "reader", "blocking", "subscription")
PIPELINES = ("pipeline", "pipe")
NO_CALLS = {
    "pipeline",
    "pubsub",
    "close",
    "reset",
    "lock",
    "register_script",
    "subscribed",
    "from_url",
    "hook",
    "shutdown",  # of a socket
    "append",  # to a list
}
METHODS = {name for name in (*dir(redis.Redis), *dir(PubSub)) if not name.startswith("_")} - NO_CALLS


@cache
def names() -> frozenset[str]:
    """Without `.before` and `.after`."""
    return frozenset([*steps(), *_calls(), *PUBLISHES, *CELERY, *(name for _, _, name in SEAMS)])


def steps() -> Iterator[str]:
    for file in LUA.glob("*/*.lua"):
        if not file.name.startswith("_"):
            yield f"{file.parent.name}/{file.stem}"


def _calls() -> Iterator[str]:
    for package in PACKAGES:
        folder = Path(str(package.__file__)).parent
        for file in sorted(folder.rglob("*.py")):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            if module not in SENDERS and not module.startswith("coordination.demo.packages"):
                yield from _Calls(module).of(ast.parse(file.read_text()))


class _Calls(ast.NodeVisitor):
    def __init__(self, module: str) -> None:
        self._where = [module.removeprefix("coordination.").removesuffix(".__init__")]
        self._found: list[str] = []
        self._watched = False
        """A pipeline answers at once between `watch` and `multi`."""

    def of(self, tree: ast.AST) -> list[str]:
        self.visit(tree)
        return self._found

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        outer, self._watched = self._watched, _is_transaction(node)
        self._where.append(node.name)
        self.generic_visit(node)
        self._where.pop()
        self._watched = outer

    visit_ClassDef = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            on, method = _last(node.func.value), node.func.attr
            if called := self._called(on, method, node.args):
                self._found.append(f"{'.'.join(self._where)}:{called}")
        self.generic_visit(node)

    def _called(self, on: str, method: str, given: list[ast.expr]) -> str:
        if on == "connection" and method == "send" and given and isinstance(given[0], ast.Constant):
            return str(given[0].value).lower()
        if on in CLIENTS and method in METHODS:
            return method
        if on not in PIPELINES:
            return ""
        if method in ("watch", "multi"):
            self._watched = method == "watch"
        return method if method in ("execute", "watch") or (self._watched and method in METHODS) else ""


def _is_transaction(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Return whether it is a function that `Redis.transaction` calls with a pipeline that watches."""
    given = [argument.arg for argument in node.args.args] if isinstance(node, ast.FunctionDef) else []
    return len(given) == 1 and given[0] in PIPELINES


def _last(value: ast.expr) -> str:
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    return name.lstrip("_")


ELSEWHERE = {
    "land.merge": "a landing by pull requests: tests/integration/test_land_request_killed.py",
    "revert.": "the same",
    "gateway.": "the WebSocket gateway, which has storms of its own",
    "api.access.": "a question to Redis whether it is there, before a command by hand",
    "operations.checkup.": "doctor, which only reads",
    "runs.control.approvals.": "a command that decides nothing, and says why: it only reads",
    "api.run.Run.redis_is_full:": "a command that follows a run, where nothing moves",
    "runs.export.": "a command that writes a run as a document, and only reads",
    "breaker": "programs and commands that ask a breaker by themselves: what runs do of it is part of their "
    "own steps",
    "runs.logs.": "a command that reads logs",
    "runs.control.named_checkpoints.clear": "a command that deletes the checkpoints of ended runs",
    "message": "programs that use messages by themselves; killed in tests/contracts/test_messages_trouble.py",
    "inbox/": "the same",
    "lock": "programs that use locks by themselves; killed in tests/contracts/test_locks_trouble.py",
    "queue/": "the broker's question for a message, which goes past redis-py: see celery.take and celery.ack",
    "broker.transport.": "the broker's question for a message: see celery.take",
    "backend.server_check.ask_for_commands:execute_command": "asked within a pipeline of its own",
    "cache/hide": "a command that imports a document",
    "cache/visible": "asked along with what a todo is handed: see AttemptStore.handed_over",
    "cache.": "values are hints: looks at all of them, counts, the folder beside Redis; what todos do is in "
    "cache/",
    "runs.submission.refusals._takes_up:": "the words of a refusal, for which it only reads",
    "runs.attempt_store.AttemptStore.is_cancelled:": "a merge queue: "
    "tests/integration/test_land_request_todo.py",
    "runs.write_back.keep_filings:h": "an undone todo that a person completed: "
    "tests/acceptance/test_retry.py",
    "runs.views.": "commands, pages and metrics that look at runs, and only read",
    "api.events.": "a program that follows the events: tests/integration/test_stream_followers.py",
    "events.stream.": "the same",
    "event/request": "a program that reports an event: tests/contracts/test_events_stream.py",
    "event/trim": "the same",
    "checks.report.": "a command that reads the results of quality checks",
    "changes.resolve.": "a command that looks for the conflict of a change set",
    "runs.change_sets.store.ChangeSets.adopt:": "a command: tests/integration/test_adoption.py",
    "runs.change_sets.store.ChangeSets.discard:": "a command: "
    "tests/integration/test_discarded_change_sets.py",
    "runs.change_sets.store.ChangeSets.note_": "what a forge said of a request: the next look notes it again",
    "forges.budget.": "the number of calls to a forge: tests/integration/test_land_request_killed.py",
    "runs.control.steering._queued:": "the same",
    "health.store.Disconnections.": "commands that disconnect and connect: tests/acceptance/test_health.py",
    "health.store.HealthStore.forget_remotes:": "a repository that left the file: the next round forgets it",
    "health.store.HealthStore.monitor:": "a command that looks at the health",
    "runs.control.signing.": "decisions of trusted people: tests/integration/test_signed_decisions.py",
    "runs.signed.": "orders and results that are signed: tests/integration/test_signed_results.py",
    "runs.attempt_store.AttemptStore.signed:": "the same",
    "runs.maintenance.notifier.": "a program of the user: tests/integration/test_user_programs.py",
    "runs.maintenance.progress_feed.": "the same",
    "runs.run_contexts.clear_cache:": "a command that deletes cached values",
    "runs.submission.beginning._end:": "a sweep on results of another plan, of which it only reads",
    "runs.submission.beginning._read:": "the same",
    "runs.submission.beginning.at_run:": "a command that starts quality checks at the results of a run",
    "runs.worker_registry.WorkerRegistry.replace_services:": "a host of services: "
    "tests/integration/test_services_on_a_host.py",
    "runs.write_back.keep_failure:": "results for a file that cannot be written: "
    "tests/integration/test_results_writer.py",
    "workers.file_services.ResultsWriter.": "the same",
    "backend.embedded.": "the start of a server, by people",
}
"""Beginnings of names that no story has to come by, and whose they are. Those that one does come by are swept
all the same.
"""


def elsewhere(name: str) -> str:
    return next((why for beginning, why in ELSEWHERE.items() if name.startswith(beginning)), "")
