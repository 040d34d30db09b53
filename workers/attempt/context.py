"""Make COORD_CONTEXT of a todo from its predecessors' results, and read COORD_OUTPUT for its dependents.

The brief that all todos of a run share is read and parsed once in this process, however many of its threads
begin at the same time: of a run of 50,000 todos it is megabytes, and a thread for each of 500 repositories
would parse it for itself.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coordination.cache.names import Chain
from coordination.errors import Conflict, CoordinationError
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.brief import RunBrief
from coordination.runs.replies import Grant, PredecessorOutput, TodoInputs
from coordination.runs.shared import chain_of_todo
from coordination.runs.store import RunStore
from coordination.trust.results import ResultRecord
from workers.transfer.commits import PredecessorPaths
from workers.trust.signed_results import SignedResults
from workers.workspace.repository import branch_of

KEPT = 16
"""Runs whose brief is kept: the ones used last."""


@dataclass(frozen=True)
class Known:
    brief: RunBrief

    @cached_property
    def rank(self) -> Mapping[str, int]:
        """Return the position of each todo in the order of the run, which is topological."""
        return {todo: rank for rank, todo in enumerate(self.brief.predecessors)}

    def ancestors(self, todo: str) -> list[str]:
        """Return every transitive predecessor, in the order of the run.

        Other todos of the run cost nothing.
        """
        return sorted(self.brief.ancestors(todo), key=self.rank.__getitem__)


class Briefs:
    def __init__(self, read: Callable[[str], RunBrief]) -> None:
        self._read = read
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, run_id: str) -> Known:
        """Return the brief of a run. Raises the errors of reading it; the next call then reads again."""
        with self._guard:
            if run_id not in self._known:
                self._known[run_id] = Known(self._read(run_id))
            self._known.move_to_end(run_id)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return self._known[run_id]


DEEPEST = 100
"""Levels of nesting in an output. pydantic prints at most 255, and a run is shown with its todos' outputs."""


class OutputRefused(CoordinationError):
    """The todo's COORD_OUTPUT cannot be passed to its dependents."""


class LeaseLost(Conflict):
    """The claim is no longer in Redis, so the outputs of predecessors there may be incomplete."""


class Context:
    """Reads a run's brief once, and for each todo its predecessors' outputs and shared context in one round
    trip.
    """

    def __init__(
        self,
        store: RunStore,
        predecessor_paths: PredecessorPaths,
        limit_bytes: int,
        signed_results: SignedResults,
        brief: Callable[[str], RunBrief],
    ) -> None:
        """`limit_bytes`: the most of the shared context that a todo gets at its start. `brief` reads the
        brief of a run, verified where signatures are required.
        """
        self._store = store
        self._signed_results = signed_results
        self._limit_bytes = limit_bytes
        self._predecessor_paths = predecessor_paths
        self._briefs = Briefs(brief)

    def brief(self, run_id: str) -> RunBrief:
        return self._briefs.of(run_id).brief

    def results(self, grant: Grant) -> list[PredecessorOutput]:
        """Return the verified results of all todos before this one, without their files."""
        return self._handed_over(grant, self._names(grant)).todos

    def _names(self, grant: Grant) -> list[str]:
        known = self._briefs.of(grant.run_id)
        return [n for n in known.ancestors(grant.todo_id) if known.brief.repo_of[n] != MILESTONE_REPO]

    def of(self, grant: Grant) -> dict[str, Any]:
        brief, names = self.brief(grant.run_id), self._names(grant)
        over = self._handed_over(grant, names)
        handed = over.todos
        newest = _newest(handed, brief.repo_of)
        places = {
            repo: self._predecessor_paths.of(grant, brief, repo, newest.get(repo))
            for repo in dict.fromkeys(brief.repo_of[name] for name in names)
        }
        predecessors = [_fields(one, repo := brief.repo_of[one.todo]) | places[repo].fields for one in handed]
        identity = {"run_id": grant.run_id, "todo_id": grant.todo_id, "predecessors": predecessors}
        commits = {repo: one.commit for repo, one in newest.items()}
        return {**identity, "commits": commits, "context": over.context, "context_omitted": over.omitted}

    def _handed_over(self, grant: Grant, predecessors: list[str]) -> TodoInputs:
        chain = chain_of_todo(self.brief(grant.run_id), grant.todo_id) if grant.shared else ()
        known = self._signed_results.known(grant.run_id, predecessors)
        over = self._read(grant, predecessors, chain, known or {})
        if known is not None:
            self._signed_results.check_inputs(grant, self.brief(grant.run_id), over, known)
        return over

    def _read(
        self,
        grant: Grant,
        predecessors: list[str],
        chain: Chain,
        known: Mapping[str, ResultRecord | None],
    ) -> TodoInputs:
        """Read the inputs of a todo, and the signed results of predecessors that are not known yet."""
        if not predecessors and not chain:
            return TodoInputs(todos=[], context={}, omitted=0)
        over = self._store.handed_over(
            grant.run_id,
            predecessors,
            chain,
            self._limit_bytes,
            to=grant.todo_id,
            signed=[todo for todo, record in known.items() if record is None],
        )
        if over.claimed_by != grant.fence:
            raise LeaseLost(
                f"Redis does not know the claim of {grant.todo_id} (fence {grant.fence}): "
                "its data is older, or newer",
                "nothing to do: the todo is dispatched again when its predecessors have succeeded",
            )
        return over


