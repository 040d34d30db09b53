"""The port of an attempt: attempts at one todo T of the repository `api`, without Redis."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coordination.backend.steps.run import Undo
from coordination.errors import GitRefused
from coordination.messages import Message
from coordination.models import AgentAction, Repo, Retry, Todo
from coordination.runs.attempt_store import Grant
from coordination.runs.records import AgentUsage, RunBrief, TodoSpec, TodoState
from coordination.runs.submission.specs import with_agents
from coordination.settings import Settings
from tests.testbed import git
from tests.worktrees import run_id
from workers.attempt.attempt import Attempt
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.output import Log
from workers.credentials import TodoSecrets
from workers.outcome import AttemptOutcome
from workers.sandbox import Sandboxes
from workers.workspace.change_set import GitSessions
from workers.workspace.git import Hold

RUN = run_id(2)
UNDONE = run_id()
"""The run whose todo a compensation undoes."""
SCRATCH = (
    'scratch=$(mktemp -d); (cd "$scratch"; git init -q; git config user.email h@x; git config user.name h; '
    'echo s > s; git add s; git commit -q -m scratch); git -C "$scratch" log --format=%s; rm -rf "$scratch"'
)
"""Shell commands of a program that makes a repository elsewhere, and removes it."""


def undo(
    output: str = '{"bucket":"b-7"}', *, last: bool = False, was: TodoState = TodoState.SUCCEEDED
) -> Undo:
    """Return the order to undo the todo, which ended with this output."""
    return Undo(was=was, output=output, last=last, run=UNDONE, had_ended=True)


def message(payload: object, sender: str = "agent:ann") -> Message:
    """Return a message that waits for the repository."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Message(id="m", to="repo:api", type="note", payload=payload, sender=sender, sent_at=at, offset=1)


@dataclass
class Bench:
    folder: Path
    brief: RunBrief = field(default_factory=lambda: RunBrief(run_id=RUN, plan_id="PLAN-001"))
    context: Mapping[str, Any] = field(default_factory=dict)
    fence: int = 0
    url: str | None = None
    secrets: TodoSecrets | None = None
    """The credentials of the machine; `names` of an attempt are those that its todo names."""
    connection: Callable[[Callable[[Any], Any]], AbstractContextManager[str]] = lambda _: nullcontext("")
    ordered: Settings = field(default_factory=Settings)
    """The settings of the order, with its agents."""
    run: str = RUN
    tries: int = 0
    """Failures of the todo so far."""
    reads: Mapping[str, Path] = field(default_factory=dict)
    """Where the agent sees other repositories."""
    changes: Callable[[Mapping[str, Any]], str] = lambda _: ""
    """Returns the changes of a predecessor in `context`."""
    messages: Sequence[Message] = ()
    """Those that wait for the repository."""
    used: list[AgentUsage] = field(default_factory=list)
    """The use of agents that attempts have noted."""
    is_over_budget: bool = False
    """True if the budget of the plan or of the day is used up."""
    _spent: dict[str, AgentUsage] = field(default_factory=dict)
    """Run → the use by its ended attempts."""
    _worker: tuple[Settings, Sandboxes] | None = None

    @property
    def checkout(self) -> Path:
        return self.folder / "api"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def tree(self) -> Path:
        return self.state / "worktrees" / RUN / "api"

    @property
    def out(self) -> Path:
        """`$OUT` of every todo."""
        return self.folder / "out"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def attempt(
        self,
        action: Any = None,
        tip: str | None = None,
        *,
        undo: Undo | None = None,
        prepare: str | None = None,
        secrets: tuple[str, ...] = (),
        settings: Settings | None = None,
        names: tuple[str, ...] = (),
        demanded: bool = False,
        behind: str = "",
        qa: Any = (),
        **todo: Any,
    ) -> AttemptOutcome:
        self.fence += 1
        row: dict[str, Any] = {
            "id": "T",
            "task": "Raise the minimum",
            "repo": "api",
            "secrets": names,
            **todo,
        }
        row["env"] = {"OUT": str(self.out), **todo.get("env", {})}
        declared = Todo.model_validate(row if action is None else {**row, "action": action})
        repo, agents = Repo(name="api", prepare=prepare, url=self.url, qa=qa), ()
        if any(one is None or isinstance(one, AgentAction) for one in (declared.action, declared.compensate)):
            declared, agents = with_agents(declared.working_in(repo), self.ordered)
        spec = TodoSpec(
            todo=declared,
            repo=repo.model_copy(update={"qa": ()}),
            agents=agents,
            timeout=declared.timeout or Settings().todo_timeout,
            retry=Retry(),
            behind=behind,
        )
        here = AttemptEnvironment(
            brief=self.brief,
            context=lambda: self.context,
            state=self.state,
            checkout=self.checkout,
            output_limit_bytes=Settings().output_limit_bytes,
            verify=lambda: None,
            check_history=lambda *_: None,
            results=None,
            connection=self.connection,
            secrets=self.secrets or TodoSecrets(self.folder / "no-credentials", {}, "h", lambda *_: None),
            fetch=self._fetch,
            git_sessions=GitSessions(),
            sandboxes=self._sandboxes(settings or Settings()),
            reads=lambda: self.reads,
            changes=self.changes,
            messages=lambda: self.messages,
            landing=None,
            base=None,
            set_back=str,
            sandbox_demanded=demanded,
            note_usage=self._note_usage,
            withdraw=lambda: None,
        )
        grant = Grant(
            run_id=self.run,
            todo_id="T",
            attempt=self.fence,
            fence=self.fence,
            spec_json=spec.model_dump_json(),
            tip=tip,
            tries=self.tries,
            undo=undo,
            usage=self._usage_fact(),
        )
        noted = len(self.used)
        log = Log(lambda text, skipped: None, self.folder / "log", limit_bytes=100_000, secrets=secrets)
        try:
            return Attempt(grant, here, log).run()
        finally:
            log.close()
            if self.used[noted:]:
                self._spent[self.run] = self._spent.get(self.run, AgentUsage()) + self.used[-1]

    def _usage_fact(self) -> str:
        spent = self._spent.get(self.run)
        return json.dumps({"before": {}, "now": json.loads(spent.numbers())}) if spent else ""

    def _note_usage(self, used: AgentUsage) -> bool:
        self.used.append(used)
        return self.is_over_budget

    def _sandboxes(self, settings: Settings) -> Sandboxes:
        """Those of one worker for as long as its settings stay: bubblewrap is tried once."""
        if self._worker is None or self._worker[0] != settings:
            self._worker = settings, Sandboxes(settings, self.state)
        return self._worker[1]

    def _fetch(self, commit: str, _checkout: Path, _hold: Hold) -> None:
        raise GitRefused(f"{commit} is on no other host")

    def make_repository(self, path: Path | None = None) -> Path:
        path = path or self.checkout
        git(self.folder, "init", "-q", "-b", "main", str(path))
        (path / "code").write_text("one\n")
        git(path, "add", "code")
        git(path, "commit", "-q", "-m", "first")
        return path

    def hook(self, name: str, *lines: str) -> None:
        path = self.checkout / ".git" / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o755)

    def said(self, form: str, commit: str) -> str:
        return git(self.checkout, "log", "-1", f"--format={form}", commit)

    def branches(self) -> list[str]:
        return git(self.checkout, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()

    def standing(self, ref: str = f"coord/{RUN}") -> str:
        return git(self.checkout, "rev-parse", ref)
