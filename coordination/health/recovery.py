"""Recoveries as runs: the restart of a service, the command that recovers a repository.

The restart of a service is the todo `service.NAME`, as in `coord service restart`, so that people and the
monitor cannot change a service at the same time. A service that a person has stopped meanwhile stays down.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from coordination.errors import CoordinationError, NotFound
from coordination.health.facts import ServiceReport, repo_of
from coordination.health.records import Health, Kind
from coordination.messages import MessageBus
from coordination.models import (
    Ecosystem,
    OnFailure,
    Retry,
    ServiceAction,
    ServiceStep,
    ShellAction,
    Todo,
    Workspace,
    generated_id,
)
from coordination.runs.records import RunStatus
from coordination.runs.run_kinds import RECOVER, SERVICE

if TYPE_CHECKING:
    from coordination.runs.connection import Connection

logger = logging.getLogger(__name__)

ACTOR = "coord (health)"
MESSAGE = "health"
"""Type of the message which says that a recovery was given up."""


class RecoveryRuns:
    def __init__(
        self,
        connection: Callable[[], Connection],
        declared: Callable[[], Ecosystem],
        services: Callable[[], Iterable[ServiceReport]],
        bus: MessageBus,
    ) -> None:
        """`connection` opens the connection of the worker; `services` returns the services of all hosts that
        should be up.
        """
        self._open = connection
        self._declared = declared
        self._services = services
        self._bus = bus

    def begin(self, record: Health) -> str:
        """Start the run; return its id. Raises Conflict, NotFound, NotAllowed."""
        # Every worker with the file has a monitor; only the one that leads needs what submits runs.
        from coordination.planner.generated import generated_plan
        from coordination.runs.control.starting import start_generated
        from coordination.runs.submission.order import order_of_generated

        subject, declared = record.subject, self._declared()
        todo = self._restart(declared, subject.name) if subject.kind is Kind.SERVICE else None
        records, graph = generated_plan(
            declared,
            f"{RECOVER}:{subject.id.replace(':', '.')}",
            f"recover {subject.kind} {subject.name}",
            (todo or self._command(declared, subject.name),),
            repos=(subject.repo,),
            on_failure=OnFailure.CONTINUE,
        )
        order = order_of_generated(graph.plan, SERVICE if todo else "execute", actor=ACTOR)
        hosts = {one.repo: one.host for one in self._services() if todo and one.name == subject.name}
        return start_generated(self._open(), records, graph, order, alone=True, hosts=hosts)

    def outcome(self, run: str) -> str | None:
        """Return why the run failed, "" if it succeeded, None while it continues."""
        if not run:
            return "its run is not known"
        status = self._open().store.status(run)
        if status is None:
            return f"its run {run} is gone"
        ended = RunStatus(status)
        if not ended.ended:
            return None
        return "" if ended is RunStatus.SUCCEEDED else f"run {run} {ended}: {self._why(run)}"

    def cancel(self, run: str) -> None:
        if run:
            connection = self._open()
            connection.dispatcher.follow(connection.store.cancel(run, ACTOR))

    def tell(self, record: Health) -> None:
        """Write to the inbox of the repository, and to its owner where that is a recipient."""
        repo = repo_of(self._declared(), record.subject.repo)
        owner = repo.owner if repo else None
        payload = {
            "subject": record.id,
            "state": record.state.value,
            "why": record.why,
            "recoveries": record.vain,
            "run": record.run,
            "next": f"coord repo health {record.subject.name}",
        }
        for recipient in filter(None, (f"repo:{record.subject.repo}", owner)):
            try:
                self._bus.register(recipient)  # it may never have got a message
                self._bus.send(recipient, MESSAGE, payload)
            except CoordinationError as error:
                logger.warning(
                    "no message to %s that the recovery of %s is given up: %s",
                    recipient,
                    record.id,
                    error.message,
                )

    def _why(self, run: str) -> str:
        with suppress(CoordinationError):
            view = self._open().reader.read(run)
            return next((todo.error.partition("\n")[0] for todo in view.todos if todo.error), "")
        return ""

    @staticmethod
    def _restart(declared: Ecosystem, name: str) -> Todo:
        service = next((one for one in declared.coordination.services if one.name == name), None)
        if service is None:
            raise NotFound(f"service {name} is not declared any more", "stop it: coord service stop")
        return Todo(
            id=generated_id(f"{SERVICE}.{name}"),
            task=f"restart service {name}",
            repo=service.repo,
            action=ServiceAction(
                type="service",
                step=ServiceStep.RESTART,
                name=name,
                service=service,
                if_wanted=True,
            ),
            workspace=Workspace.WORKTREE,
            retry=Retry(attempts=1),
        )

    @staticmethod
    def _command(declared: Ecosystem, name: str) -> Todo:
        repo = repo_of(declared, name)
        if repo is None or repo.recover is None:
            raise NotFound(f"repository {name} has no command to recover it", "name one: `recover`")
        return Todo(
            id=generated_id(f"{RECOVER}.{name}"),
            task=f"recover repository {name}",
            repo=name,
            action=ShellAction(type="shell", run=repo.recover),
            workspace=Workspace.IN_PLACE,
            retry=Retry(attempts=1),
        )