def _fields(handed: PredecessorOutput, repo: str) -> dict[str, Any]:
    branch = branch_of(handed.run) if handed.commit else None
    return {
        "todo": handed.todo,
        "repo": repo,
        "output": handed.output,
        "branch": branch,
        "commit": handed.commit,
    }


def _newest(handed: Iterable[PredecessorOutput], repo_of: Mapping[str, str]) -> dict[str, PredecessorOutput]:
    """Return the output that was settled last of each repository: it contains the others, wherever the plan
    has it.
    """
    settled = sorted((one for one in handed if one.commit), key=lambda one: one.fence)
    return {repo_of[one.todo]: one for one in settled}


def read_output(path: Path, limit_bytes: int, masked: Callable[[Any], Any]) -> str:
    """Return the JSON that the todo wrote, compact and `masked`; empty if it wrote none.

    Raises OutputRefused.
    """
    try:
        written = _bytes_of(path, limit_bytes + 1)
        if not written:
            return ""
        if len(written) > limit_bytes:
            raise OutputRefused(
                f"COORD_OUTPUT has {path.lstat().st_size} bytes, more than {limit_bytes}",
                "write a path or a summary instead, or raise output_limit_bytes",
            )
        value = json.loads(written)
        if _deeper_than(DEEPEST, value):
            raise OutputRefused(f"COORD_OUTPUT is nested deeper than {DEEPEST}", "hand on a flatter value")
        return json.dumps(masked(value), separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise OutputRefused(
            f"COORD_OUTPUT is not JSON: {error}", "write one JSON value to the file it names"
        ) from error
    except OSError as error:
        raise OutputRefused(
            f"COORD_OUTPUT cannot be read: {error.strerror}", "write one JSON value to the file it names"
        ) from error


def _bytes_of(path: Path, most: int) -> bytes:
    """Return the beginning of a regular file; nothing of other kinds.

    A link is refused by the system: a todo in a sandbox could name a file by it that only the worker can
    read. A pipe would block.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OutputRefused("COORD_OUTPUT is a link", "write JSON into the file that it names") from error
        raise
    with os.fdopen(file, "rb") as output:
        return output.read(most) if stat.S_ISREG(os.fstat(file).st_mode) else b""


def _deeper_than(limit: int, value: Any) -> bool:
    layer = [value]
    for _ in range(limit + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(layer)
