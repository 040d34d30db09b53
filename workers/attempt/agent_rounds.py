"""The rounds of an agent within one attempt of a todo.

    prompt → program → judge → changed, and only within `paths`? → verify → done
                ↑                        │                            │
                └──── feedback, in the same session, rounds left ─────┘

A round counts as done only if the records of the program say so (`judge.py`). What counts as work is decided
by the worktree and the verify commands, which run without the agent's login, never by the agent's words.

A limit of the account ends the attempt without a failure: the work is kept, and the next attempt goes on in
the same session. In a sandbox the folder has a place that depends on plan and repository only, where programs
find their sessions again.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from urllib.parse import quote

from coordination.errors import CoordinationError, PlanRefused
from coordination.files import make_private, open_private
from coordination.models import Agent, Check, QaAction, argv_of
from coordination.runs import agent_records
from coordination.runs.attempt_store import Grant
from coordination.runs.change_sets.records import CheckVerdict
from coordination.runs.records import AgentUsage, WaitReason
from coordination.runs.retry_policy import Failure
from coordination.sandbox import Binds
from coordination.text import shortened
from workers.agents.fields import clean
from workers.agents.judge import Judgement, RoundEnd, judge
from workers.agents.memory import AgentMemory
from workers.agents.program import AgentProgram, Records, Report, Resume, Start
from workers.agents.programs import PROGRAMS
from workers.agents.scope import outside, shown
from workers.agents.stream import Item, JsonRecord, Stream
from workers.attempt import prompt
from workers.attempt.checks import judge as judge_check
from workers.attempt.checks import report_of, stamps
from workers.attempt.commands import AttemptCommands, Command
from workers.attempt.output import Log, OutputRefused, bytes_of
from workers.attempt.usage import Spending, UsageMeter
from workers.outcome import AttemptOutcome, OutcomeKind, describe_exit
from workers.process.child import Exit
from workers.workspace.base import Workspace

PLACE = Path("/coord")
"""Folder in which sandboxes show the folders of agents, by plan and repository."""
RAW_BYTES = 64 * 1024 * 1024
"""Bytes of the raw records of an attempt."""
OVERLOADED_FOR = timedelta(seconds=30)
LONGEST_LIMIT = timedelta(days=35)
"""A later end of a limit is not believed: no account is limited for longer than a month."""
LIMITED_FOR = timedelta(minutes=1)
"""The first pause after a limit whose end the program does not tell; each further one is twice as long."""
LONGEST_PAUSE = timedelta(minutes=30)
"""The longest of these pauses."""
HINTS = {
    RoundEnd.AUTH: "log in on {host}, or set its key in the environment of its worker",
    RoundEnd.QUOTA: "see what its account still has",
}
"""The remedies of a person."""
LONGEST_QUESTION = 4000
"""Characters."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """An agent's work that all verify commands accept."""

    by: str
    """Its author: `preset/version model session`."""


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """A fault of the work of a round."""

    text: str
    """The next prompt."""
    why: str
    """The same for people, on one line."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The attempt in which the rounds take place."""

    grant: Grant
    state: Path
    plan: str
    commands: AttemptCommands
    log: Log
    workspace: Workspace
    environment: Mapping[str, str]
    binds: Binds
    interrupted: Callable[[Exit, str], AttemptOutcome | None]
    """Returns the outcome of a command that this host has interrupted; None if that is not the cause of its
    failure. The text precedes the cause.
    """
    failed: Callable[[Exit, str], AttemptOutcome]
    """Returns the outcome of a command that failed. The text precedes the cause."""
    usage: UsageMeter


