"""A repository with a change set, in which tests carry out attempts of landing todos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordination.errors import NotTrusted, TrustCause
from coordination.models import LandCheck, Repo, Via
from coordination.runs.change_sets.records import ChangeSet, Landed, RepoChange, RequestRef, Reverted
from tests.testbed import git
from workers.landing.approvals import SeenApprovals
from workers.landing.todo import LandTodo
from workers.outcome import AttemptOutcome

if TYPE_CHECKING:
    from coordination.changes.requests.access import ForgeAccess

START = datetime(2026, 1, 1, tzinfo=UTC)


def _no_check(check: LandCheck, commit: str) -> AttemptOutcome:
    raise AssertionError(f"{check.todo} at {commit}")


class SeparateTodo(LandTodo):
    """A todo of a landing run without an engine: no run knows it, and nothing is signed."""

    def __init__(self, repo: Repo, checkout: Path, change: Callable[[], RepoChange], state: Path) -> None:
        self.run_id = "R2"
        self.repo = repo
        self.checkout = checkout
        self.checkpoint = ""
        self.stopped = lambda: None
        self.log = lambda _: None
        self.check_again = _no_check
        self.approvals = SeenApprovals(state)
        self.deletes_branches = True
        self.scripts = state / "scripts"
        self._read_change = change

    def cancelled(self) -> bool:
        return False

    def sibling_todos(self) -> int:
        return 1

    def access(self) -> AbstractContextManager[dict[str, str]]:
        return nullcontext({})

    def forges(self, prefix: str) -> ForgeAccess:
        raise AssertionError("no forge is asked")

    def change_set(self) -> ChangeSet:
        change = self._read_change()
        return ChangeSet(id="P", repos={change.repo: change})

    def verify(self, tip: str, signed: str) -> str | None:
        return None

    def seal_landing(self, tip: str, landed: Landed) -> Landed:
        return landed

    def verify_landed(self, landed: Landed) -> None:
        pass

    def note_landed(self, landed: Landed) -> None:
        pass

    def note_reverted(self, tip: str, base: str, sign: bool, reverted: Reverted) -> None:
        pass

    def note_request(self, ref: RequestRef, kind: str) -> None:
        pass

    def record(self, json: str) -> None:
        pass

    def results(self) -> Sequence[Any]:
        return ()

    def keep(self, commit: str) -> None:
        pass


PLACED = (
    *("verify", "seal_landing", "verify_landed", "note_landed", "note_reverted"),
    *("note_request", "record", "forges"),
)


class PlacedTodo(SeparateTodo):
    """A todo whose records are those of a place."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.repo, place.checkout, lambda: place.change, place.folder / "state")
        self.checkpoint = place.checkpoint
        self.log = place.log.append
        self.now = lambda: place.now
        self.sibling_todos = lambda: place.sibling_todos
        for name in PLACED:
            setattr(self, name, getattr(place, name))


class Killed(BaseException):
    """The worker died."""


@dataclass
class Place:
    """A repository with a change set, its remote, and what Redis knows of them."""

    folder: Path
    via: Via
    landed: Landed | None = None
    reverted: Reverted | None = None
    request: RequestRef | None = None
    tip: str = ""
    base: str = ""
    checkpoint: str = ""
    die_at: str = ""
    """The next call of this name kills the worker, after it was carried out."""
    now: datetime = START
    log: list[str] = field(default_factory=list)
    distrusted: str = ""
    """A tip that no trusted worker has signed."""
    signs: bool = True
    """The tip of the change set that was opened again may be signed."""
    signed_base: str | None = None
    """The signed base of the change set; None: signatures are not required."""
    sibling_todos: int = 1

    @property
    def checkout(self) -> Path:
        return self.folder / "r"

    @property
    def target(self) -> Path:
        return self.folder / "r.git" if self.via is Via.PUSH else self.checkout

    def dies(self, point: str) -> None:
        if self.die_at == point:
            self.die_at = ""
            raise Killed(point)

    def record(self, json: str) -> None:
        self.checkpoint = json
        self.dies("record")

    def note_landed(self, landed: Landed) -> None:
        self.landed = landed
        self.dies("note_landed")

    def note_reverted(self, tip: str, base: str, sign: bool, reverted: Reverted) -> None:
        self.landed, self.tip, self.base, self.signs = None, tip, base, sign
        self.reverted = reverted
        self.dies("note_reverted")

    def verify(self, tip: str, signed: str) -> str | None:
        if tip == self.distrusted:
            raise NotTrusted(TrustCause.FOREIGN, f"nobody has signed {tip}")
        return self.signed_base

    def seal_landing(self, tip: str, landed: Landed) -> Landed:
        signed = " ".join((tip, landed.commit, landed.tree_before))
        return landed.model_copy(update={"signed": signed})

    def verify_landed(self, landed: Landed) -> None:
        if landed.signed.split()[1:] != [landed.commit, landed.tree_before]:
            raise NotTrusted(TrustCause.FOREIGN, f"nobody has signed the landing {landed.commit}")

    def note_request(self, request: RequestRef, kind: str) -> None:
        self.request = request

    @property
    def repo(self) -> Repo:
        return Repo(name="r", url=str(self.folder / "r.git") if self.via is Via.PUSH else None)

    @property
    def change(self) -> RepoChange:
        return RepoChange(
            repo="r", branch="coord/P", base=self.base, tip=self.tip, run="R1", landed=self.landed,
            request=self.request,
        )  # fmt: skip

    def forges(self, prefix: str) -> ForgeAccess:
        raise AssertionError("no forge is asked")

    @property
    def todo(self) -> LandTodo:
        return PlacedTodo(self)

    def commits(self) -> list[str]:
        return git(self.target, "log", "--format=%s", "--first-parent", "main").splitlines()

    @property
    def has_work(self) -> bool:
        return "work" in git(self.target, "ls-tree", "--name-only", "main").split()

    def begin_at_a_new_commit(self) -> None:
        """Make the change set anew, at a commit that only this clone has; its commit names it, as a worker's
        does.
        """
        git(self.checkout, "commit", "-q", "--allow-empty", "-m", "private")
        self.base = git(self.checkout, "rev-parse", "main")
        message = f"work\n\nCoord-Base: {self.base}\n"
        work = git(self.checkout, "rev-parse", f"{self.tip}^{{tree}}")
        self.tip = git(self.checkout, "commit-tree", work, "-p", self.base, "-m", message)

    def create(self) -> None:
        """Make the checkout with its change set, and the remote."""
        git(self.folder, "init", "-q", "-b", "main", "r")
        (self.checkout / "README").write_text("r\n")
        git(self.checkout, "add", "--all")
        git(self.checkout, "commit", "-qm", "first")
        git(self.folder, "clone", "-q", "--bare", "r", "r.git")
        self.base = git(self.checkout, "rev-parse", "main")
        git(self.checkout, "checkout", "-qb", "coord/P")
        (self.checkout / "work").write_text("done\n")
        git(self.checkout, "add", "--all")
        git(self.checkout, "commit", "-qm", "work")
        self.tip = git(self.checkout, "rev-parse", "HEAD")
        git(self.checkout, "checkout", "-q", "main")
