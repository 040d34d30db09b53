"""A todo is done: its action is carried out, and what it leaves changed is committed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordination.runs.records import Grant
from workers.conclusion import Conclusion, Word
from workers.context import read_output
from workers.reuse import Recall
from workers.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Doing:
    grant: Grant
    output_limit_bytes: int
    recall: Recall | None = None
    """Where its `cache` can be used."""

    @property
    def key(self) -> str:
        return f"{self.grant.run_id}/{self.grant.todo_id}"

    def has_command(self) -> bool:
        return True

    def recalled(self, workspace: Workspace, since: str) -> Conclusion | None:
        return self.recall.look(workspace, since) if self.recall else None

    def undone(self, folder: Path) -> None:
        return None

    def explained(self, why: str) -> str:
        return why

    def keep(self, workspace: Workspace, output: Path, since: str) -> Conclusion:
        written = read_output(output, self.output_limit_bytes)
        tip = workspace.commit(self.grant.todo_id, self.grant.spec.todo.task)
        # Whoever stops it from here on comes too late: it is done, and the fence decides whether that counts.
        done = Conclusion(word=Word.SUCCEEDED, exit_code=0, output=written, tip=tip, since=since)
        if self.recall:
            self.recall.note(done, workspace)
        return done

    def counts(self) -> None:
        if self.recall:
            self.recall.keep()

    def close(self) -> None:
        if self.recall:
            self.recall.close()

    def finish(self) -> None:
        """Nothing: the next todo of the repository goes on in the workspace."""