class AgentRounds:
    """`run` executes all rounds of an attempt."""

    def __init__(self, task: prompt.Task, around: Surroundings) -> None:
        """Raises PlanRefused where the order names no agent."""
        spec, action = around.grant.spec, task.action
        agent = spec.agent(action, around.grant.tries)
        if agent is None:
            why = f"{action.agent[0]} is not declared" if action.agent else "no agent command is configured"
            raise PlanRefused(
                f"{task.todo.id} needs an agent, and {why}",
                "set agents or agent_command under settings in ecosystem.yaml, or give the todo an action",
            )
        self._agent: Agent = agent
        self._program: AgentProgram = PROGRAMS[agent.kind]
        self._around = around
        self._action = action
        self._memory = AgentMemory(around.state, around.plan, task.repo.name, task.todo.id)
        own = self._memory.read()
        self._continues = action.continues is not None and not own.unfinished
        """True where it goes on in a session that has finished."""
        self._before = self._memory.after(action.continues or "") if self._continues else own
        self._remembered = self._before.within(around.grant.run_id)
        self._task = replace(task, folder=self._folder, failure=self._remembered.failure)
        self._first = prompt.prompt_of(self._task)
        """The prompt of a new session."""
        self._until = time.monotonic() + spec.timeout.total_seconds()
        self._spending = Spending(agent, action.budget, around.grant.used, around.usage)
        self._last = Report()
        """The report of the last round."""
        self._session = ""
        """The session that goes on; empty: a new one."""
        self._said = ""
        """The prompt of the next round."""
        self._told = self._why = ""
        """The last feedback, and the same for people."""
        self._has_begun_anew = False

    @property
    def _folder(self) -> Path:
        return self._alias or self._around.workspace.path

    @property
    def _alias(self) -> Path | None:
        """Return the place at which a sandbox shows the folder; None without one."""
        if not self._around.commands.confinement or not self._program.reports:
            return None
        return PLACE / (quote(self._around.plan, safe="") or "-") / self._around.grant.spec.repo.name

    @property
    def _rounds(self) -> int:
        return 1 if self._task.compensated else self._action.rounds

    def run(self) -> AttemptOutcome | Work:
        """Execute rounds until the work is accepted, or one ends the attempt otherwise."""
        with self._memory.in_use():
            return self._run()

    def _run(self) -> AttemptOutcome | Work:
        is_back, self._session = self._restored(), self._resumed()
        answered = prompt.ANSWERED if self._session and self._around.grant.answer else ""
        is_again = bool(self._session) and not self._continues
        before = prompt.GO_ON if is_back else prompt.BEGIN_AGAIN if is_again else ""
        self._said = answered + before + self._first
        number = 0
        while number < self._rounds:
            if time.monotonic() >= self._until:
                return self._failed("timeout", Failure(timeout=True, shows=self._shows))
            if (outcome := self._over_budget()) is not None:
                return outcome
            self._log(f"round {number + 1} of {self._rounds}: {self._agent.name}")
            ended, judged = self._round()
            if self._begins_anew(judged):
                continue  # a session that cannot go on uses up no round
            if (done := self._after(ended, judged)) is not None:
                return done
            number += 1
        return self._failed(f"{self._why} (after {self._rounds} rounds)")

    def _after(self, ended: Exit, judged: Judgement) -> AttemptOutcome | Work | None:
        """Return the end of the attempt; None if another round follows."""
        if (stopped := self._around.commands.stopped) is not None:
            return AttemptOutcome(kind=stopped)
        if judged.kind is RoundEnd.DONE and (question := self._question()):
            judged = Judgement(kind=RoundEnd.QUESTION, text=question)
        if judged.kind not in (RoundEnd.LIMITED, RoundEnd.OVERLOADED) and self._remembered.pauses:
            self._remember(pauses=0)
        if judged.kind is not RoundEnd.DONE:
            return self._over_budget() or self._ended(ended, judged)
        feedback = self._feedback()
        if (stopped := self._around.commands.stopped) is not None:
            return AttemptOutcome(kind=stopped)
        if feedback is None:
            return self._accept()
        if isinstance(feedback, AttemptOutcome):
            return feedback
        if feedback.text == prompt.CHANGED_NOTHING == self._told:
            return self._failed(feedback.why)
        if (outcome := self._over_budget(f"; {feedback.why}")) is not None:
            return outcome
        self._tell(feedback)
        return None

    def _begins_anew(self, judged: Judgement) -> bool:
        """Begin a new session, once, if the present one is full or cannot be resumed."""
        is_over = judged.kind in (RoundEnd.LOST, RoundEnd.CONTEXT)
        if not is_over or self._has_begun_anew or self._around.commands.stopped is not None:
            return False
        self._log(f"the session cannot go on, a new one begins: {judged.text}")
        self._has_begun_anew, self._session = True, ""
        self._said = f"{self._first}\n{self._summary()}"
        return True

    def _tell(self, feedback: Feedback) -> None:
        self._log(feedback.why)
        self._session, self._told, self._why = self._last.session, feedback.text, feedback.why
        # a program without sessions knows nothing of the earlier rounds
        first = "" if self._session else f"{self._first}\n"
        self._said = f"{first}{feedback.text}"

    def refuse_outside(self, tip: str) -> str:
        """Return why the commits of the work may not stay; empty if all of it is within `paths`."""
        if not self._action.paths:
            return ""
        found = outside(self._around.workspace.committed_paths(tip), self._action.paths)
        return f"its commits change what `paths` does not allow: {shown(found)}" if found else ""

    # One round

    def _restored(self) -> bool:
        """Bring kept work back into the folder; return whether there was any."""
        if not (kept := self._remembered.kept):
            return False
        if self._around.workspace.restore(kept):
            self._log("the work of the last attempt is back in the folder")
            return True
        self._remember(kept="")
        return False

    def _resumed(self) -> str:
        """Return the session that goes on; empty where a new one begins."""
        found, resume = self._before, self._program.resume
        if not found.unfinished or found.agent != self._agent.name or resume is Resume.NEVER:
            return ""
        # Without a sandbox the folder depends on the run.
        is_there = self._alias is not None or found.run == self._around.grant.run_id
        return found.session if is_there or resume is Resume.ANYWHERE else ""

    def _round(self) -> tuple[Exit, Judgement]:
        program, agent, around, session = self._program, self._agent, self._around, self._session
        known = self._remembered
        start = Start(
            prompt=self._said,
            session=session,
            new_session=str(uuid.uuid4()),
            usd_left=self._spending.usd_left,
            turns_left=self._spending.turns_left,
        )
        invocation = program.invocation(agent, start)
        environment = {**around.environment, **program.environment(agent, confined=self._alias is not None)}
        session_used = known.session_used if session else AgentUsage()
        self._remember(
            unfinished=True,
            session=session or start.new_session,
            failure="",
            session_used=session_used,
        )
        records = program.records(session_used)
        with self._raw() as raw:
            stream = Stream()

            def take(data: bytes) -> None:
                self._take(stream.feed(data), records, raw)
                report = records.report()
                if (over := self._spending.watch(report)) and not report.done:
                    around.commands.interrupt(over)

            command = Command(
                argv=invocation.argv,
                stdin=invocation.stdin,
                timeout=timedelta(seconds=max(1.0, self._until - time.monotonic())),
                on_output=take if program.reports else None,
                has_login=True,
                alias=self._alias,
                terms=2,
            )
            ended = around.commands.run(around.workspace, command, environment, around.binds + self._home())
            self._take(stream.end(), records, raw)
        self._last = records.report()
        self._spending.end_round(self._last)
        self._remember(
            session=self._last.session or self._remembered.session,
            session_used=session_used + self._last.usage,
        )
        judged = judge(
            self._last,
            exit_code=ended.exit_code,
            signal=ended.signal,
            reason=ended.reason,
            tail=around.commands.output_tail.tail,
            reports=program.reports,
        )
        return ended, judged

    def _home(self) -> Binds:
        """Return the folders in which the program keeps its sessions, at their places in the home folder."""
        confinement = self._around.commands.confinement
        if confinement is None or confinement.home is None:
            return Binds()
        places = ((self._memory.home(name), confinement.home / name) for name in self._program.state)
        return Binds(placed=tuple(places))

    def _raw(self) -> IO[bytes]:
        grant = self._around.grant
        file = agent_records.file_of(self._around.state, grant.run_id, grant.todo_id, grant.attempt)
        make_private(file.parent)
        return open_private(file, "ab")

    def _take(self, items: Iterable[Item], records: Records, raw: IO[bytes]) -> None:
        """Write the lines of the transcript, and the records beside them."""
        log, tail = self._around.log, self._around.commands.output_tail
        for item in items:
            if isinstance(item, JsonRecord):
                masked = log.masked_json(item.fields)
                if raw.tell() < RAW_BYTES:
                    raw.write(json.dumps(masked, ensure_ascii=False).encode(errors="replace") + b"\n")
                lines = records.take(masked)
            else:
                lines = records.take_text(item.text)
            for line in lines:
                tail.take(f"{line}\n".encode())

    # What a round leaves

    def _feedback(self) -> Feedback | AttemptOutcome | None:
        """Return what is wrong with the work, None if it is accepted; the outcome, if this host interrupts
        the checks.
        """
        workspace, action = self._around.workspace, self._action
        if self._task.compensated is not None:
            return None
        changed = workspace.changed_paths()
        if changed is not None:
            if not changed and not self._has_output and self._program.reports:
                return Feedback(text=prompt.CHANGED_NOTHING, why="the agent has changed nothing")
            if found := changed if action.read_only else outside(changed, action.paths):
                forbids = "`read_only`" if action.read_only else "`paths`"
                why = f"the agent has changed what {forbids} does not allow: {shown(found)}"
                return Feedback(text=prompt.after_scope(found, action), why=why)
        for check in (one for one in action.verify or () if isinstance(one, Check)):
            self._note_edited(check, changed or ())
            if (wrong := self._verify(check)) is not None:
                return wrong
        if changed is not None and (left := set(workspace.changed_paths() or ()) - set(changed)):
            self._log(f"verify has left files, which are not kept: {shown(sorted(left))}")
            workspace.undo(sorted(left))
        return None

    @property
    def _has_output(self) -> bool:
        file = self._task.output
        return file.exists() and file.stat().st_size > 0

    def _note_edited(self, check: Check, changed: Sequence[str]) -> None:
        words = {word.removeprefix("./") for word in prompt.command_text(check).split()}
        folder = self._around.workspace.path
        if edited := [path for path in sorted(words & set(changed)) if os.access(folder / path, os.X_OK)]:
            self._log(f"the agent has changed what verifies its work: {shown(edited)}")

    def _verify(self, check: Check) -> Feedback | AttemptOutcome | None:
        """Run a check on the work; return what is wrong, None if it is green."""
        around = self._around
        self._log(f"verify: {prompt.command_line(check)}")
        action = QaAction(type="qa", check=check.name, run=check.run, report=check.report)
        before = stamps(around.workspace.path, check.report) if check.report else {}
        left = timedelta(seconds=max(1.0, self._until - time.monotonic()))
        limit = min(left, check.timeout or left)
        around.commands.output_tail.forget()
        command = Command(argv=argv_of(check.run), timeout=limit)
        ended = around.commands.run(around.workspace, command, around.environment, around.binds)
        how = describe_exit(ended, limit)
        result = judge_check(action, ended, how, report_of(around.workspace.path, check.report, before), "")
        if result.verdict is CheckVerdict.GREEN:
            return None
        why = f"verify failed: {prompt.command_line(check)}"
        if (interrupted := around.interrupted(ended, why)) is not None:
            return interrupted
        failures = [failure.name for failure in result.failures]
        said = prompt.after_verify(check, result.why or how, around.commands.output_tail.tail, failures)
        return Feedback(text=said, why=why)

    # The end

    def _accept(self) -> Work:
        last = self._last
        version = f"/{last.version}" if last.version else ""
        by = " ".join(filter(None, (f"{self._agent.name}{version}", last.model, last.session)))
        self._finish("")
        return Work(by=by)

    def _finish(self, failure: str) -> None:
        """Remember the end of the attempt; another one begins anew."""
        self._remember(unfinished=False, failure=failure, kept="")
        self._around.workspace.forget_kept(self._task.todo.id)

    def _ended(self, ended: Exit, judged: Judgement) -> AttemptOutcome:
        """Return the outcome of a round that is not done."""
        match judged.kind:
            case RoundEnd.LIMITED | RoundEnd.OVERLOADED:
                return self._pause(judged)
            case RoundEnd.AUTH | RoundEnd.QUOTA | RoundEnd.QUESTION:
                return self._wait_for_person(judged)
            case RoundEnd.OVER:
                return self._failed(f"budget: its limit of {judged.text} is reached")
        if ended.ok:
            return self._failed(judged.text)
        told = judged.text in describe_exit(ended, self._around.grant.spec.timeout)
        outcome = self._around.failed(ended, "" if told else f"{judged.text}: ")
        if outcome.kind is OutcomeKind.FAILED:
            self._finish(judged.text)
        return outcome

    def _question(self) -> str:
        """Return the text that the agent has written to COORD_QUESTION; empty without one."""
        try:
            written = bytes_of(self._task.question, LONGEST_QUESTION)
        except (OutputRefused, OSError):  # a link, or a folder
            return ""
        return str(self._around.log.masked_json(clean(written.decode(errors="replace")).strip()))

    def _wait_for_person(self, judged: Judgement) -> AttemptOutcome:
        """Return the outcome where only a person can help: the todo waits, and keeps its work. A compensation
        fails, because a rollback does not wait for a person.
        """
        name, text = self._agent.name, shortened(judged.text, LONGEST_QUESTION)
        hint = HINTS.get(judged.kind, "").format(host=socket.gethostname())
        why = f"{name}: {text}; {hint}" if hint else f"{name} asks: {text}"
        if self._task.compensated is not None:
            self._finish(why)
            self._log(f"failed: {why}")
            return AttemptOutcome(kind=OutcomeKind.REFUSED, error=why)
        self._keep()
        self._around.log.wait_line(f"waits for a person: {why}")
        return AttemptOutcome(kind=OutcomeKind.DEFERRED, error=why, reason=WaitReason.PERSON)

    def _pause(self, judged: Judgement) -> AttemptOutcome:
        """Return the outcome of a limit: the todo waits, uses up no attempt, and keeps its work."""
        pauses = self._remembered.pauses
        self._keep(pauses=pauses + 1)
        first = OVERLOADED_FOR if judged.kind is RoundEnd.OVERLOADED else LIMITED_FOR
        pause = min(first * 2 ** min(pauses, 10), LONGEST_PAUSE)
        if judged.until is not None and judged.until - datetime.now(UTC) < LONGEST_LIMIT:
            pause = max(timedelta(seconds=1), judged.until - datetime.now(UTC))
        why = f"a limit of {self._agent.name}: {judged.text}"
        self._around.log.wait_line(f"waits for {why}")
        return AttemptOutcome(kind=OutcomeKind.DEFERRED, error=why, again=pause, reason=WaitReason.LIMIT)

    def _over_budget(self, further: str = "") -> AttemptOutcome | None:
        """Return the outcome where a budget is used up: that of the todo fails it; that of its plan or of
        the day lets it wait for a person, and the next claim says which it is. None if none is.
        """
        if over := self._spending.over():
            return self._failed(f"budget: {over}{further}")
        if not self._spending.is_over_for_all:
            return None
        self._keep()
        why = "the budget of its plan or of the day is used up"
        self._around.log.wait_line(f"waits: {why}")
        return AttemptOutcome(
            kind=OutcomeKind.DEFERRED, error=why, again=timedelta(seconds=1), reason=WaitReason.BUDGET
        )

    def _keep(self, **remembered: object) -> None:
        """Keep the work for the attempt that goes on, and remember that and these values."""
        kept = ""
        try:
            if self._around.workspace.changed_paths():
                kept = self._around.workspace.keep(self._task.todo.id, f"unfinished: {self._task.todo.task}")
        except CoordinationError as error:
            self._log(f"its work could not be kept: {error.message}")
        self._remember(kept=kept, **remembered)

    def _failed(self, why: str, failure: Failure | None = None) -> AttemptOutcome:
        self._finish(why)
        self._log(f"failed: {why}")
        failure = failure or Failure(exit_code=1, shows=self._shows)
        return AttemptOutcome(kind=OutcomeKind.FAILED, error=why, exit_code=1, failure=failure)

    @property
    def _shows(self) -> Callable[[str], bool]:
        return self._around.commands.output_tail.shows

    def _summary(self) -> str:
        """Return what a new session is told of the one before it."""
        changed = self._around.workspace.changed_paths() or []
        return f"Another session has begun this. It has changed: {shown(changed, 50) or 'nothing'}."

    # What is remembered

    def _remember(self, **changes: object) -> None:
        known = self._remembered.model_copy(update=changes)
        grant = self._around.grant
        self._remembered = known.model_copy(update={"run": grant.run_id, "agent": self._agent.name})
        self._memory.write(self._remembered)

    def _log(self, text: str) -> None:
        self._around.log.line(text)
